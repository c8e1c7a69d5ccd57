"""Optical flow finds how a picture moved, and carrying along it moves a picture so."""

from __future__ import annotations

import cv2
import pytest
import torch

from patchdit.models.motion import LEAST, carry, optical_flow


def texture(rows=48, columns=64, seed=0) -> torch.Tensor:
    """A smooth random picture."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(rows, columns, 3, generator=generator).numpy()
    soft = torch.from_numpy(cv2.GaussianBlur(noise, (0, 0), 2))
    return (soft - soft.min()) / (soft.max() - soft.min())


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (0, -2), (2, 1)])
def test_a_moved_picture_is_found_and_moved_back(shift):
    now, before = texture(), texture().roll((-shift[1], -shift[0]), (0, 1))
    flow = optical_flow(now, before)
    middle = (slice(8, -8), slice(8, -8))
    assert flow[middle].mean((0, 1)).tolist() == pytest.approx([-s for s in shift], abs=0.15)
    assert (carry(before, flow) - now)[middle].abs().mean() < 0.02


def test_a_still_picture_is_carried_exactly():
    picture = texture()
    assert torch.equal(carry(picture, torch.zeros(48, 64, 2)), picture)


def test_what_comes_from_outside_goes_on_from_the_edge():
    picture = texture()
    flow = torch.zeros(48, 64, 2)
    flow[..., 0] = 1000
    assert torch.equal(carry(picture, flow), picture[:, -1:].expand_as(picture))


@pytest.mark.parametrize("size", [(LEAST - 1, 64), (64, LEAST - 1), (1, 1)])
def test_pictures_too_small_to_match_count_as_still(size):
    one, other = torch.rand(*size, 3), torch.rand(*size, 3)
    assert torch.equal(optical_flow(one, other), torch.zeros(*size, 2))


@pytest.mark.parametrize("size", [(LEAST, LEAST), (17, 300), (480, 16)])
def test_every_larger_size_is_matched(size):
    assert optical_flow(torch.rand(*size, 3), torch.rand(*size, 3)).isfinite().all()
