"""The eval must earn trust before it judges a model: its reader, its prompts and its arithmetic."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from patchdit.benchmarks.backdrops import read_camera
from patchdit.benchmarks.motions import read_motion, world_track
from patchdit.benchmarks.prompts import ATTRIBUTES, load_prompts, scene_truth, unseen_prompts
from patchdit.benchmarks.reading import Reading, read
from patchdit.benchmarks.scoring import Score, score, shuffled, table
from patchdit.benchmarks.tracking import track
from patchdit.benchmarks.verdicts import draw_verdicts
from patchdit.benchmarks.world_eval import Recipe, film, main
from patchdit.models import blockworld
from patchdit.models.config import VAE_PRESETS, TextConfig, TransformerConfig
from patchdit.models.text import TextEncoder
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE
from patchdit.training.blockworld import (
    CAMERAS,
    FPS,
    HELD_OUT,
    MOTIONS,
    Camera,
    Scene,
    Subject,
    film_background,
    render,
    sample_scene,
    view_bounds,
)
from patchdit.training.environments import ENVIRONMENTS, paint
from patchdit.training.sprites import COLOURS, SUBJECTS


@pytest.mark.parametrize("index", range(10))
def test_true_clips_are_read_back(index):
    """Ten clips that cover every subject, colour, motion, environment and camera."""
    triple = (SUBJECTS[index % 5], list(COLOURS)[index % 8], MOTIONS[index % 9])
    scene = sample_scene(
        np.random.default_rng(index),
        subjects=1,
        triple=triple,
        environment=ENVIRONMENTS[index % 6],
        camera=CAMERAS[(index + index // 5) % 5],
    )
    assert read(render(scene).frames_FHWC)._asdict() == scene_truth(scene)


@pytest.mark.parametrize("size", [(96, 64, 17), (64, 112, 17), (64, 64, 33)])
def test_other_sizes_and_lengths_are_read_back(size):
    scene = sample_scene(np.random.default_rng(3), *size, subjects=1)
    assert read(render(scene).frames_FHWC)._asdict() == scene_truth(scene)


def test_a_blurred_noisy_clip_is_still_read():
    rng = np.random.default_rng(11)
    scene = sample_scene(rng, subjects=1)
    frames = render(scene).frames_FHWC.astype(np.float32)
    soft = (frames + np.roll(frames, 1, 1) + np.roll(frames, 1, 2) + np.roll(frames, -1, 2)) / 4
    noisy = np.clip(soft + rng.normal(0, 12, soft.shape), 0, 255).astype(np.uint8)
    assert read(noisy)._asdict() == scene_truth(scene)


def test_what_a_clip_shows_not_what_is_asked_decides():
    """Changing one thing in the scene changes that reading and no other."""
    subject = Subject("cube", "blue", "still", 0.0, 0.15, 0.18, 0.33)
    frames = [
        render(Scene(64, 64, 17, place, Camera(), (subject,), 5)).frames_FHWC
        for place in ("meadow", "city")
    ]
    before, after = (read(f) for f in frames)
    assert (before.environment, after.environment) == ("meadow", "city")
    assert before._replace(environment="city") == after


def test_fewer_than_five_frames_are_refused():
    with pytest.raises(ValueError, match=r"at least 5"):
        read(np.zeros((4, 64, 64, 3), np.uint8))


@pytest.mark.parametrize("motion", MOTIONS)
def test_motion_is_read_from_an_exact_track(motion):
    times = (np.arange(17) - 8) / FPS
    subject = Subject("ball", "red", motion, 0.1, 0.0, 0.15, 0.3, 0.25 * (motion != "still"), 0.3)
    world = np.array([subject.at(t) for t in times])
    assert read_motion(world, times) == motion


def test_world_track_takes_the_camera_out():
    scene = Scene(64, 64, 17, "city", Camera("zoom in", 0.18), (), 0)
    camera = np.array([scene.camera.at(t) for t in scene.times()])
    scale = 64 * camera[:, 2]
    pixels = np.stack([31.5 + 0.2 * scale, 31.5 - 0.1 * scale, 0.15 * scale], -1)
    world = world_track(pixels, camera, 64, 64)
    np.testing.assert_allclose(world, np.tile([0.2, -0.1, 0.15], (17, 1)), atol=1e-6)


@pytest.mark.parametrize("kind", CAMERAS)
def test_camera_is_read_with_its_speed(kind):
    speed = 0.0 if kind == "still" else 0.17
    scene = Scene(64, 64, 17, "meadow", Camera(kind, speed), (), 3)
    states = [scene.camera.at(t) for t in scene.times()]
    canvas = paint("meadow", np.random.default_rng(3), view_bounds(scene, states), 80)
    frames = np.stack([film_background(canvas, scene, state) for state in states])
    camera = read_camera(frames, np.zeros(frames.shape[:3], np.float32))
    assert camera.kind == kind
    assert camera.speed == pytest.approx(speed, abs=0.021)


def test_track_follows_the_true_track():
    scene = sample_scene(np.random.default_rng(5), subjects=1, triple=("star", "red", "circling"))
    clip = render(scene)
    frames = clip.frames_FHWC.astype(np.float32) / 255
    flat = np.zeros(frames.shape[:3], np.float32)
    found = track(frames, flat, "star", "red")
    assert np.abs(found[:, :2] - clip.tracks_NF3[0, :, :2]).max() < 1.5
    assert np.abs(found[:, 2] / clip.tracks_NF3[0, :, 2] - 1).max() < 0.15


def test_wilson_interval_of_eight_in_ten():
    low, high = Score(8, 10).interval()
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_scores_count_only_what_a_prompt_asks_for():
    reading = Reading("ball", "red", "left", "city", "still")
    scores = score([reading, reading], [{"colour": "red"}, {"colour": "blue", "subject": "ball"}])
    assert {k: (s.hits, s.n) for k, s in scores.items()} == {"colour": (1, 2), "subject": (1, 1)}
    assert "50.0%" in table({"model": scores})


def test_shuffled_truths_score_near_chance():
    truths = [p.truth for p in unseen_prompts(400)]
    readings = [Reading(**truth) for truth in truths]
    assert all(s.share == 1 for s in score(readings, truths).values())
    for name, result in score(readings, shuffled(truths)).items():
        _, counts = np.unique([t[name] for t in truths], return_counts=True)
        chance = float(np.square(counts / 400).sum())
        assert result.share == pytest.approx(chance, abs=0.08)


def test_prompts_are_held_out_repeatable_and_bilingual():
    prompts = unseen_prompts(60, seed=1)
    assert prompts == unseen_prompts(60, seed=1) != unseen_prompts(60, seed=2)
    for prompt in prompts:
        truth = prompt.truth
        assert (truth["subject"], truth["colour"], truth["motion"]) in HELD_OUT
        assert set(truth) == set(ATTRIBUTES)
    assert 8 <= sum(p.chinese for p in prompts) <= 28


def test_prompts_file_scores_only_its_keys(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "a red ball", "colour": "red", "camera": None}, {"prompt": "蓝色的球"}]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", "utf-8")
    first, second = load_prompts(path)
    assert first.truth == {"colour": "red"} and second.truth == {}
    assert second.chinese and not first.chinese


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("not json", "line 1: not JSON"),
        ('{"colour": "red"}', 'need a JSON object with "prompt"'),
        ('{"prompt": "x", "colour": "pink"}', "colour 'pink' is not one of red"),
        ("", "holds no prompts"),
    ],
)
def test_a_bad_prompts_file_is_refused_with_its_line(tmp_path, line, complaint):
    path = tmp_path / "prompts.jsonl"
    path.write_text(line, "utf-8")
    with pytest.raises(ValueError, match=complaint):
        load_prompts(path)


def test_contact_sheet_is_written(tmp_path):
    prompts = unseen_prompts(3)
    clips = [np.full((17, 64, 64, 3), 40 * i, np.uint8) for i in range(3)]
    readings = [Reading(**p.truth) for p in prompts]
    scores = score(readings, [p.truth for p in prompts])
    draw_verdicts(tmp_path / "new" / "sheet.png", clips, prompts, readings, scores)
    assert (tmp_path / "new" / "sheet.png").stat().st_size > 2000


@pytest.fixture
def weights(tmp_path):
    """A model of random weights with the shipped vocabulary, tiny but whole."""
    vocabulary = blockworld.load_tokenizer().size
    transformer = PatchDiT(
        TransformerConfig(32, 32, 2, 1, text_width=16, text_length=80, frame_timesteps=True)
    )
    transformer.init_weights()
    vae = VideoVAE(replace(VAE_PRESETS["blockworld-mini"], encoder_width=8, decoder_width=8))
    text = TextEncoder(TextConfig(vocabulary, width=16, heads=2, layers=1))
    for part, module in (("transformer", transformer), ("vae", vae), ("text", text)):
        blockworld.save(part, module, tmp_path, {})
    shutil.copy(blockworld.FOLDER / blockworld.NAMES["tokenizer"], tmp_path)
    return tmp_path


def test_a_clip_depends_on_its_own_seed_and_not_on_its_batch(weights):
    model = blockworld.load(weights)
    recipe = Recipe(steps=1, cfg=2.0, size=(32, 32, 5), bf16=False)
    together = film(model, ["a red ball", "一个蓝色的球"], recipe, seed=4)
    alone = film(model, ["一个蓝色的球"], recipe, seed=5)
    assert together[1].shape == (5, 32, 32, 3)
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1
    assert (together[0] != together[1]).any()


def test_the_whole_eval_writes_what_it_measured(weights, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    arguments = "--limit 3 --steps 1 --proof 0 --vae-clips 0 --batch 2 --weights"
    arguments = [*arguments.split(), str(weights), "--out", str(out), "--json", str(out / "r.json")]
    monkeypatch.setattr("sys.argv", ["world_eval.py", *arguments])
    main()
    result = json.loads((out / "r.json").read_text())
    assert set(result["accuracy"]) == set(ATTRIBUTES) == set(result["intervals"])
    assert result["n"] == 3 and result["recipe"]["steps"] == 1
    assert (out / "world_eval.png").exists()
    assert "| environment |" in capsys.readouterr().out
