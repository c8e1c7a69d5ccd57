"""EditDenoising, SaveDenoiseState and LoadDenoiseState without ComfyUI."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from patchdit.models.blockworld import Blockworld
from patchdit.models.saved_run import SavedRun, save_run
from patchdit.models.transformer import PatchDiT
from patchdit.nodes import host
from patchdit.nodes.between_steps import EditDenoising, LoadDenoiseState, SaveDenoiseState
from patchdit.nodes.denoise import DenoiseStep
from patchdit.nodes.sampling import advance, begin, finish_run, seed_list
from patchdit.standalone.host import Session, use_session

from .conftest import TRANSFORMER
from .test_denoise import EMPTY, known_start, sigmas_of


def begun(model, prompts, latent=EMPTY, solver="euler", steps=4):
    return begin(model, *prompts, 4.0, latent, sigmas_of(EMPTY, steps), 1, solver)


def edited(run, **changes):
    return EditDenoising.execute(run, **changes).args[0]


def samples(run):
    return finish_run(run)["samples"]


@pytest.fixture
def other_prompts(parts):
    clip = host.make_clip(parts.text, parts.tokenizer)
    return [clip.encode_from_tokens_scheduled(clip.tokenize(t)) for t in ("a blue cube", "dark")]


@pytest.fixture
def folder(tmp_path):
    places = {"output_directory": tmp_path / "out", "input_directory": tmp_path / "in"}
    with use_session(Session(**places)):
        yield tmp_path


def test_an_edit_of_nothing_changes_nothing(model, prompts):
    run = advance(begun(model, prompts), 2)
    assert torch.equal(samples(edited(run)), samples(run))


def test_an_edit_forgets_the_solvers_history(model, prompts):
    run = advance(begun(model, prompts, solver="unipc"), 2)
    assert run.state.history and not edited(run).state.history
    assert (samples(edited(run)) - samples(run)).abs().max() > 1e-6


def test_prompts_and_cfg_count_from_here_on(model, prompts, other_prompts):
    run = advance(begun(model, prompts), 2)
    changed = edited(run, positive=other_prompts[0], negative=other_prompts[1], cfg=2.0)
    by_hand = replace(run, positive=other_prompts[0], negative=other_prompts[1], cfg=2.0)
    assert torch.equal(samples(changed), samples(by_hand))
    assert not torch.equal(samples(changed), samples(run))
    assert run.positive is prompts[0] and run.cfg == 4.0
    assert edited(run, positive=other_prompts[0]).negative is prompts[1]
    assert edited(run, cfg=0.0).cfg == 4.0


def test_before_the_first_step_a_latent_is_as_if_begun_with_it(model, prompts):
    latent = known_start(torch.randn(1, 16, 3, 4, 4), 1)
    expected = begun(model, prompts, latent)
    run = edited(begun(model, prompts), latent=latent)
    assert torch.allclose(run.state.x, expected.state.x, atol=1e-5)
    assert torch.equal(run.state.mask, expected.state.mask)
    assert torch.allclose(samples(run), samples(expected), atol=1e-4)


def test_a_changed_latent_lies_under_the_noise_that_the_run_has(model, prompts):
    """x = (1 - sigma) x0 + sigma noise stays true, with the same noise, for the new x0."""
    run, predicted, _ = DenoiseStep.execute(begun(model, prompts), 2).args
    sigma = run.state.sigmas[2]
    noise = (run.state.x - (1 - sigma) * run.state.x0) / sigma
    wanted = {**predicted, "samples": predicted["samples"].clone()}
    wanted["samples"][:, :, 1] += 3
    new = edited(run, latent=wanted)
    clean = host.prepare_latent(model, wanted)
    assert torch.allclose(new.state.x, (1 - sigma) * clean + sigma * noise, atol=1e-4)
    assert (new.state.x - run.state.x)[:, :, 1].abs().min() > 0.01
    assert (new.state.x - run.state.x)[:, :, [0, 2]].abs().max() < 1e-5


def test_a_wish_given_twice_is_one_wish(model, prompts):
    run, predicted, _ = DenoiseStep.execute(begun(model, prompts), 2).args
    wanted = {**predicted, "samples": predicted["samples"] + 1}
    once = edited(run, latent=wanted)
    assert torch.allclose(edited(once, latent=wanted).state.x, once.state.x, atol=1e-4)
    assert torch.allclose(once.state.x0, host.prepare_latent(model, wanted), atol=1e-4)


def test_what_a_mask_keeps_from_here_on_is_the_latent_exactly(model, prompts):
    run = advance(begun(model, prompts), 2)
    clip = torch.randn(1, 16, 3, 4, 4)
    mask = torch.zeros(9, 32, 32)
    mask[5:] = 1  # pixel frames of the last latent frame
    result = samples(edited(run, latent={"samples": clip}, mask=mask))
    assert (result - clip)[:, :, :2].abs().max() < 1e-5
    assert (result - clip)[:, :, 2].abs().max() > 0.1
    by_latent = edited(run, latent=known_start(clip, 2))
    assert torch.equal(samples(by_latent), result)


def test_what_a_mask_frees_is_generated(model, prompts):
    clip = torch.randn(1, 16, 3, 4, 4)
    run = advance(begun(model, prompts, known_start(clip, 2)), 1)
    freed = edited(run, mask=torch.ones(1, 32, 32))
    sigma = run.state.sigmas[1]
    mixed = (1 - sigma) * run.state.latent + sigma * run.state.noise
    assert torch.allclose(freed.state.x[:, :, :2], mixed[:, :, :2], atol=1e-6)
    assert torch.equal(freed.state.x[:, :, 2], run.state.x[:, :, 2])
    assert (samples(freed) - clip)[:, :, 0].abs().max() > 0.01


def test_of_another_schedule_the_lower_levels_are_taken(model, prompts):
    run = advance(begun(model, prompts), 2)
    assert torch.equal(samples(edited(run, sigmas=run.state.sigmas)), samples(run))
    new = edited(run, sigmas=torch.tensor([1.0, 0.5, 0.25, 0.1, 0.05, 0.0])).state
    level = run.state.sigmas[2]
    lower = [s for s in (0.5, 0.25, 0.1, 0.05, 0.0) if s < level]
    assert new.sigmas.tolist() == pytest.approx([*run.state.sigmas[:3].tolist(), *lower])
    assert new.step == 2 and new.steps_left == len(lower)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sigmas": torch.tensor([0.0, 1.0])}, r"fall to 0; got \[0.0, 1.0\]"),
        ({"sigmas": torch.tensor([])}, r"fall to 0; got \[\]"),
        ({"sigmas": torch.tensor([1.0, float("nan"), 0.0])}, "fall to 0"),
        ({"latent": {"samples": torch.zeros(1, 16, 2, 4, 4)}}, "same size"),
        ({"latent": {"samples": torch.zeros(1, 4, 3, 4, 4)}}, "4 channels"),
        ({"latent": {"samples": torch.full((1, 16, 3, 4, 4), torch.nan)}}, "not numbers"),
        ({"mask": torch.ones(6, 32, 32)}, "got 6, nearest 5 or 9"),
        ({"mask": torch.ones(5, 32, 32)}, "mask has 5 frames"),
        ({"mask": torch.ones(1, 10, 100)}, "mask is 100x10 and the frames are 4x4 latent cells"),
    ],
)
def test_a_bad_edit_is_one_sentence_and_loses_nothing(model, prompts, change, said):
    run = advance(begun(model, prompts), 2)
    expected = samples(run)
    with pytest.raises(ValueError, match=said):
        edited(run, **change)
    assert torch.equal(samples(run), expected)


def test_nothing_given_to_an_edit_is_changed(model, prompts):
    run = advance(begun(model, prompts, known_start(torch.randn(1, 16, 3, 4, 4), 1)), 2)
    latent = known_start(torch.randn(1, 16, 3, 4, 4), 2)
    given = {"latent": latent["samples"], "mask": latent["noise_mask"], "x": run.state.x}
    before = {name: tensor.clone() for name, tensor in given.items()}
    samples(edited(run, latent=latent, sigmas=torch.tensor([0.5, 0.0])))
    assert all(torch.equal(given[name], tensor) for name, tensor in before.items())


def save(run, prefix="denoising/state"):
    return SaveDenoiseState.execute(run, prefix).args[0]


def load(file, model, **given):
    return LoadDenoiseState.execute(file, model, **given).args[0]


@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_a_saved_run_ends_as_if_it_had_never_stopped(model, prompts, folder, solver):
    run = advance(begun(model, prompts, solver=solver), 2)
    path = save(run)
    assert Path(path) == folder / "out" / "denoising" / "state_00001_.safetensors"
    assert Path(save(run)).name == "state_00002_.safetensors"
    for file in (path, "denoising/state_00001_.safetensors"):
        again = load(file, model)
        assert torch.equal(samples(again), samples(run))
        assert again.cfg == 4.0 and again.rest == {"video_fps": 12.0}


def test_other_prompts_and_cfg_on_loading(model, prompts, other_prompts, folder):
    run = advance(begun(model, prompts), 2)
    again = load(save(run), model, positive=other_prompts[0], cfg=2.0)
    assert torch.equal(samples(again), samples(edited(run, positive=other_prompts[0], cfg=2.0)))


def test_the_file_may_lie_in_the_input_folder(model, prompts, folder):
    path = Path(save(begun(model, prompts)))
    (folder / "in").mkdir()
    path.rename(folder / "in" / "shared.safetensors")
    assert samples(load("shared.safetensors", model)).shape == (1, 16, 3, 4, 4)


def test_another_models_state_is_refused_unless_told(parts, model, prompts, folder):
    path = save(begun(model, prompts))
    network = PatchDiT(TRANSFORMER).eval()
    stranger = Blockworld(network, parts.vae, parts.text, parts.tokenizer)
    other = host.make_model(stranger.transformer, stranger.vae)
    with pytest.raises(ValueError, match=r"saved with other models, .* set any_model\.$"):
        load(path, other)
    expected = samples(begun(other, prompts))
    assert torch.equal(samples(load(path, other, any_model=True)), expected)


def test_prompts_that_no_file_can_hold_have_to_be_connected(model, prompts, folder, caplog):
    strange = [[prompts[0][0][0], {"control": object()}]]
    run = advance(begun(model, (strange, prompts[1])), 2)
    with caplog.at_level(logging.WARNING):
        path = save(run)
    assert "without what no file can hold (positive)" in caplog.text
    with pytest.raises(ValueError, match=r"saved without its prompts; connect positive\.$"):
        load(path, model)
    assert torch.equal(samples(load(path, model, positive=strange)), samples(run))


def test_what_a_latent_carries_may_be_lost_in_a_file(model, prompts, folder):
    """The file then says no frame rate; nor does one of an earlier version."""
    run = begun(model, prompts)
    run.rest["odd"] = object()
    assert torch.equal(samples(load(save(run), model)), samples(run))


def test_a_missing_or_foreign_file_is_one_sentence(model, prompts, folder):
    path = Path(save(begun(model, prompts)))
    secret = folder / "secret.safetensors"
    path.rename(secret)
    nowhere = ("a\0b.safetensors", "\0", "a" * 5000, "\ud800.safetensors")  # can be no file's name
    foreign = ("none.safetensors", "../secret.safetensors", str(secret), "", "denoising")
    for file in (*foreign, *nowhere):
        assert LoadDenoiseState.fingerprint_inputs(file) == ""
        with pytest.raises(ValueError, match=r"There is no file .* Save Denoise State wrote there"):
            load(file, model)


def test_an_edited_state_is_one_sentence(model, prompts, folder):
    path = Path(save(begun(model, prompts)))
    content = path.read_bytes()
    for old, new in ((b'step\\": 0', b'step\\": 9'), (b'version\\"', b'versiom\\"')):
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))
        with pytest.raises(ValueError, match="is damaged: its values are not those saved"):
            load(str(path), model)


def test_a_state_without_cfg_needs_one(model, prompts, folder):
    run = begun(model, prompts)
    guide = {"positive": run.positive, "negative": run.negative}
    (folder / "out").mkdir()
    save_run(folder / "out" / "a.safetensors", SavedRun(run.state, guide, host.fingerprint(model)))
    with pytest.raises(ValueError, match=r"^a.safetensors was saved without its cfg; set cfg\.$"):
        load("a.safetensors", model)
    assert load("a.safetensors", model, cfg=3.0).cfg == 3.0


def test_every_seed_of_the_seed_widget_may_be_listed(model, prompts):
    last = 2**64 - 1
    assert seed_list(f"0, {last}", 2) == [0, last]
    one, listed = (
        begin(model, *prompts, 4.0, EMPTY, sigmas_of(EMPTY, 2), s) for s in (last, [last])
    )
    assert torch.equal(one.state.noise, listed.state.noise)
    for seeds in (str(2**64), "9" * 20, "1" * 5000, "-1", "1.5", "x"):
        with pytest.raises(ValueError, match=f"whole numbers from 0 to {last}, .*; got '{seeds}'"):
            seed_list(seeds, 1)


def test_a_truncated_state_is_one_sentence(model, prompts, folder):
    path = Path(save(begun(model, prompts)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load(str(path), model)


def test_a_prefix_stays_in_the_output_folder(model, prompts, folder):
    with pytest.raises(ValueError, match="leaves the output folder"):
        save(begun(model, prompts), "../state")


@pytest.mark.parametrize("prefix", ["a\0b", "a\0/b", "runs/\ud83d"])
def test_a_prefix_that_no_file_can_have_is_one_sentence(model, prompts, folder, prefix):
    with pytest.raises(
        ValueError, match=r"filename_prefix holds '.*', which no file's name"
    ) as said:
        save(begun(model, prompts), prefix)
    str(said.value).encode()  # it can be shown
    assert not (folder / "out").exists() or not list((folder / "out").rglob("*"))


def test_loading_again_runs_again_only_if_the_file_changed(model, prompts, folder):
    stamp = LoadDenoiseState.fingerprint_inputs
    assert stamp(file="state_00001_.safetensors", model=None, cfg=1.0) == ""
    assert stamp(file=None) == ""  # linked: ComfyUI asks before it is known
    path = save(begun(model, prompts), "state")
    before = stamp(file=path)
    assert before == stamp(file="state_00001_.safetensors") != ""
    Path(path).write_bytes(b"other")
    assert stamp(file=path) != before
