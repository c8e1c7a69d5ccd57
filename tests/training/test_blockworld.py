"""The world's ground truth must agree with its pixels, and every ability must keep its promise."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from patchdit.training.abilities import ABILITIES, film_ability
from patchdit.training.ability_captions import describe
from patchdit.training.blockworld import (
    CAMERAS,
    HELD_OUT,
    MOTIONS,
    Camera,
    Scene,
    Subject,
    render,
    sample_scene,
    to_pixels,
)
from patchdit.training.captions import caption
from patchdit.training.environments import ENVIRONMENTS
from patchdit.training.perspective import View
from patchdit.training.sheet import draw_sheet
from patchdit.training.sprites import COLOURS, SUBJECTS
from patchdit.training.world_words import CHINESE, ENGLISH

BALL = Subject("ball", "red", "still", 0.0, 0.1, 0.2, 0.3)


def scene_of(*subjects, camera=None, size=(64, 64, 9)) -> Scene:
    return Scene(*size, "meadow", camera or Camera(), subjects, 3)


def colour_of(frame, mask) -> np.ndarray:
    return frame[mask > 250].mean(0)


def is_coloured(frame, mask, colour: str) -> bool:
    """Whether a subject's pixels lie nearer to its colour's direction than to any other's."""
    seen = colour_of(frame, mask)
    likeness = {
        name: seen @ np.array(rgb) / np.linalg.norm(rgb) / np.linalg.norm(seen)
        for name, rgb in COLOURS.items()
    }
    return max(likeness, key=likeness.__getitem__) == colour


# ----- scenes -----


def test_a_seed_gives_the_same_scene_and_the_same_pixels():
    first, again, other = (sample_scene(np.random.default_rng(s)) for s in (5, 5, 6))
    assert first == again != other
    np.testing.assert_array_equal(render(first).frames_FHWC, render(again).frames_FHWC)
    repainted = render(replace(first, seed=first.seed + 1)).frames_FHWC
    assert (repainted != render(first).frames_FHWC).any()


def test_held_out_triples_are_a_tenth_and_kept_apart():
    triples = len(SUBJECTS) * len(COLOURS) * len(MOTIONS)
    assert len(HELD_OUT) / triples >= 0.1
    assert {(s, c) for s, c, _ in HELD_OUT} == {(s, c) for s in SUBJECTS for c in COLOURS}
    rng = np.random.default_rng(0)
    for held_out in (False, True):
        for _ in range(100):
            drawn = sample_scene(rng, held_out=held_out).triples()
            assert all((triple in HELD_OUT) == held_out for triple in drawn)


@pytest.mark.parametrize("size", [(63, 64), (64, 16), (0, 64)])
def test_sizes_off_the_grid_are_refused(size):
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}"):
        sample_scene(np.random.default_rng(0), *size)


@pytest.mark.parametrize("size", [(64, 64, 1), (96, 64, 5), (64, 112, 9), (128, 128, 5)])
def test_every_size_has_every_truth_in_its_shape(size):
    width, height, frames = size
    clip = render(sample_scene(np.random.default_rng(1), *size, subjects=2))
    assert clip.frames_FHWC.shape == (frames, height, width, 3)
    assert clip.frames_FHWC.dtype == clip.masks_NFHW.dtype == np.uint8
    assert clip.masks_NFHW.shape == (2, frames, height, width)
    assert clip.tracks_NF3.shape == (2, frames, 3) and clip.camera_F3.shape == (frames, 3)
    assert clip.visibility_NF.shape == (2, frames)


@pytest.mark.parametrize("camera", CAMERAS)
def test_masks_lie_where_tracks_say_and_show_the_colour(camera):
    clip = render(scene_of(BALL, camera=Camera(camera, 0.2 * (camera != "still"))))
    y, x = np.mgrid[:64, :64]
    for f, mask in enumerate(clip.masks_NFHW[0]):
        weight = mask / mask.sum()
        centre = (weight * x).sum(), (weight * y).sum()
        np.testing.assert_allclose(centre, clip.tracks_NF3[0, f, :2], atol=0.2)
        radius = np.sqrt(mask.sum() / 255 / np.pi)
        assert radius == pytest.approx(clip.tracks_NF3[0, f, 2] * 0.98, rel=0.05)
        assert is_coloured(clip.frames_FHWC[f], mask, "red")


def test_the_camera_moves_what_rests_as_it_says():
    pan = render(scene_of(BALL, camera=Camera("pan right", 0.2))).tracks_NF3[0]
    np.testing.assert_allclose(pan[-1, 0] - pan[0, 0], -0.2 * 64, atol=1e-3)  # 9 frames: 1 s
    zoom = render(scene_of(BALL, camera=Camera("zoom in", 0.2))).tracks_NF3[0]
    np.testing.assert_allclose(zoom[-1, 2] / zoom[0, 2], np.exp(0.2), rtol=1e-4)


