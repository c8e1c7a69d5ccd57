"""Pieces of a clip: given frames stay, made ones begin where the given ones end.

A latent frame here holds four numbers or, the first, one: its decoded frames' grey.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import cos, pi

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
    """The decoder loses 0.1 of a grey of 0.5; frame i gets back 0.1 cos^2(i/(fade+1) pi/2)."""
    made = Made(latent(*[0.4] * 14), 2, 12, before_HWC=grey(0.5), fade=fade)
    shares = [cos(min(i / (fade + 1), 1) * pi / 2) ** 2 for i in range(1, 13)]
    expected = [0.4 + 0.1 * share for share in shares]
    shown = levels(play([made], decode))
    assert shown == pytest.approx(expected)
    steps = [abs(b - a) for a, b in pairwise([0.5, *shown])]  # was 0.1 at the seam
    assert max(steps) <= 0.1 * pi / 2 / (fade + 1) + 1e-6
    assert steps[0] == pytest.approx(steps[fade], abs=1e-6) == pytest.approx(min(steps[: fade + 1]))
    assert shown[fade:] == pytest.approx([0.4] * (12 - fade))


def test_the_residual_after_grows_towards_the_seam():
    made = Made(latent(*[0.4] * 14), 0, 12, after_HWC=grey(0.5), fade=3)
    grown = [0.4 + 0.1 * cos(i * pi / 8) ** 2 for i in (3, 2, 1)]
    assert levels(play([made], decode)) == pytest.approx([0.4] * 9 + grown)


@settings(deadline=None)
@given(st.integers(1, 20), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_between_two_residuals_no_step_is_larger_than_the_larger_needs(count, lead, trail):
    made = Made(latent(*[0.5] * (count + 2)), 1, count, grey(0.5 + lead), grey(0.5 + trail))
    whole = [0.5 + lead, *levels(play([made], decode)), 0.5 + trail]
    most = (abs(lead) + abs(trail)) * pi / 2 / (min(count, 16) + 1)
    assert max(abs(b - a) for a, b in pairwise(whole)) <= most + 1e-6


def test_residuals_are_of_the_neighbours_and_only_of_those_that_are_there():
    values = 0.1, 0.2, 0.2, 0.2, 0.4
    made = Made(latent(*values), 2, 1, before_HWC=grey(0.25), after_HWC=grey(0.15))
    assert levels(play([made], decode)) == pytest.approx([0.2 + 0.05 / 2 - 0.05 / 2])
    alone = Made(latent(*values), 0, 5, before_HWC=grey(0.9), after_HWC=grey(0.9))
    assert levels(play([alone], decode)) == pytest.approx(values)


def test_pieces_of_one_latent_are_decoded_in_one_pass():
    """Two made pieces between three given frames, each with a frame after it: one decoding."""
    values, passes = latent(*(i / 32 for i in range(17))), []

    def counted(latent_1CTHW):
        passes.append(0)
        for chunk in decode(latent_1CTHW):
            passes[-1] += len(chunk)
            yield chunk

    first, middle, last = (grey(i / 32 + 0.01) for i in (0, 8, 16))
    one = Made(values, 1, 7, first, middle)
    other = Made(values, 9, 7, middle, last)
    pieces = [Given(first[None]), one, Given(middle[None]), other, Given(last[None])]
    whole = torch.cat(list(play(pieces, counted)))
    assert passes == [17]
    apart = [torch.cat(list(play([piece], decode))) for piece in (one, other)]
    assert torch.equal(whole[1:8], apart[0]) and torch.equal(whole[9:16], apart[1])
    backwards = list(play([other, one], counted))
    assert passes == [17, 17, 9] and torch.equal(torch.cat(backwards)[7:], apart[0])


def test_a_small_jump_at_the_seam_is_spread_over_the_fade():
    """The made frames are 0.03 brighter than the last given one, which was decoded well."""
    made = Made(latent(0.2, *[0.23] * 5), 1, 5, before_HWC=grey(0.2), fade=2)
    shown = levels(play([made], decode))
    assert shown == pytest.approx([0.2075, 0.2225, 0.23, 0.23, 0.23], abs=5e-4)


def test_what_moves_too_far_to_follow_is_shown_where_it_is():
    """A square jumps by three of its widths a frame: it neither stays behind nor fades in."""
    clip = torch.full((4, 32, 96, 3), 0.3)
    for i in range(4):
        clip[i, 12:20, 4 + 24 * i : 12 + 24 * i] = torch.tensor([1.0, 0.2, 0.1])
    made = Made(latent(0), 1, 3, before_HWC=clip[0])
    shown = torch.cat(list(play([made], movie_of(clip))))
    assert (shown - clip[1:]).abs().max() < 0.03


def movie_of(frames_FHWC):
    return lambda latent_1CTHW: iter([frames_FHWC])


def moving(frames: int, step: int) -> torch.Tensor:
    """A dark picture with a bright square that moves to the right by `step` a frame."""
    clip = torch.full((frames, 32, 32, 3), 0.2)
    for i in range(frames):
        clip[i, 10:22, 4 + step * i : 16 + step * i] = 0.8
    return clip


@pytest.mark.parametrize("way", ["forwards", "backwards"])
def test_a_residual_moves_with_what_it_belongs_to(way):
    """The decoder dims a moving square by 0.1; that is given back to it, not to where it was."""
    true = moving(6, 2)
    square = true > 0.5
    dim = true - 0.1 * square
    if way == "forwards":
        made, own = Made(latent(0), 1, 5, before_HWC=true[0]), slice(1, 6)
    else:
        made, own = Made(latent(0), 0, 5, after_HWC=true[5]), slice(0, 5)
        true, dim, square = true.flip(2), dim.flip(2), square.flip(2)
        made = replace(made, after_HWC=true[5])
    shown = torch.cat(list(play([made], movie_of(dim))))
    distance = torch.arange(1.0, 6) if way == "forwards" else torch.arange(5.0, 0, -1)
    expected = dim[own] + 0.1 * ((distance / 6 * pi / 2).cos() ** 2).view(5, 1, 1, 1) * square[own]
    inside = square[own] & square[own].roll(3, 2) & square[own].roll(-3, 2)
    assert (shown - expected)[inside].abs().mean() < 0.005
    assert (shown - expected).abs().mean() < 0.003  # nor is a trace of it left behind


def test_a_residual_ends_where_the_picture_changes():
    """A decoder that sees a square's edge softened; after a frame the square is gone."""
    with_square, without = torch.full((16, 16, 3), 0.3), torch.full((16, 16, 3), 0.3)
    with_square[2:6, 2:6] = 0.9
    sharp = with_square.clone()
    sharp[2:6, 2:6] = 1.0
    sharp[12:, 12:] = 0.35  # and a corner that stays
    frames = torch.stack([with_square, with_square, without, without])
    made = Made(latent(0), 1, 3, before_HWC=sharp, fade=3)
    shown = torch.cat(list(play([made], movie_of(frames))))
    assert (shown[1:, :8, :8] - 0.3).abs().max() < 0.01  # hardly a trace of the square
    corners = shown[:, 13:, 13:].mean((1, 2, 3))
    assert corners.tolist() == pytest.approx(
        [0.3 + 0.05 * cos(i * pi / 8) ** 2 for i in (1, 2, 3)], abs=2e-3
    )


