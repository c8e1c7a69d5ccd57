"""Pins: which latent frames images take, and the noise mask they leave."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchdit.models.pins import cells_of_region, pin_at, pinned_mask, pinned_twice, put_pin
from patchdit.models.timeline import first_pixel_frame, pixel_frames


@pytest.mark.parametrize(
    ("frame", "images", "latents", "held", "sources"),
    [
        (0, 1, (0, 1), range(0, 1), (0,)),
        (-17, 1, (0, 1), range(0, 1), (0,)),
        (1, 1, (1, 2), range(1, 5), (0, 0, 0, 0)),
        (4, 1, (1, 2), range(1, 5), (0, 0, 0, 0)),
        (-1, 1, (4, 5), range(13, 17), (0, 0, 0, 0)),
        (0, 5, (0, 2), range(0, 5), (0, 1, 2, 3, 4)),
        (0, 3, (0, 2), range(0, 5), (0, 1, 2, 2, 2)),
        (5, 8, (2, 4), range(5, 13), (0, 1, 2, 3, 4, 5, 6, 7)),
        (7, 4, (2, 4), range(5, 13), (0, 0, 0, 1, 2, 3, 3, 3)),
        (0, 17, (0, 5), range(0, 17), tuple(range(17))),
    ],
)
def test_images_take_whole_latent_frames(frame, images, latents, held, sources):
    pin = pin_at(frame, images, 17)
    assert (pin.first, pin.stop) == latents
    assert pin.held == held and pin.sources == sources


@pytest.mark.parametrize(
    ("frame", "images", "latents", "held", "sources"),
    [
        (0, 1, (0, 1), range(0, 1), (0,)),
        (1, 1, (1, 2), range(1, 9), (0,) * 8),
        (-1, 1, (2, 3), range(9, 17), (0,) * 8),
        (0, 17, (0, 3), range(0, 17), tuple(range(17))),
        (7, 4, (1, 3), range(1, 17), (0,) * 7 + (1, 2) + (3,) * 7),
    ],
)
def test_images_take_whole_latent_frames_of_eight(frame, images, latents, held, sources):
    pin = pin_at(frame, images, 17, stride=8)
    assert (pin.first, pin.stop, pin.held, pin.sources) == (*latents, held, sources)


@given(st.integers(1, 60), st.sampled_from([1, 4, 6, 8]), st.data())
def test_every_image_is_shown_at_its_own_frame(frames, stride, data):
    images = data.draw(st.integers(1, frames))
    frame = data.draw(st.integers(0, frames - images))
    pin = pin_at(frame, images, frames, stride)
    assert pin == pin_at(frame - frames, images, frames, stride)
    shown = dict(zip(pin.held, pin.sources, strict=True))
    assert [shown[at] for at in pin.own] == list(range(images))
    assert first_pixel_frame(pin.first, stride) <= frame
    assert pixel_frames(pin.stop, stride) >= frame + images
    assert list(pin.sources) == sorted(pin.sources)


@pytest.mark.parametrize(("frame", "images"), [(17, 1), (-18, 1), (16, 2), (-1, 2)])
def test_a_pin_outside_the_clip_is_told_the_range(frame, images):
    with pytest.raises(ValueError, match=rf"frame is {frame}.* 0 to {17 - images}, or -17 to"):
        pin_at(frame, images, 17)


def test_more_images_than_frames():
    with pytest.raises(ValueError, match="18 images do not fit into a clip of 17 frames"):
        pin_at(0, 18, 17)


def test_a_patch_is_pinned_by_its_least_pinned_pixel():
    region = torch.ones(1, 8, 12)
    region[0, 3, 5] = 0.25
    cells = cells_of_region(region, pin_at(0, 5, 9), 4)
    expected = torch.ones(2, 2, 3)
    expected[:, 0, 1] = 0.25
    assert torch.equal(cells, expected)


def test_a_latent_frame_is_pinned_where_all_its_frames_are():
    region = torch.ones(6, 4, 4)
    region[0], region[3] = 0.5, 0.0
    cells = cells_of_region(region, pin_at(0, 6, 17), 4)  # frames 0, 1-4, 5 (and 6-8 as 5)
    assert cells.flatten().tolist() == [0.5, 0.0, 1.0]
    later = cells_of_region(region, pin_at(6, 6, 17), 4)  # 5 (as 6) - 8, 9 - 11 (and 12)
    assert later.flatten().tolist() == [0.5, 0.0]


def test_a_latent_frame_of_eight_is_pinned_where_all_its_frames_are():
    region = torch.ones(17, 4, 4)
    region[0], region[8], region[9] = 0.5, 0.25, 0.0
    cells = cells_of_region(region, pin_at(0, 17, 17, stride=8), 4)
    assert cells.flatten().tolist() == [0.5, 0.25, 0.0]


def test_mask_is_one_less_strength_and_covers_whole_patches_of_an_odd_grid():
    cells = torch.tensor([[[1.0, 0.0], [0.5, 1.0]]])
    mask = pinned_mask(cells, 0.8, (3, 3), 2)
    assert torch.allclose(mask, torch.tensor([[[0.2, 0.2, 1.0], [0.2, 0.2, 1.0], [0.6, 0.6, 0.2]]]))
    assert (pinned_mask(cells, 1.0, (4, 4), 2)[0, :2, :2] == 0).all()


def test_put_pin_changes_only_its_cells_and_not_its_inputs():
    torch.manual_seed(0)
    samples, mask = torch.randn(2, 3, 5, 4, 4), torch.ones(2, 1, 5, 4, 4)
    before = samples.clone(), mask.clone()
    pin = pin_at(6, 1, 17)
    latent, pinned = torch.randn(1, 3, 1, 4, 4), torch.ones(1, 4, 4)
    pinned[:, :2] = 0.25
    after, after_mask = put_pin(samples, mask, pin, latent, pinned)
    assert torch.equal(after[:, :, 2, :2], latent[:, :, 0, :2].expand(2, -1, -1, -1))
    assert (after_mask[:, :, 2, :2] == 0.25).all() and after_mask.sum() == 160 - 0.75 * 16
    after[:, :, 2, :2] = samples[:, :, 2, :2]
    assert torch.equal(after, samples)
    assert torch.equal(samples, before[0]) and torch.equal(mask, before[1])
    assert pinned_twice(after_mask, pin, pinned) == 2
    assert pinned_twice(after_mask, pin, pinned.flip(1)) is None
    assert pinned_twice(after_mask, pin_at(9, 1, 17), pinned) is None