def test_visibility_is_the_share_that_is_seen():
    half_out = replace(BALL, x=-0.5)
    assert render(scene_of(half_out)).visibility_NF[0] == pytest.approx(0.5, abs=0.03)
    behind = replace(BALL, colour="blue", ground=0.29)
    clip = render(scene_of(behind, replace(BALL, x=0.05)))
    assert (clip.visibility_NF[0] < 0.3).all() and (clip.visibility_NF[1] > 0.98).all()
    assert (clip.masks_NFHW.astype(int).sum(0) <= 256).all()


def test_nothing_but_subject_and_shadow_differs_between_two_clips():
    red, blue = (render(scene_of(replace(BALL, colour=c))) for c in ("red", "blue"))
    differs = np.abs(red.frames_FHWC.astype(int) - blue.frames_FHWC).max(-1) > 1
    assert not (differs & (red.masks_NFHW[0] == 0)).any()
    assert (differs & (red.masks_NFHW[0] > 200)).sum() > 1000


def test_captions_name_what_is_there():
    rng = np.random.default_rng(4)
    named = {"environment": 0, "camera": 0}
    for i in range(120):
        scene = sample_scene(rng, camera=CAMERAS[i % 5])
        for language, words in (("en", ENGLISH), ("zh", CHINESE)):
            text = caption(scene, rng, language).lower()
            for subject in scene.subjects:
                for attribute, value in (("subject", subject.kind), ("colour", subject.colour)):
                    assert any(w in text for w in words[attribute][value]), (text, value)
            for attribute, value in (
                ("environment", scene.environment),
                ("camera", scene.camera.kind),
            ):
                named[attribute] += any(w in text for w in words[attribute][value])
    assert named["environment"] > 0.9 * 240 and named["camera"] > 0.7 * 240


# ----- abilities -----


def film(name: str, seed: int = 0, size=(64, 64, 17)):
    return film_ability(np.random.default_rng(seed), name, *size)


@pytest.mark.parametrize("name", ABILITIES)
def test_abilities_are_repeatable_and_complete(name):
    clip, again = film(name, size=(96, 64, 13)), film(name, size=(96, 64, 13))
    np.testing.assert_array_equal(clip.frames_FHWC, again.frames_FHWC)
    N = len(clip.tracks_NF3)
    assert clip.frames_FHWC.shape == (13, 64, 96, 3) and clip.frames_FHWC.dtype == np.uint8
    assert clip.masks_NFHW.shape == (N, 13, 64, 96)
    assert clip.visibility_NF.shape == (N, 13) and clip.camera_F3.shape == (13, 3)
    assert np.isfinite(clip.tracks_NF3).all()
    assert clip.visibility_NF.min() >= 0 and clip.visibility_NF.max() <= 1


@pytest.mark.parametrize("name", ABILITIES)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_abilities_are_described(name, language):
    words = ENGLISH if language == "en" else CHINESE
    texts = set()
    for seed in range(8):
        clip, rng = film(name, seed, (64, 64, 9)), np.random.default_rng(seed)
        text = describe(clip, rng, language)
        texts.add(text)
        assert "{" not in text and "  " not in text
        for subject in clip.scene.subjects:
            assert any(w in text.lower() for w in words["colour"][subject.colour]), text
        place = words["environment"][clip.scene.environment]
        assert any(w in text.lower() for w in place), text
    assert len(texts) > 4


@pytest.mark.parametrize("seed", range(4))
def test_behind_the_pillar_it_vanishes_and_comes_out_unchanged(seed):
    clip = film("pillar", seed)
    visibility = clip.visibility_NF[0]
    assert visibility[0] > 0.75 and visibility[-1] > 0.75
    assert visibility[clip.facts["turn"]] < 0.05
    colour = clip.scene.subjects[0].colour
    for f in (0, -1):
        assert is_coloured(clip.frames_FHWC[f], clip.masks_NFHW[0, f], colour)
    x = clip.tracks_NF3[0, :, 0]
    np.testing.assert_allclose(np.diff(x), np.diff(x)[0], rtol=1e-3)  # it never slows down


