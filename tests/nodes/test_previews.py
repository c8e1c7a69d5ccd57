"""The clip that plays while a run is under way: its colours, its sheet, how often it is sent."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
import torch

from patchdit.models import blockworld
from patchdit.nodes.denoise import FinishDenoising
from patchdit.nodes.host import previews
from patchdit.nodes.host.previews import ClipShow, colour, draw_sheet, preview_colours
from patchdit.standalone.host import Session, executing, use_session

from ..host.graphs import needs_shipped_weights
from .test_denoise import start

PLAIN = ([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [0.0, 0.0, 0.5])


def decoded(jpeg: bytes) -> np.ndarray:
    """(H,W,3) RGB."""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_colours_are_factors_and_bias_from_minus_one_to_one():
    x0 = torch.tensor([0.5, -0.25]).view(1, 2, 1, 1, 1)
    assert colour(x0, PLAIN).flatten().tolist() == [0.75, 0.25, 0.75]
    assert colour(100 * x0, (PLAIN[0], None)).flatten().tolist() == [1, 0, 0.5]
    assert colour(x0 * float("nan"), PLAIN).flatten().tolist() == [0, 0, 0]


@needs_shipped_weights
def test_flat_pictures_show_in_their_own_colour():
    vae = blockworld.load().vae
    fitted = preview_colours(vae)
    flat = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.6, 0.3], [0.9, 0.9, 0.2], [0.2, 0.3, 0.9]])
    for i, rgb in enumerate(flat.tolist()):
        side = 2 * vae.spatial_stride
        video = 2 * torch.tensor(rgb).view(1, 3, 1, 1, 1).expand(-1, -1, 1, side, side) - 1
        with torch.no_grad():
            shown = colour(vae.normalise(vae.encode(video)), fitted)
        apart = (shown.mean((1, 2, 3)) - flat).norm(dim=1)
        assert apart.argmin() == i and apart[i] < 0.4


@pytest.mark.parametrize("frames", [1, 2, 7, 21])
@pytest.mark.parametrize("size", [(4, 8), (60, 104), (300, 200)])
def test_every_frame_lies_at_its_place(frames, size):
    levels = torch.linspace(0, 1, frames)
    video = levels.view(1, -1, 1, 1).expand(3, -1, *size)
    sheet = draw_sheet(video)
    picture = decoded(sheet.jpeg)
    assert picture.shape[1] == sheet.columns * sheet.width
    assert sheet.frames == frames and max(sheet.width, sheet.height) <= previews.SIDE
    assert abs(sheet.width / sheet.height / (size[1] / size[0]) - 1) < 0.1
    for i, level in enumerate(levels.tolist()):
        y, x = i // sheet.columns * sheet.height, i % sheet.columns * sheet.width
        tile = picture[y : y + sheet.height, x : x + sheet.width].astype(float)
        assert np.abs(tile - 255 * level).max() <= 3


def test_colours_keep_their_order():
    video = torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1, 1).expand(3, 1, 16, 16)
    picture = decoded(draw_sheet(video).jpeg).reshape(-1, 3)
    assert np.abs(picture.mean(0) - [255, 127.5, 0]).max() < 4


def test_a_long_clip_has_small_frames():
    sheet = draw_sheet(torch.zeros(3, 1025, 60, 104))
    height, width, _ = decoded(sheet.jpeg).shape
    assert height * width < 1.5 * previews.PIXELS and max(height, width) < 65_500


class Clock:
    """Stands for `time` in previews: whatever is sent takes `cost` seconds."""

    def __init__(self, cost: float):
        self.now, self.cost, self.sent = 100.0, cost, []

    def monotonic(self) -> float:
        return self.now

    def send(self, message: dict) -> None:
        self.sent.append(message["step"])
        self.now += self.cost if message["step"] else 0


@pytest.mark.parametrize(("cost", "share"), [(0.0, 0.0), (0.001, 0.004), (0.05, 0.02), (2.0, 0.02)])
def test_pictures_are_few_and_never_take_more_than_their_share(monkeypatch, cost, share):
    clock = Clock(cost)
    monkeypatch.setattr(previews, "time", clock)
    clip = ClipShow(clock.send, None, 100_000, 8.0)
    for step in range(1, 100_001):
        clock.now += 0.01
        clip.show(step, torch.zeros(1, 2, 1, 1, 1))
    took = clock.now - 100.0
    assert clock.sent[0] == 0 and clock.sent == sorted(set(clock.sent))
    assert len(clock.sent) - 1 <= 4 * took + 1
    assert cost * (len(clock.sent) - 1) <= previews.SHARE * took + 2 * cost
    assert cost * (len(clock.sent) - 1) / took == pytest.approx(share, rel=0.1, abs=1e-9)


@pytest.mark.parametrize("stride", [4, 8])
def test_a_picture_lasts_as_long_as_its_latent_frame(stride):
    heard = []
    clip = ClipShow(heard.append, PLAIN, 4, 25.0, stride)
    clip.show(1, torch.zeros(1, 2, 3, 2, 2))
    assert heard[-1]["seconds"] == stride / 25 and heard[-1]["frames"] == 3


def test_a_canvas_hears_of_a_run_without_changing_it(model, prompts):
    run = start(model, prompts, steps=4)
    whole = FinishDenoising.execute(run).args[0]["samples"]
    heard = []
    watched = Session(on_clip=lambda *told: heard.append(told), is_watched=lambda: True)
    with use_session(watched), executing("7"):
        assert torch.equal(FinishDenoising.execute(run).args[0]["samples"], whole)
    assert heard[0] == ("7", {"step": 0, "total": 4})
    node, told = heard[1]
    head, _, data = told["image"].partition(",")
    assert (node, told["step"], told["total"], head) == ("7", 1, 4, "data:image/jpeg;base64")
    assert (told["frames"], told["seconds"], told["aspect"]) == (3, 4 / 12, 1.0)
    assert decoded(base64.b64decode(data)).shape == (512, 512, 3)


def test_nothing_is_drawn_where_nobody_watches(model, prompts, monkeypatch):
    monkeypatch.setattr(previews, "draw_sheet", lambda video: pytest.fail("drawn for nobody"))
    with use_session(Session(on_clip=lambda node, told: pytest.fail("told to nobody"))):
        FinishDenoising.execute(start(model, prompts))
