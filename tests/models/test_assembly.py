"""Pieces of a clip: given frames stay, made ones begin where the given ones end.

A latent frame here holds four numbers or, the first, one: its decoded frames' grey.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchdit.models.assembly import (
    Given,
    Made,
    between,
    crop,
    pad_to,
    play,
    residuals,
    with_latent,
)

SIZE = 4, 6


def grey(level: float, size=SIZE) -> torch.Tensor:
    return torch.full((*size, 3), float(level))


def decode(latent_1CTHW):
    """Each value of latent_1CTHW[0] along time is a frame's grey; in uneven chunks, as a VAE."""
    frames = torch.stack([grey(level) for level in latent_1CTHW.flatten().tolist()])
    yield frames[:1]
    yield from frames[1:].split(4)


def latent(*levels) -> torch.Tensor:
    return torch.tensor(levels, dtype=torch.float32).view(1, 1, -1, 1, 1)


def levels(chunks) -> list[float]:
    frames = torch.cat(list(chunks))
    assert torch.equal(frames, frames[:, :1, :1, :1].expand_as(frames))
    return frames[:, 0, 0, 0].tolist()


def noise(frames, size=SIZE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, *size, 3, generator=generator)


def test_given_frames_are_played_bit_for_bit():
    a, b = noise(5), noise(3, seed=1)
    made = Made(latent(0.1, 0.2, 0.3), 1, 2)
    frames = torch.cat(list(play([Given(a), made, Given(b[:0]), Given(b)], decode)))
    assert torch.equal(frames[:5], a) and torch.equal(frames[-3:], b)
    assert levels([frames[5:7]]) == pytest.approx([0.2, 0.3])


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(0, 6))
def test_a_made_piece_is_its_frames_alone(first, count):
    made = Made(latent(*(i / 16 for i in range(12))), first, count)
    chunks = list(play([made], decode))
    assert made.frames == count == sum(map(len, chunks))
    if count:
        assert levels(chunks) == [i / 16 for i in range(first, first + count)]


@pytest.mark.parametrize("fade", [1, 3, 8])
def test_the_residual_before_fades_to_nothing_in_closed_form(fade):
    """The decoder loses 0.1 of a grey of 0.5; frame i after it gets back 0.1 (1 - i/(fade+1))."""
    made = Made(latent(*[0.4] * 14), 2, 12, before_HWC=grey(0.5), fade=fade)
    expected = [0.4 + 0.1 * max(0, 1 - i / (fade + 1)) for i in range(1, 13)]
    assert levels(play([made], decode)) == pytest.approx(expected)
    steps = [b - a for a, b in pairwise([0.5, *expected])]
    assert max(map(abs, steps)) == pytest.approx(0.1 / (fade + 1))  # was 0.1 at the seam
    assert expected[fade:] == [0.4] * (12 - fade)


def test_the_residual_after_grows_towards_the_seam():
    made = Made(latent(*[0.4] * 14), 0, 12, after_HWC=grey(0.5), fade=3)
    assert levels(play([made], decode)) == pytest.approx([0.4] * 9 + [0.425, 0.45, 0.475])