def test_made_frames_stay_within_the_range():
    made = Made(latent(*[0.99] * 4), 1, 3, before_HWC=grey(1.0) + 0.5)
    assert max(levels(play([made], decode))) == 1.0


def test_a_rise_in_the_frame_rate_mixes_neighbours_and_begins_with_the_true_frame():
    """Made at 8, shown at 24: a ramp of 0.1 a frame is one of 0.1 / 3."""
    places = tuple((i + 1) / 3 for i in range(6))
    made = Made(latent(0.1, 0.2, 0.3), 1, 2, before_HWC=grey(0.1), shown=places, fade=0)
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


def test_a_kept_region_smaller_than_the_frame_goes_on_around_itself():
    """As a copy as large as the frame, which nobody has to hold."""
    own, share = noise(2, (2, 3)), torch.rand(1, *SIZE)
    share[:, 1:3, 2:5] = 1
    rows, columns = torch.arange(-1, SIZE[0] - 1), torch.arange(-2, SIZE[1] - 2)
    wide = own[:, rows.clamp(0, 1)][:, :, columns.clamp(0, 2)]
    both = [
        Made(latent(0.25, 0.75), 0, 2, kept_FHWC=kept, kept_FHW=share, kept_at=at)
        for kept, at in ((own, (1, 2)), (wide, (0, 0)))
    ]
    small, large = (torch.cat(list(play([made], decode))) for made in both)
    assert torch.equal(small, large) and torch.equal(small[:, 1:3, 2:5], own)


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
