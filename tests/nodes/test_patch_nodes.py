"""SelectPatches, ReplacePatches, RenoisePatches, MergePatches and ShowPatches."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from patchdit.models.flow import finish
from patchdit.models.patch_picture import principal_colours
from patchdit.nodes import host
from patchdit.nodes.api import InputImpl, Types
from patchdit.nodes.denoise import DenoiseStep, FinishDenoising, StartDenoising
from patchdit.nodes.edit_patches import MergePatches, RenoisePatches, ReplacePatches
from patchdit.nodes.patchify import PatchifyLatent, UnpatchifyLatent
from patchdit.nodes.select_patches import SelectPatches
from patchdit.nodes.show_patches import ShowPatches
from patchdit.standalone.executor import run
from patchdit.standalone.graph import read_graph
from patchdit.standalone.host import Session, use_session

NODES = [SelectPatches, ReplacePatches, RenoisePatches, MergePatches, ShowPatches]
ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = dict(
    by="all",
    combine="replace",
    invert=False,
    start=0.0,
    end=-1.0,
    x=0.25,
    y=0.25,
    width=0.5,
    height=0.5,
    share=0.25,
    seed=0,
)


def patched(batch=1, channels=16, T=3, H=4, W=8, **rest):
    samples = torch.randn(batch, channels, T, H, W)
    return PatchifyLatent.execute({"samples": samples, **rest}, 1, 2, 2).args[0]


def select(patches, **settings):
    return SelectPatches.execute(patches, **{**DEFAULTS, **settings}).args


def times(patches):
    grid = patches.grid
    return patches.selected_BL.reshape(-1, grid.t, grid.h * grid.w)[0].any(1).int().tolist()


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (dict(by="time in frames", start=5), [0, 0, 1]),
        (dict(by="time in frames", start=0, end=1), [1, 1, 0]),
        (dict(by="time in frames", start=0, end=0, invert=True), [0, 1, 1]),
        (dict(by="time in seconds", start=0, end=0.25), [1, 0, 0]),  # 4 fps: frame 0
        (dict(by="time in seconds", start=0.25, end=1.25), [0, 1, 0]),  # frames 1 to 4
        (dict(by="time in seconds", start=1.3), [0, 0, 1]),  # frame 5, under way
        (dict(by="all"), [1, 1, 1]),
        (dict(by="all", invert=True), [0, 0, 0]),
        (dict(by="brush"), [0, 0, 0]),
        (dict(by="brush", brush="3x2x4 0:0-7 2:0-7"), [1, 0, 1]),
        (dict(by="brush", brush="3x2x4 0:0-7 2:0-7", invert=True), [0, 1, 0]),
    ],
)
def test_time(settings, wanted):
    chosen, count = select(patched(video_fps=4.0), **settings)
    assert times(chosen) == wanted and count == 8 * sum(wanted)


@pytest.mark.parametrize(("channels", "cell"), [(16, 8), (48, 16)])
def test_a_box_in_pixels_is_the_box_in_fractions(channels, cell):
    patches = patched(channels=channels)
    fractions, _ = select(patches, by="box in fractions", x=0.25, y=0.5, width=0.3, height=0.25)
    rows, columns = 4 * cell, 8 * cell
    sizes = dict(x=0.25 * columns, y=0.5 * rows, width=0.3 * columns, height=0.25 * rows)
    pixels, count = select(patches, by="box in pixels", **sizes)
    assert torch.equal(fractions.selected_BL, pixels.selected_BL) and count == 3 * 2


def picture_of(shown):
    view = shown.ui["patchdit_grid"][0]
    data = base64.b64decode(view["picture"].partition("base64,")[2])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    return view, torch.from_numpy(image.copy()).float() / 255


def test_the_brush_is_told_the_grid_and_a_picture_of_every_time():
    """The latent's own colours bit for bit; decoded frames in size: the last of each time."""
    patches = patched(batch=2)
    view, image = picture_of(SelectPatches.execute(patches, **DEFAULTS))
    assert (view["t"], view["h"], view["w"]) == (3, 2, 4)
    assert [list(span) for span in view["spans"]] == [[0, 0], [1, 4], [5, 8]]
    colours = principal_colours(UnpatchifyLatent.execute(patches).args[0]["samples"][0])
    assert torch.equal((colours * 255).round(), (image * 255).round().unflatten(0, (3, 4)))
    frames = torch.linspace(0, 1, 9)[:, None, None, None].expand(9, 600, 1200, 3)
    _, image = picture_of(SelectPatches.execute(patches, **DEFAULTS, frames=frames))
    assert image.shape == (3 * 256, 512, 3)  # made smaller: its long side is at most 512
    for time, grey in enumerate((0.0, 0.5, 1.0)):
        assert (image[time * 256 + 8 : time * 256 + 248] - grey).abs().max() < 0.02


