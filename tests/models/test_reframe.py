"""A new frame: where the clip lies, what is known, and windows in time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchdit.models.reframe import (
    Side,
    fill_in_windows,
    kept_shares,
    mask_outside,
    side_at,
    size_for,
    window_starts,
)


@pytest.mark.parametrize(
    ("old", "new", "anchor", "side"),
    [
        (64, 112, 0.5, Side(0, 64, 32, 112)),
        (64, 96, 0.5, Side(0, 64, 16, 96)),
        (64, 112, 0.0, Side(0, 64, 0, 112)),
        (64, 112, 1.0, Side(0, 64, 48, 112)),
        (90, 112, 1.0, Side(0, 90, 22, 112)),
        (90, 112, 0.9, Side(0, 90, 16, 112)),
        (64, 64, 0.7, Side(0, 64, 0, 64)),
        (64, 48, 0.5, Side(8, 48, 0, 48)),
        (64, 48, 1.0, Side(16, 48, 0, 48)),
    ],
)
def test_a_side_is_widened_on_the_grid_or_cropped(old, new, anchor, side):
    assert side_at(old, new, anchor, 16) == side


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 1))
def test_a_side_never_leaves_the_clip_or_the_frame(old, new, anchor):
    side = side_at(old, new, anchor, 16)
    assert side.length == min(old, new)
    assert 0 <= side.start <= old - side.length and 0 <= side.place <= new - side.length


@pytest.mark.parametrize(
    ("old", "ratio", "widen", "size"),
    [
        ((64, 64), (4, 7), True, (64, 112)),
        ((64, 64), (4, 7), False, (32, 64)),
        ((64, 64), (16, 9), True, (112, 64)),
        ((64, 112), (4, 7), True, (64, 112)),
        ((64, 112), (1, 1), True, (112, 112)),
        ((64, 112), (1, 1), False, (64, 64)),
        ((1080, 1920), (16, 9), False, (1080, 608)),
        ((1080, 1920), (9, 16), True, (1080, 1920)),
    ],
)
def test_a_shape_keeps_one_side(old, ratio, widen, size):
    assert size_for(old, ratio, widen, 16) == size


def test_shares_are_one_inside_and_fade_outside():
    share = kept_shares(Side(0, 2, 0, 2), Side(0, 3, 2, 8), 3)
    assert share.tolist() == [[[0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25]] * 2]
    hard = kept_shares(Side(0, 2, 1, 4), Side(0, 2, 0, 4), 0)
    assert hard[0].nonzero().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    assert set(hard.unique().tolist()) == {0.0, 1.0}


def test_only_whole_patches_inside_are_known():
    """The clip takes columns 3 .. 12 of 14: of patches of 4 only the second and third are whole."""
    share = kept_shares(Side(0, 8, 0, 8), Side(0, 10, 3, 14), 2)
    mask = mask_outside(share, torch.zeros(1, 5, 3, 4, 8), 2, 2)
    assert mask.shape == (1, 1, 3, 4, 8)
    assert torch.equal(mask, torch.tensor([1, 1, 0, 0, 0, 0, 1, 1.0]).expand(1, 1, 3, 4, 8))


@given(st.integers(1, 80), st.integers(2, 20), st.data())
def test_windows_cover_the_clip_once_and_are_full(latents, window, data):
    context = data.draw(st.integers(1, window - 1))
    starts = window_starts(latents, window, context)
    stops = [*starts[1:], latents]
    lengths = [stop - start for start, stop in zip(starts, stops, strict=True)]
    assert starts[0] == 0 and sum(lengths) == latents
    assert context < lengths[0] <= window or latents == lengths[0]
    assert all(length == window - context for length in lengths[1:])


def test_a_context_that_fills_the_window():
    with pytest.raises(ValueError, match="no room after 4"):
        window_starts(9, 4, 4)
    assert window_starts(4, 4, 4) == [0]


def test_later_windows_know_the_last_latents_before_them():
    latent = torch.arange(9.0).view(1, 1, 9, 1, 1).repeat(1, 1, 1, 1, 2)
    mask = torch.ones(1, 1, 9, 1, 2)
    mask[..., 0] = 0
    seen = []

    def fill(window, known):
        seen.append((window[0, 0, :, 0].tolist(), known[0, 0, :, 0].tolist()))
        return torch.where(known == 0, window, window + 100)

    def still(clip):
        return clip[:, :, -1:] + 1000

    whole = fill_in_windows(latent, mask, 5, 2, fill, still)
    assert torch.equal(whole[..., 0], latent[..., 0])
    assert torch.equal(whole[..., 1], latent[..., 1] + 100)
    assert [len(columns) for columns, _ in seen] == [3, 5, 5]
    later, known = seen[1]
    assert later[:2] == [[1001, 1101], [2, 102]] and later[2:] == [[3, 3], [4, 4], [5, 5]]
    assert known == [[0, 0], [0, 0], [0, 1], [0, 1], [0, 1]]