@settings(deadline=None)
@given(st.integers(1, 20), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_between_two_residuals_no_step_is_larger_than_the_larger_needs(count, lead, trail):
    made = Made(latent(*[0.5] * (count + 2)), 1, count, grey(0.5 + lead), grey(0.5 + trail))
    whole = [0.5 + lead, *levels(play([made], decode)), 0.5 + trail]
    most = (abs(lead) + abs(trail)) / (min(count, 8) + 1)
    assert max(abs(b - a) for a, b in pairwise(whole)) <= most + 1e-6


def test_residuals_are_of_the_neighbours_and_only_of_those_that_are_there():
    made = Made(latent(0.1, 0.2, 0.3, 0.4, 0.5), 2, 2, grey(0.25), grey(0.45))
    lead, trail = residuals(made, decode)
    assert lead is not None and trail is not None
    assert lead.lost_HWC.flatten().tolist() == pytest.approx([0.05] * 72)
    assert trail.lost_HWC.flatten().tolist() == pytest.approx([-0.05] * 72)
    assert residuals(Made(latent(0.1, 0.2), 0, 2, grey(0.9)), decode) == (None, None)
    assert residuals(Made(latent(0.1, 0.2), 0, 1), decode) == (None, None)


def test_a_residual_leaves_no_ghost_where_the_picture_has_moved_on():
    """A decoder that sees a blurred square lose its edge; the square then leaves the picture."""
    with_square, without = torch.full((16, 16, 3), 0.3), torch.full((16, 16, 3), 0.3)
    with_square[2:6, 2:6] = 0.8
    sharp = with_square.clone()
    sharp[2:6, 2:6] = 1.0
    sharp[12:, 12:] = 0.35  # and a corner that stays

    def movie(latent_1CTHW):
        yield torch.stack([with_square, without, without])

    made = Made(latent(0, 0, 0), 1, 2, before_HWC=sharp, fade=1)
    frames = torch.cat(list(play([made], movie)))
    assert (frames[0, :8, :8] - 0.3).abs().max() < 1e-6  # not a trace of the square
    assert frames[0, 13:, 13:].mean().item() == pytest.approx(0.325)  # half of what was lost


def test_made_frames_stay_within_the_range():
    made = Made(latent(*[0.99] * 4), 1, 3, before_HWC=grey(1.0) + 0.5)
    assert max(levels(play([made], decode))) == 1.0


def test_a_rise_in_the_frame_rate_mixes_neighbours_and_begins_with_the_true_frame():
    """Made at 8, shown at 24: a ramp of 0.1 a frame is one of 0.1 / 3."""
    places = tuple((i + 1) / 3 for i in range(6))
    made = Made(latent(0.1, 0.2, 0.3), 1, 2, before_HWC=grey(0.1), shown=places)
    expected = [0.1 + 0.1 * (i + 1) / 3 for i in range(6)]
    assert made.frames == 6 and levels(play([made], decode)) == pytest.approx(expected)


def test_a_fall_in_the_frame_rate_passes_frames_over():
    made = Made(latent(*(i / 10 for i in range(7))), 1, 6, shown=(2.0, 4.0, 6.0))
    assert levels(play([made], decode)) == pytest.approx([0.2, 0.4, 0.6])


@settings(deadline=None)
@given(st.lists(st.floats(0, 7), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_places_on_a_ramp_show_the_ramp(places, before, after):
    """Also before the first and after the last frame, where a neighbour is given."""
    places = sorted(places)
    ends = grey(0) if before else None, grey(0.7) if after else None
    low, high = (0 if before else 1), (7 if after else 6)
    frames = between(iter(grey(i / 10) for i in range(1, 7)), places, *ends)
    shown = levels(frame[None] for frame in frames)
    assert shown == pytest.approx([min(max(p, low), high) / 10 for p in places], abs=1e-6)


def test_whole_places_are_exact():
    frames = noise(4)
    shown = torch.stack(list(between(iter(frames), (1.0, 2.0, 4.0), noise(1)[0], None)))
    assert torch.equal(shown, frames[[0, 1, 3]])


def test_no_frames_at_all_have_no_place():
    with pytest.raises(ValueError, match="A clip of 0 frames has none at place 1"):
        list(between(iter(()), (1.0,), grey(0), None))


def test_kept_regions_show_through_exactly_where_they_are_kept_whole():
    own = noise(2)
    share = torch.zeros(1, *SIZE)
    share[:, :, :2], share[:, :, 2] = 1, 0.5
    made = Made(latent(0.25, 0.75), 0, 2, kept_FHWC=own, kept_FHW=share)
    frames = torch.cat(list(play([made], decode)))
    assert torch.equal(frames[:, :, :2], own[:, :, :2])
    decoded = torch.tensor([0.25, 0.75]).view(2, 1, 1, 1)
    assert torch.equal(frames[:, :, 3:], decoded.expand(2, 4, 3, 3))
    assert torch.allclose(frames[:, :, 2], (own[:, :, 2] + decoded[:, :, 0]) / 2)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([8, 16]))
def test_padding_repeats_edges_and_is_cut_off_again(H, W, multiple):
    frames = noise(1, (H, W))
    padded = pad_to(frames, multiple)
    assert [size % multiple for size in padded.shape[1:3]] == [0, 0]
    assert padded.shape[1] - H < multiple and padded.shape[2] - W < multiple
    assert torch.equal(crop(padded, (H, W)), frames)
    assert torch.equal(padded[:, H:, :W], frames[:, -1:].expand(-1, padded.shape[1] - H, -1, -1))
    assert torch.equal(padded[:, -1, -1], frames[:, -1, -1])
    assert torch.equal(padded[:, :H, W:].amax(2) if padded.shape[2] > W else frames[:, :, -1],
                       frames[:, :, -1])  # fmt: skip


def test_a_larger_latent_is_cut_to_the_clip_and_to_its_residual():
    made = Made(latent(0.2, 0.2, 0.2), 1, 2, before_HWC=grey(0.5, (3, 5)), size=(3, 5))
    frames = torch.cat(list(play([made], decode)))
    assert frames.shape == (2, 3, 5, 3) and frames[0, 0, 0, 0] > 0.3


def test_pieces_take_another_latent_and_given_ones_stay():
    pieces = Given(noise(2)), Made(latent(0.1, 0.1), 0, 2)
    other = with_latent(pieces, latent(0.3, 0.4))
    assert other[0] is pieces[0] and levels(play(other[1:], decode)) == pytest.approx([0.3, 0.4])
    assert levels(play(pieces[1:], decode)) == pytest.approx([0.1, 0.1])