@pytest.mark.parametrize("shape", [(32, 64), (1, 32, 64), (9, 32, 64), (9, 7, 11), (9, 2, 4)])
def test_a_mask_of_any_size_chooses_what_it_covers(shape):
    mask = torch.zeros(shape)
    mask[..., : shape[-2] // 2, shape[-1] // 2 :] = 0.6
    chosen, _ = select(patched(), by="mask", mask=mask)
    upper_right = chosen.selected_BL.reshape(3, 2, 4)[:, 0, 2:]
    assert upper_right.all()
    exact = shape[-2] % 2 == 0
    assert chosen.selected_BL.sum() == 6 if exact else chosen.selected_BL.sum() >= 6
    assert select(patched(), by="mask", mask=mask * 0.8)[1] == 0  # below one half


def test_a_mask_for_each_frame_of_a_padded_clip():
    mask = torch.zeros(7, 32, 64)
    mask[6] = 1
    chosen, _ = select(patched(video_frames=7), by="mask", mask=mask)
    assert times(chosen) == [0, 0, 1]


def test_selections_add_up_and_nothing_is_written_into_inputs():
    patches = patched(batch=2)
    before = patches.tokens_BLP.clone()
    first, _ = select(patches, by="time in frames", end=0)
    second, count = select(first, by="time in frames", start=5, combine="add")
    assert times(second) == [1, 0, 1] and count == 2 * 16 and times(first) == [1, 0, 0]
    assert patches.selected_BL is None and torch.equal(patches.tokens_BLP, before)
    _, random = select(second, by="random", share=0.5, combine="intersect", seed=4)
    assert 0 < random < 32


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(by="time in frames", start=9), "Frames 9 to 8 .* has 9"),
        (dict(by="time in frames", start=0.5), "whole numbers; got start 0.5"),
        (dict(by="time in seconds", start=1, end=0.5), "Time from 1 to 0.5 seconds is empty"),
        (dict(by="time in seconds", start=1, end=60), "Frames 8 to 479 .* end"),
        (dict(by="box in pixels", x=64), "covers nothing"),
        (dict(by="mask"), "needs a mask; connect one"),
        (dict(by="mask", mask=torch.ones(5, 8, 8)), "mask has 5 frames; need 1 .* its 9"),
        (dict(by="random", share=2.0), "share of 2"),
        (dict(by="brush", brush="5x2x4 0:1"), "on a grid of 5x2x4 .* these are 3x2x4: paint again"),
    ],
)
def test_bad_settings_are_one_sentence(settings, said):
    with pytest.raises(ValueError, match=said) as caught:
        select(patched(video_fps=8.0), **settings)
    assert "\n" not in str(caught.value)


def test_replacing_swaps_the_selected_patches():
    target, source = patched(batch=2, video_fps=4.0), patched()
    target, _ = select(target, by="time in frames", start=1, end=4)
    (got,) = ReplacePatches.execute(target, source).args
    assert torch.equal(got.tokens_BLP[:, 8:16], source.tokens_BLP[:, 8:16].expand(2, -1, -1))
    assert torch.equal(got.tokens_BLP[:, :8], target.tokens_BLP[:, :8])
    assert got.rest == target.rest and got.selected_BL is target.selected_BL
    (whole,) = ReplacePatches.execute(patched(), source).args  # nothing said: all of them
    assert torch.equal(whole.tokens_BLP, source.tokens_BLP)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (dict(T=2), "source is a grid of 2x2x4 .* the target of 3x2x4"),
        (dict(channels=48), "Patches of source are .* of 192 values, those of target .* of 64"),
        (dict(batch=3), "3 videos in source and 2 in target; give source 1 or 2"),
    ],
)
def test_patches_that_do_not_match(source, said):
    with pytest.raises(ValueError, match=said):
        ReplacePatches.execute(patched(batch=2), patched(**source))


