"""Runs of shots: what each window sees, what of the run is decoded, and finding an end again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchdit.models.extend import context_of, extend_forwards, front_of
from patchdit.models.shot_runs import add_shot, recall

IMAGE = 0.5  # what a still adds to the latent it is made of


class Maker:
    """Numbers new latents 1, 2, ...; keeps what the windows knew and what was decoded."""

    def __init__(self):
        self.made, self.known, self.decoded = 0, [], []

    def fill(self, latent, mask):
        new = int(mask[0, 0, :, 0, 0].sum())
        start = latent.shape[2] - new
        self.known.append(latent[0, 0, :start, 0, 0].tolist())
        filled = latent.clone()
        filled[:, :, start:] = torch.arange(self.made + 1.0, self.made + new + 1).view(-1, 1, 1)
        self.made += new
        return filled

    def still(self, latent):
        self.decoded.append(latent.shape[2])
        return latent[:, :, -1:] + IMAGE

    def run(self, lengths, window, context):
        shots, ends, end = [], [], None
        for length in lengths:
            empty = torch.zeros(1, 2, length, 1, 1)
            shot, end = add_shot(end, empty, window, context, self.fill, self.still)
            shots.append(shot)
            ends.append(end)
        return shots, ends


def numbers(latent):
    return latent[0, 0, :, 0, 0].tolist()


def test_shots_know_the_whole_run_while_it_fits_and_then_the_end_of_its_last_window():
    maker = Maker()
    shots, ends = maker.run([3, 2, 2, 2], 5, 2)
    assert [numbers(shot) for shot in shots] == [[1, 2, 3], [4, 5], [6, 7], [8, 9]]
    assert maker.known == [[], [1, 2, 3], [4 + IMAGE, 5], [6 + IMAGE, 7]]
    assert [numbers(end.last_BCTHW) for end in ends[1:]] == [
        [1, 2, 3, 4, 5],
        [4 + IMAGE, 5, 6, 7],
        [6 + IMAGE, 7, 8, 9],
    ]
    assert [end.latents for end in ends] == [3, 5, 7, 9]


def test_a_shot_longer_than_a_window_goes_on_from_its_own_windows():
    maker = Maker()
    (shot,), (end,) = maker.run([9], 5, 2)
    assert numbers(shot) == list(range(1, 10))
    assert maker.known == [[], [4 + IMAGE, 5], [6 + IMAGE, 7]]
    assert numbers(end.last_BCTHW) == [6 + IMAGE, 7, 8, 9] and end.latents == 9


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(2, 9), st.integers(1, 8))
def test_a_run_however_long_decodes_no_more_than_a_window_at_once(lengths, window, context):
    context = min(context, window - 1)
    maker = Maker()
    shots, _ = maker.run(lengths, window, context)
    assert numbers(torch.cat(shots, 2)) == list(range(1, sum(lengths) + 1))
    assert all(latents <= window for latents in maker.decoded)
    for known in maker.known[1:]:  # in order and without a gap, but for the image at the front
        assert [int(number) for number in known] == list(
            range(int(known[0]), int(known[0]) + len(known))
        )


@pytest.mark.parametrize(("before", "new"), [(3, 2), (3, 3), (5, 2), (5, 9), (1, 4)])
def test_after_a_run_of_one_window_it_is_growing_the_whole_run(before, new):
    maker, other = Maker(), Maker()
    shots, _ = maker.run([before, new], 5, 2)
    run = other.fill(*(torch.full((1, c, before, 1, 1), 1.0) for c in (2, 1)))
    size = 5, min(2, before)
    front = front_of(run, new, *size, other.still)
    longer = extend_forwards(front, new, *size, other.fill, other.still)
    assert torch.equal(shots[1], longer[:, :, front.shape[2] :])
    assert maker.known[1:] == other.known[1:]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(2, 9), st.integers(1, 8))
def test_the_end_of_a_run_of_kept_shots_is_found_again(lengths, window, context):
    context = min(context, window - 1)
    maker = Maker()
    shots, ends = maker.run(lengths, window, context)
    end = None
    for shot, expected in zip(shots, ends, strict=True):
        again, end = add_shot(end, shot, window, context, recall(shot), maker.still)
        assert torch.equal(again, shot) and end.latents == expected.latents
        assert torch.equal(end.last_BCTHW, expected.last_BCTHW)


def test_a_run_of_one_window_is_all_that_the_next_shot_sees():
    (shot,), (end,) = Maker().run([4], 5, 2)
    assert context_of(end.last_BCTHW, 4, pytest.fail) is end.last_BCTHW
    assert torch.equal(end.last_BCTHW, shot)
