"""Windows: nothing known changes, nothing is left out, no window grows too long."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchdit.models.extend import (
    backward_lengths,
    bridge,
    canvas,
    context_of,
    extend_backwards,
    extend_forwards,
    front_of,
    gap,
    window_lengths,
)

IMAGE = -100.0  # what `still` adds, so that an image latent shows where it came from


def numbered(first: int, count: int) -> torch.Tensor:
    """Latents whose values are first, first + 1, ..."""
    return torch.arange(first, first + count).float().view(1, 1, -1, 1, 1)


def numbers(latent) -> list[int]:
    return [int(value) for value in latent.flatten()]


def still(clip):
    return clip[:, :, -1:] + IMAGE


class Filler:
    """Stands for a model: numbers what it makes, window by window, and keeps what it saw."""

    def __init__(self):
        self.windows = []

    def __call__(self, latent, mask):
        self.windows.append((latent.clone(), mask.flatten().tolist()))
        number = 1000 * len(self.windows)
        made = number + torch.arange(latent.shape[2]).view(1, 1, -1, 1, 1)
        return torch.where(mask > 0, made.float(), latent)


sizes = st.integers(2, 12).flatmap(
    lambda window: st.tuples(
        st.just(window), st.integers(1, window - 1), st.integers(1, window - 1)
    )
)


@settings(deadline=None)
@given(sizes, st.integers(1, 60))
def test_window_lengths_sum_and_fit(size, new):
    window, context, known = size
    lengths = window_lengths(new, known, window, context)
    assert sum(lengths) == new and min(lengths) >= 1
    assert known + lengths[0] <= window
    assert all(context + length <= window for length in lengths[1:])
    fewest = 1 if new <= window - known else 1 + -(-(new - window + known) // (window - context))
    assert len(lengths) == fewest
    for i in range(1, len(lengths)):  # a chain that stops early is the chain of what it made
        assert window_lengths(sum(lengths[:i]), known, window, context) == lengths[:i]


@settings(deadline=None)
@given(sizes, st.integers(1, 60))
def test_backward_lengths_make_up_for_the_images_they_lose(size, new):
    window, context, known = size
    if window - context < 2 or known > context:
        return
    lengths = backward_lengths(new, known, window, context)
    assert sum(lengths) - (len(lengths) - 1) == new
    assert all(context + length <= window for length in lengths[1:])
    for i in range(1, len(lengths)):
        made = sum(lengths[:i]) - (i - 1)
        assert backward_lengths(made, known, window, context) == lengths[:i]


@pytest.mark.parametrize("given", [(0, 1, 4, 1), (3, 0, 4, 1), (3, 1, 4, 0)])
def test_nothing_to_make_or_to_know_is_refused(given):
    with pytest.raises(ValueError, match="need 1"):
        window_lengths(*given)


@pytest.mark.parametrize("given", [(3, 4, 4, 1), (3, 1, 4, 4), (3, 9, 4, 1)])
def test_a_window_without_room_is_refused(given):
    with pytest.raises(ValueError, match="make the window longer or the context shorter"):
        window_lengths(*given)


def test_backwards_with_room_for_one_latent_is_refused_and_not_for_ever():
    """Each window would make one latent and lose it to the next."""
    with pytest.raises(ValueError, match="going backwards needs two"):
        backward_lengths(2, 3, 4, 3)
    assert backward_lengths(1, 3, 4, 3) == [1]


@settings(deadline=None)
@given(sizes, st.integers(1, 40))
def test_forwards(size, new):
    window, context, known = size
    front, fill = numbered(1, known), Filler()
    sequence = extend_forwards(front, new, window, context, fill, still)
    assert torch.equal(sequence[:, :, :known], front) and sequence.shape[2] == known + new
    lengths = window_lengths(new, known, window, context)
    assert len(fill.windows) == len(lengths)
    end = known
    for i, ((latent, mask), length) in enumerate(zip(fill.windows, lengths, strict=True)):
        T = latent.shape[2]
        assert window >= T and mask == [0.0] * (T - length) + [1.0] * length
        seen = T - length
        before = sequence[:, :, end - seen : end]
        if i == 0:
            assert torch.equal(latent[:, :, :seen], front)
        else:  # the end of what there is, its first latent as an image
            assert seen <= context and torch.equal(latent[:, :, 1:seen], before[:, :, 1:])
            assert latent[0, 0, 0] in (before[0, 0, 0], before[0, 0, 0] + IMAGE)
        end += length
    assert min(numbers(sequence[:, :, known:])) >= 1000  # no image latent, no empty one


@settings(deadline=None)
@given(sizes, st.integers(1, 40))
def test_backwards(size, new):
    window, context, _ = size
    if window - context < 2:
        return
    front, fill = numbered(1, context), Filler()
    sequence = extend_backwards(front, new, window, context, fill)
    assert torch.equal(sequence[:, :, new:], front) and sequence.shape[2] == new + context
    images = [latent for latent in numbers(sequence) if latent % 1000 == 0]
    assert images == [1000 * len(fill.windows)]  # latent 0 of the last window, and no other
    assert sequence[0, 0, 0] == images[0]
    for latent, mask in fill.windows:
        known = mask.count(0.0)
        assert len(mask) <= window and mask == sorted(mask, reverse=True)
        assert all(value % 1000 for value in numbers(latent[:, :, len(mask) - known :]))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_chain_stops_after_the_window_that_is_watched(stop):
    def ends():
        left = [stop]

        def watch(window, new):
            left[0] -= 1
            return left[0] > 0

        return watch

    forwards, backwards = Filler(), Filler()
    one = extend_forwards(numbered(1, 2), 20, 5, 2, forwards, still, ends())
    assert len(forwards.windows) == stop and one.shape[2] == 2 + 3 * stop
    other = extend_backwards(numbered(1, 2), 20, 5, 2, backwards, ends())
    assert len(backwards.windows) == stop and other.shape[2] == 2 + 3 * stop - (stop - 1)
    assert torch.equal(other[:, :, -2:], numbered(1, 2))
    assert numbers(other)[0] == 1000 * stop


def test_the_front_is_the_whole_clip_where_it_fits():
    clip = numbered(1, 6)
    assert front_of(clip, 3, 9, 3, still) is clip
    assert numbers(front_of(clip, 4, 9, 3, still)) == [4 + IMAGE, 5, 6]
    assert numbers(front_of(clip, 40, 9, 8, still)) == [1, 2, 3, 4, 5, 6]
    assert context_of(clip, 6, still) is clip


def test_a_canvas_holds_the_known_and_marks_the_rest():
    latent = numbered(1, 2).expand(1, 3, 2, 4, 5).clone()
    whole, mask = canvas(latent, 2, 1)
    assert whole.shape == (1, 3, 5, 4, 5) and mask.shape == (1, 1, 5, 4, 5)
    assert torch.equal(whole[:, :, 2:4], latent)
    assert whole[:, :, [0, 1, 4]].abs().max() == 0
    assert mask.amax((0, 1, 3, 4)).tolist() == mask.amin((0, 1, 3, 4)).tolist() == [1, 1, 0, 0, 1]


def test_a_gap_lies_between_both_ends():
    whole, mask = gap(numbered(1, 2), numbered(8, 3), 2)
    assert numbers(whole) == [1, 2, 0, 0, 8, 9, 10] and numbers(mask) == [0, 0, 1, 1, 0, 0, 0]


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 14), st.integers(1, 6), st.integers(5, 11))
def test_a_bridge_keeps_both_clips_and_fits(new, known, tail, window):
    context = 2
    fill, front, tail_end = Filler(), numbered(1, known), numbered(50, tail)
    sequence = bridge(front, tail_end, new, window, context, fill, still)
    assert torch.equal(sequence[:, :, :known], front)
    assert torch.equal(sequence[:, :, known + new :], tail_end)
    assert min(numbers(sequence[:, :, known : known + new])) >= 1000
    latent, mask = fill.windows[-1]  # it sees both ends
    assert mask[0] == 0 and mask[-1] == 0 and 50 in numbers(latent)
    assert all(latent.shape[2] <= window for latent, _ in fill.windows)


def test_a_bridge_without_room_is_refused():
    with pytest.raises(ValueError, match="no room between 2 and 2 known ones"):
        bridge(numbered(1, 2), numbered(5, 2), 1, 4, 2, Filler(), still)
