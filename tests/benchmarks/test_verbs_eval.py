"""The verbs' benchmark must earn trust too: its readers, its batches, its arithmetic, its rows."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from patchdit.benchmarks import verbs_chain, verbs_extend, verbs_joins, verbs_remix, verbs_story
from patchdit.benchmarks.verbs_eval import ROWS, load_model, main
from patchdit.benchmarks.verbs_rows import foreign, mean, share, table
from patchdit.benchmarks.verbs_together import Together
from patchdit.benchmarks.verbs_world import Bench, defaults, describe, film, moved, track_errors
from patchdit.models import blockworld
from patchdit.models.config import VAE_PRESETS, TextConfig, TransformerConfig
from patchdit.models.flow import denoise, finish, shifted_sigmas, start
from patchdit.models.guidance import ModelDenoiser
from patchdit.models.text import TextEncoder
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes.extend import ExtendVideo
from patchdit.training.blockworld import HELD_OUT


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A model of random weights with the shipped vocabulary, tiny but whole."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    config = TransformerConfig(
        24, 24, 2, 1, text_width=16, text_length=80, frame_timesteps=True, known_attends_known=True
    )
    transformer = PatchDiT(config)
    transformer.init_weights()
    torch.nn.init.normal_(transformer.head.head.weight, std=0.1)  # else it predicts nothing
    vae = VideoVAE(replace(VAE_PRESETS["blockworld-mini"], encoder_width=8, decoder_width=8))
    text = TextEncoder(TextConfig(blockworld.load_tokenizer().size, width=16, heads=2, layers=1))
    for part, module in (("transformer", transformer), ("vae", vae), ("text", text)):
        blockworld.save(part, module, folder, {})
    shutil.copy(blockworld.FOLDER / blockworld.NAMES["tokenizer"], folder)
    return folder, load_model(folder)


@pytest.fixture
def bench(parts):
    return Bench(parts[1], clips=2, steps=1, batch=2, bf16=False)


# ----- batches -----


def run_one(network, contexts, number: int, known: int) -> torch.Tensor:
    """A clip of four latents, of which so many are known."""
    latent = torch.randn(1, 16, 4, 4, 4, generator=torch.Generator().manual_seed(number))
    mask = torch.ones(1, 1, 4, 4, 4)
    mask[:, :, :known] = 0
    denoiser = ModelDenoiser(network, *contexts[number], cfg=3.0, batching="sequential")
    state = start(latent, mask, shifted_sigmas(3), number)
    with torch.no_grad():
        return finish(denoise(state, denoiser))


@torch.no_grad()
def test_runs_together_are_the_runs_alone(parts):
    model = parts[1]
    texts = ["a red ball", "a blue cube grows", "a star", "snow"]
    contexts = [model.encode_text([text, ""]).split(1) for text in texts]
    together = Together(model.transformer, bf16=False)
    asked = [(0, 1), (1, 1), (2, 0), (3, 2)]  # two of one kind, and two that fit none
    calls = []
    hook = model.transformer.register_forward_hook(lambda *_: calls.append(1))
    works = [partial(run_one, together, contexts, *one) for one in asked]
    found = together.run(works)
    hook.remove()
    assert len(calls) == 3 * 2 * 3  # kinds, prompts, steps
    for one, result in zip(asked, found, strict=True):
        alone = run_one(model.transformer, contexts, *one)
        torch.testing.assert_close(result, alone, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=0.1)


def test_a_failure_of_one_run_ends_all_and_is_told(parts):
    model = parts[1]
    contexts = [model.encode_text(["a ball", ""]).detach().split(1)] * 2
    together = Together(model.transformer, bf16=False)

    def fail():
        raise ValueError("no such clip")

    works = [partial(run_one, together, contexts, 0, 1), fail]
    with pytest.raises(ValueError, match="no such clip"):
        together.run(works)
    assert together.run(works[:1])[0].shape == (1, 16, 4, 4, 4)  # it can be used again


def test_a_node_called_in_a_batch_makes_what_it_makes_alone(bench):
    clips = [film(scene).frames_FHWC[:5] for scene in bench.scenes(9, 9)]

    def work(number: int):
        given = bench.sampling("a red ball", number) | {"video": clips[number], "seconds": 0.5}
        return ExtendVideo.execute(**bench.inputs(ExtendVideo, **given)).args[0][0]["samples"]

    both = bench.each("test", [partial(work, number) for number in range(2)])
    for number, samples in enumerate(both):
        torch.testing.assert_close(samples, work(number), atol=2e-4, rtol=1e-3)


# ----- clips and readers -----


def test_clips_are_held_out_and_every_group_has_its_own(bench):
    many = replace(bench, clips=6)
    scenes = many.scenes(1, 17)
    assert {triple for scene in scenes for triple in scene.triples()} <= HELD_OUT
    assert scenes == many.scenes(1, 17)
    assert not {s.seed for s in scenes} & {s.seed for s in many.scenes(2, 17)}
    staying = verbs_chain.staying_scenes(many)
    assert {triple for scene in staying for triple in scene.triples()} <= HELD_OUT
    assert all(s.camera.kind == "still" and s.frames == verbs_chain.FRAMES for s in staying)


def test_a_scene_is_said_in_words(bench):
    scene = bench.scenes(1, 17)[0]
    subject = scene.subjects[0]
    text = describe(moved(scene, "city"))
    assert f"{subject.colour} {subject.kind} " in text and "in a city" in text
    assert text == describe(scene, "city") != describe(scene, "night")


@pytest.mark.parametrize("forwards", [True, False])
def test_truth_is_read_as_a_perfect_extension(bench, forwards):
    scene = bench.scenes(2, 33 + (not forwards))[1]
    clip = film(scene)
    frames = verbs_extend.shown(clip.frames_FHWC, forwards)
    found = verbs_extend.look(frames, clip, forwards)
    assert found.kept and found.exact
    assert found.near < 2 and found.far < 2 and found.psnr == 120

    spoiled = frames.clone()
    new = slice(17, None) if forwards else slice(0, 16)
    spoiled[new] = spoiled[new].roll(6, 2).flip(-1)  # six pixels aside, other colours
    found = verbs_extend.look(spoiled, clip, forwards)
    assert not found.smooth and not found.kept and found.exact and found.psnr < 30

    spoiled = frames.clone()
    spoiled[0 if forwards else -1] += 1 / 512
    assert not verbs_extend.look(spoiled, clip, forwards).exact


def test_a_subject_elsewhere_is_seen_to_be_elsewhere(bench):
    clip = film(bench.scenes(2, 9)[0])
    shifted = clip._replace(track_F2=clip.track_F2 + np.array([3.0, 4.0]))
    assert track_errors(clip.frames_FHWC, clip).mean() < 2
    assert track_errors(clip.frames_FHWC, shifted).mean() == pytest.approx(5, abs=2)


def test_truth_is_read_as_a_perfect_bridge_remix_and_film(bench):
    clip = film(bench.scenes(6, 46)[0])
    pair = clip.frames_FHWC[:17], clip.frames_FHWC[-17:]
    found = verbs_joins.look(clip.frames_FHWC, *pair)
    assert found.both and found.exact
    jump = clip.frames_FHWC.clone()
    jump[17:29] = 1 - jump[17:29]
    assert verbs_joins.look(jump, *pair) == (False, False, True)

    clip = film(bench.scenes(7, 17)[0])
    place = verbs_story.others(clip.scene.environment)[0]
    elsewhere = film(moved(clip.scene, place)).frames_FHWC
    assert verbs_remix.look(elsewhere, clip, place) == (True, True)
    assert not verbs_remix.look(clip.frames_FHWC, clip, place).there

    both = torch.cat((clip.frames_FHWC, elsewhere))
    assert verbs_story.look(both, clip.scene) == (True, True)
    both[17:] = both[17:].flip(-1)
    assert not verbs_story.look(both, clip.scene).same


def test_drift_is_of_the_last_window_and_as_large_as_it_is():
    frames = torch.full((verbs_chain.FRAMES, 4, 4, 3), 0.5)
    frames[-verbs_chain.NEW :] += 0.1
    drift = verbs_chain.last_drift(frames)
    assert drift.brightness == pytest.approx(0.1, abs=1e-6)
    assert drift.chroma == pytest.approx(0, abs=1e-6)


# ----- rows -----


def test_a_share_has_its_interval_target_and_controls():
    row = share("x", [True] * 8 + [False] * 2, 0.9, truth=[True, True], vae=[])
    assert (row.value, row.n, row.met) == (0.8, 10, False)
    assert (row.low, row.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson's, by hand
    assert row.controls == {"truth": 1.0}
    record = row.record()
    assert record["name"] == "x" and record["target"] == 0.9 and record["met"] is False
    assert record["n"] == 10 and record["low"] < record["value"] < record["high"]


def test_a_mean_is_met_from_below_or_above():
    row = mean("x", [1.0, 2.0, 3.0], 2.0)
    assert row.met and row.value == 2
    assert row.high - row.low == pytest.approx(2 * 1.96 / 3**0.5)
    assert not mean("x", [1.0, 2.0, 3.1], 2.0).met
    assert mean("x", [1.0, 2.0, 3.1], 2.0, at_most=False).met
    assert share("x", [True]).met is None


def test_rows_of_other_benchmarks_and_the_table():
    given = {"name": "a/time", "value": 0.4, "target": 0.5, "met": True}
    row = foreign(given, 5, at_most=True)
    assert row.met and row.record() | {"n": 5} == given | {"low": 0.4, "high": 0.4, "n": 5}
    text = table([row, share("b", [True, False], truth=[True])])
    assert "| a/time | 0.400 | 0.400 to 0.400 | <= 0.5 | yes | 5 | - | - |" in text
    assert "| b | 0.500 |" in text and "| - | - | 2 | 1.000 | - |" in text


def test_widgets_give_their_defaults():
    assert defaults(ExtendVideo)["direction"] == "forwards"
    assert "model" not in defaults(ExtendVideo)


def test_the_whole_eval_writes_what_it_measured(parts, tmp_path, monkeypatch):
    file = tmp_path / "verbs.json"
    monkeypatch.setattr(verbs_chain, "WINDOWS", 2)
    monkeypatch.setattr(verbs_chain, "FRAMES", 17 + 2 * 16)
    groups = [name for name in ROWS if name not in ("resume", "sparse")]
    arguments = ["--clips", "1", "--steps", "1", "--weights", str(parts[0]), "--json", str(file)]
    monkeypatch.setattr("sys.argv", ["verbs_eval.py", *arguments, "--rows", *groups])
    main()
    result = json.loads(file.read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert len(rows) == len(result["rows"])
    assert {name.split()[0].split("/")[0] for name in rows} == {
        *("pin", "extend", "ten", "loop", "stitch", "remix", "storyboard")
    }
    for row in rows.values():
        assert {"name", "value", "target", "met", "n", "low", "high"} <= set(row)
        assert row["low"] <= row["value"] <= row["high"]
    exact = [row for name, row in rows.items() if name.endswith("bit-exact")]
    assert len(exact) == 4 and all(row["met"] for row in exact)
    assert result["recipe"]["steps"] == 1
