"""Patches are exact inverses, time-major, and refuse what they cannot cut."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchdit.models.config import PatchSize
from patchdit.models.patches import Grid, patchify, spread_maximum, token_maximum, unpatchify

SIZE = st.integers(1, 3)


@settings(deadline=None, max_examples=50)
@given(st.tuples(SIZE, SIZE, SIZE), st.tuples(SIZE, SIZE, SIZE), SIZE)
def test_unpatchify_is_the_exact_inverse(patch, grid, channels):
    shape = [p * g for p, g in zip(patch, grid, strict=True)]
    x = torch.randn(2, channels, *shape)
    tokens, found = patchify(x, PatchSize(*patch))
    assert found == Grid(*grid, PatchSize(*patch))
    assert tokens.shape == (2, found.tokens, channels * patch[0] * patch[1] * patch[2])
    assert torch.equal(unpatchify(tokens, found), x)


def test_tokens_are_time_major_and_their_values_run_channel_first():
    x = torch.arange(2 * 4 * 4 * 4.0).view(1, 2, 4, 4, 4)
    tokens, grid = patchify(x, PatchSize(2, 2, 2))
    prefix, _ = patchify(x[:, :, :2], PatchSize(2, 2, 2))
    assert torch.equal(tokens[:, : prefix.shape[1]], prefix)
    t, h, w = grid.positions()[5].tolist()
    cell = x[0, :, 2 * t : 2 * t + 2, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2]
    assert torch.equal(tokens[0, 5], cell.flatten())


def test_positions_count_rows_before_frames():
    assert Grid(2, 1, 2, PatchSize()).positions().tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [1, 0, 0],
        [1, 0, 1],
    ]


def test_a_token_is_as_noisy_as_its_noisiest_cell():
    values = torch.zeros(1, 1, 2, 4)
    values[0, 0, 1, 2] = 0.5
    assert token_maximum(values, PatchSize()).tolist() == [[0.0, 0.5]]
    assert spread_maximum(values, PatchSize())[0, 0].tolist() == [[0, 0, 0.5, 0.5]] * 2


@pytest.mark.parametrize("shape", [(1, 4, 1, 3, 4), (1, 4, 1, 4, 5), (1, 4, 1, 0, 4)])
def test_sizes_off_the_grid_are_refused_with_their_numbers(shape):
    with pytest.raises(ValueError, match=r"Latent is 1x\dx\d .* multiples of patch \(1, 2, 2\)"):
        patchify(torch.zeros(shape), PatchSize())


def test_wrong_ranks_and_token_counts_are_refused():
    with pytest.raises(ValueError, match="5 dimensions"):
        patchify(torch.zeros(1, 4, 4, 4), PatchSize())
    with pytest.raises(ValueError, match="needs 4 tokens of a multiple of 4 values"):
        unpatchify(torch.zeros(1, 5, 4), Grid(1, 2, 2, PatchSize()))
    with pytest.raises(ValueError, match="at least one patch"):
        Grid(0, 1, 1, PatchSize())