@pytest.mark.parametrize("seed", range(4))
def test_the_camera_returns_to_the_very_same_picture(seed):
    clip = film("return", seed)
    assert clip.visibility_NF[0, 0] > 0.95
    assert clip.visibility_NF[0, clip.facts["turn"]] == 0
    difference = clip.frames_FHWC[0].astype(int) - clip.frames_FHWC[-1]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_the_stroke_grows_and_stays(seed):
    clip = film("stroke", seed)
    strokes = clip.masks_NFHW[1] > 250
    brush = cv2.dilate(clip.masks_NFHW[0].max(0), np.ones((3, 3), np.uint8)) > 0
    for before, after in pairwise(strokes):
        assert not (before & ~after & ~brush).any()
    assert strokes[-1].sum() > 2 * strokes[3].sum() > 0
    done = clip.facts["turn"] + 1
    np.testing.assert_array_equal(clip.frames_FHWC[done], clip.frames_FHWC[-1])
    assert is_coloured(clip.frames_FHWC[-1], clip.masks_NFHW[1, -1], clip.scene.subjects[0].colour)


@pytest.mark.parametrize("seed", range(6))
def test_the_bite_is_taken_once_and_stays(seed):
    clip = film("bite", seed)
    turn, visibility = clip.facts["turn"], clip.visibility_NF[0]
    assert visibility[turn - 1] > 0.97
    assert (visibility[turn:] < 0.95).all()
    assert np.ptp(visibility[turn:]) < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_the_balls_touch_exchange_their_speeds_and_part(seed):
    clip = film("collision", seed)
    left, right = clip.tracks_NF3[:, :, 0]
    speed_left, speed_right = np.diff(left), np.diff(right)
    np.testing.assert_allclose(speed_left[0], speed_right[-1], rtol=1e-3)
    np.testing.assert_allclose(speed_right[0], speed_left[-1], rtol=1e-3)
    assert speed_left[0] > 0 > speed_right[0]
    gap = (right - left) / clip.tracks_NF3[0, :, 2]
    assert gap.argmin() == clip.facts["turn"] and gap.min() == pytest.approx(2, abs=0.1)


def test_perspective_is_that_of_a_pinhole():
    """A point twice as far is seen at half the size; the point looked at is in the middle."""
    view = View(0.7, 64, 48)
    eye, axes = view.axes()
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(view.project([eye + 3 * axes[2]])[0], (31.5, 23.5, 3), atol=1e-9)
    near, far = view.project([eye + 2 * axes[2] + axes[0], eye + 4 * axes[2] + axes[0]])
    assert (near[0] - 31.5) == pytest.approx(2 * (far[0] - 31.5))


@pytest.mark.parametrize("seed", range(4))
def test_orbited_solids_keep_their_masks_and_turn_steadily(seed):
    clip = film("orbit", seed)
    np.testing.assert_allclose(np.diff(clip.facts["azimuth"], 2), 0, atol=1e-9)
    assert (clip.masks_NFHW.astype(int).sum(0) <= 257).all()
    for n, subject in enumerate(clip.scene.subjects):
        assert subject.kind in ("cube", "cone")
        for f, mask in enumerate(clip.masks_NFHW[n]):
            y, x = np.nonzero(mask > 127)
            if clip.visibility_NF[n, f] > 0.99:
                middle = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
                np.testing.assert_allclose(middle, clip.tracks_NF3[n, f, :2], atol=3)


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_changes_the_place_and_keeps_the_subject(seed):
    clip = film("cut", seed)
    turn, first, second = clip.facts["turn"], clip.scene, clip.facts["second"]
    assert (turn - 1) % 4 == 0  # a latent frame begins there
    assert first.environment != second.environment
    assert first.subjects[0].kind == second.subjects[0].kind
    for f in (0, -1):
        colour = first.subjects[0].colour
        assert is_coloured(clip.frames_FHWC[f], clip.masks_NFHW[0, f], colour)
    steps = np.abs(np.diff(clip.frames_FHWC.astype(int), axis=0)).mean((1, 2, 3))
    assert steps.argmax() == turn - 1


@pytest.mark.parametrize(
    "given, complaint",
    [
        ({"frames": 5}, "at least 9"),
        ({"width": 50}, "50x64"),
        ({"name": "flight"}, "No ability 'flight'"),
    ],
)
def test_impossible_abilities_are_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        film_ability(np.random.default_rng(0), **given)


def test_the_sheet_shows_everything_within_its_margins(tmp_path):
    draw_sheet(tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    paper = sheet[0, 0]
    inked = (sheet != paper).any(-1)
    rows, columns = np.nonzero(inked.any(1))[0], np.nonzero(inked.any(0))[0]
    assert rows.min() >= 40 and sheet.shape[0] - rows.max() >= 40
    assert columns.min() >= 40 and sheet.shape[1] - columns.max() >= 40


def test_to_pixels_puts_the_middle_of_the_world_in_the_middle():
    scene = scene_of(BALL, size=(96, 64, 9))
    assert to_pixels(scene, (0, 0, 1), 0, 0, 0.5) == (47.5, 31.5, 32)
    assert ENVIRONMENTS[0] == scene.environment