def test_merging_and_its_seam(caplog):
    base, inserted = patched(), patched(T=1, H=2, W=4)
    merged, count = MergePatches.execute(base, inserted, 0, 0, 1, "merged").args
    assert count == 2 and merged.selected_BL.nonzero()[:, 1].tolist() == [1, 2]
    assert torch.equal(merged.tokens_BLP[:, 1:3], inserted.tokens_BLP) and not caplog.records
    seam, count = MergePatches.execute(base, inserted, 0, 0, 1, "seam").args
    assert torch.equal(seam.tokens_BLP, merged.tokens_BLP) and count == 6 + 8
    assert times(seam) == [1, 1, 0] and not (seam.selected_BL & merged.selected_BL).any()
    with caplog.at_level(logging.WARNING):
        MergePatches.execute(base, inserted, 1, 0, 0, "merged")
    assert "first latent frame" in caplog.text
    with pytest.raises(ValueError, match="change column"):
        MergePatches.execute(base, inserted, 0, 0, 3, "merged")


def test_only_selected_patches_are_renoised_and_denoised(model, prompts):
    """The whole way: what is not selected comes back bit for bit, what is does not."""
    chosen, _ = select(patched(H=4, W=4), by="time in frames", start=1, end=4)
    (noisy,) = RenoisePatches.execute(chosen, 0.7, 3).args
    (latent,) = UnpatchifyLatent.execute(noisy).args
    sigmas = torch.tensor([0.8, 0.4, 0.0])
    (state,) = StartDenoising.execute(model, *prompts, latent, sigmas, 1, 2.0, "euler", "").args
    (done,) = FinishDenoising.execute(state).args
    before = UnpatchifyLatent.execute(chosen).args[0]["samples"]
    torch.testing.assert_close(done["samples"][:, :, [0, 2]], before[:, :, [0, 2]])
    kept = finished(state)
    assert torch.equal(kept[:, :, [0, 2]], state.state.latent[:, :, [0, 2]])
    assert (done["samples"][:, :, 1] - before[:, :, 1]).abs().mean() > 0.1


def finished(run):
    """The run's result in the model's own space, where known cells are kept bit for bit."""
    return finish(DenoiseStep.execute(run, run.state.steps_left).args[0].state)


def test_pictures_of_every_time_or_of_one_frame():
    chosen, _ = select(patched(batch=2), by="box in fractions")
    (latent_pictures,) = ShowPatches.execute(chosen, -1, 1).args
    frames = torch.rand(9, 32, 64, 3)
    (pictures,) = ShowPatches.execute(chosen, -1, 0, frames).args
    (one,) = ShowPatches.execute(chosen, 4, 0, frames).args
    assert pictures.shape == latent_pictures.shape and len(pictures) == 3 and len(one) == 1
    assert torch.equal(one[0], pictures[1])
    video = InputImpl.VideoFromComponents(Types.VideoComponents(frames, frame_rate=8))
    assert torch.equal(ShowPatches.execute(chosen, 4, 0, video).args[0], one)
    assert pictures.min() >= 0 and pictures.max() <= 1


@pytest.mark.parametrize(
    ("frame", "item", "frames", "said"),
    [
        (9, 0, None, "no frame 9 in a clip of 9"),
        (0, 1, None, "no video 1 in a batch of 1; set item below 1"),
        (0, 0, torch.zeros(5, 8, 8, 3), "Got 5 frames .* a clip of 9"),
    ],
)
def test_pictures_that_do_not_exist(frame, item, frames, said):
    with pytest.raises(ValueError, match=said):
        ShowPatches.execute(patched(), frame, item, frames)


def test_the_template_runs_without_comfyui(node_classes, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "weights_folder", lambda: weights.parent)
    classes = {**node_classes, **{node.GET_SCHEMA().node_id: node for node in NODES}}
    prompt = json.loads((ROOT / "workflows" / "api" / "patches.json").read_text())
    for node in prompt.values():
        for name, value in (("weights", weights.name), ("steps", 2), ("text", "a red ball")):
            if name in node["inputs"]:
                node["inputs"][name] = value
    with use_session(Session(tmp_path, tmp_path, tmp_path, lambda *step: None)):
        shown = asyncio.run(run(read_graph(prompt, classes), None, lambda node: None))
    files = [image for outcome in shown.values() for image in outcome.get("images", [])]
    assert sum(file["filename"].endswith(".mp4") for file in files) == 2
    assert sum(file["filename"].endswith(".png") for file in files) == 5
