"""Choosing patches and changing just those: closed forms on small grids."""

from __future__ import annotations

import pytest
import torch

from patchdit.models.config import PatchSize
from patchdit.models.patch_picture import LONG_SIDE, STRIP, draw_patches, principal_colours
from patchdit.models.patches import Grid, patchify
from patchdit.models.selection import (
    channel_statistics,
    combine_selections,
    merge_patches,
    motion,
    patch_frames,
    renoise_patches,
    replace_patches,
    select_box,
    select_frames,
    select_share,
    selection_mask,
    surrounding,
)

PATCH = PatchSize(1, 2, 2)
GRID = Grid(3, 2, 4, PATCH)


def shaped(selected_L: torch.Tensor, grid: Grid = GRID) -> torch.Tensor:
    return selected_L.reshape(-1, grid.t, grid.h, grid.w)[0]


@pytest.mark.parametrize(
    ("first", "last", "times"),
    [(0, 0, [0]), (1, 1, [1]), (4, 4, [1]), (4, 5, [1, 2]), (0, 8, [0, 1, 2]), (5, 8, [2])],
)
def test_frames_choose_the_patches_that_hold_them(first, last, times):
    chosen = shaped(select_frames(GRID, first, last))
    assert (
        [t for t in range(3) if chosen[t].all()] == times == [*chosen.flatten(1).any(1).nonzero()]
    )


def test_patches_of_several_latent_frames_hold_all_their_frames():
    grid = Grid(2, 1, 1, PatchSize(2, 1, 1))
    assert [patch_frames(grid, t) for t in (0, 1)] == [(0, 4), (5, 12)]
    assert select_frames(grid, 4, 4).tolist() == [True, False]
    assert select_frames(grid, 5, 5).tolist() == [False, True]


@pytest.mark.parametrize(
    ("first", "last", "times"),
    [(0, 0, [0]), (1, 8, [1]), (8, 9, [1, 2]), (0, 16, [0, 1, 2]), (16, 16, [2])],
)
def test_frames_of_latents_of_eight(first, last, times):
    assert [patch_frames(GRID, t, 8) for t in range(3)] == [(0, 0), (1, 8), (9, 16)]
    chosen = shaped(select_frames(GRID, first, last, 8))
    assert [t for t in range(3) if chosen[t].all()] == times
    with pytest.raises(ValueError, match=r"Frames 9 to 17 .* has 17; start"):
        select_frames(GRID, 9, 17, 8)


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (3, 2), (0, 9), (9, 9)])
def test_frames_outside_the_clip(first, last):
    with pytest.raises(ValueError, match=f"Frames {first} to {last} .* has 9; start"):
        select_frames(GRID, first, last)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((0, 0, 1, 1), [0, 1], [0, 1, 2, 3]),
        ((0.25, 0.5, 0.5, 0.5), [1], [1, 2]),  # exactly on edges: the neighbours are not chosen
        ((0.24, 0.49, 0.5, 0.1), [0, 1], [0, 1, 2]),
        ((-3, -3, 3.01, 3.01), [0], [0]),  # what lies outside is no part of the frame
        ((0.3, 0.1, 0.001, 0.001), [0], [1]),
    ],
)
def test_a_box_chooses_what_it_covers_at_every_time(box, rows, columns):
    wanted = torch.zeros(3, 2, 4, dtype=torch.bool)
    for row in rows:
        wanted[:, row, columns] = True
    assert torch.equal(shaped(select_box(GRID, box)), wanted)


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (0, 0, 1, -1), (1, 0, 1, 1), (0, -2, 1, 2)])
def test_a_box_that_covers_nothing(box):
    with pytest.raises(ValueError, match="covers nothing of the frame; move x and y"):
        select_box(GRID, box)


def moving(grid: Grid = GRID) -> torch.Tensor:
    """Two videos of noise standing still, one patch of each jumping at the last time."""
    tokens = torch.randn(2, 1, 8, 64).repeat(1, grid.t, 1, 1)
    tokens[0, 2, 3] += 5
    tokens[1, 2, 6] += 5
    return tokens.flatten(1, 2)


def test_motion_is_the_change_from_the_patch_before():
    change = motion(moving(), GRID).unflatten(1, (3, 8))
    assert (change[:, :2] == 0).all() and (change[:, 2] > 0).sum() == 2
    assert change[0, 2, 3] > 0 and change[1, 2, 6] > 0


def test_motion_counts_channels_by_their_deviation():
    tokens = torch.randn(1, 24, 64)
    scaled = tokens * torch.repeat_interleave(torch.logspace(-2, 2, 16), 4) + 3
    torch.testing.assert_close(motion(scaled, GRID), motion(tokens, GRID), rtol=1e-3, atol=1e-3)


def test_shares_choose_that_many_and_the_right_ones():
    tokens = moving()
    assert select_share(tokens, GRID, "motion", 1 / 24).nonzero().tolist() == [[0, 19], [1, 22]]
    still = select_share(tokens, GRID, "stillness", 23 / 24)
    assert (~still).nonzero().tolist() == [[0, 19], [1, 22]]
    for by in ("motion", "stillness", "random"):
        for share, count in ((0.0, 0), (0.25, 6), (1.0, 24)):
            assert select_share(tokens, GRID, by, share, 3).sum(1).tolist() == [count, count]


def test_random_goes_by_the_seed_and_is_one_for_the_batch():
    one, again, other = (select_share(moving(), GRID, "random", 0.5, s) for s in (1, 1, 2))
    assert torch.equal(one, again) and torch.equal(one[0], one[1]) and not torch.equal(one, other)


def test_bad_shares():
    with pytest.raises(ValueError, match=r"share of 1\.5"):
        select_share(moving(), GRID, "random", 1.5)
    with pytest.raises(ValueError, match="Motion needs patches at two times"):
        select_share(torch.zeros(1, 8, 64), Grid(1, 2, 4, PATCH), "motion", 0.5)


def test_combining():
    before = torch.tensor([[True, True, False, False]])
    new = torch.tensor([[True, False, True, False]])
    results = {how: combine_selections(before, new, how)[0].tolist() for how in ALL}
    assert results == {
        "replace": [True, False, True, False],
        "add": [True, True, True, False],
        "remove": [False, True, False, False],
        "intersect": [True, False, False, False],
    }
    first = {how: combine_selections(None, new, how)[0].tolist() for how in ALL}
    assert first["remove"] == (~new)[0].tolist()
    assert first["replace"] == first["add"] == first["intersect"] == new[0].tolist()
    with pytest.raises(ValueError, match="'xor'"):
        combine_selections(before, new, "xor")


ALL = ("replace", "add", "remove", "intersect")


def test_a_selection_as_a_mask_frees_whole_patches():
    selected = torch.zeros(2, 24, dtype=torch.bool)
    selected[1, 8 + 4 + 2] = True  # time 1, row 1, column 2
    mask = selection_mask(selected, GRID)
    assert mask.shape == (2, 1, 3, 4, 8) and mask.sum() == 4
    assert mask[1, 0, 1, 2:4, 4:6].all()


def test_replacing_is_exact_and_only_there():
    target, source = torch.randn(2, 24, 64), torch.randn(1, 24, 64)
    selected = torch.rand(2, 24) < 0.5
    got = replace_patches(target, source, selected)
    assert torch.equal(got[selected], source.expand(2, -1, -1)[selected])
    assert torch.equal(got[~selected], target[~selected])


def test_renoising_keeps_the_rest_bit_for_bit_and_mixes_as_it_says():
    tokens = torch.randn(2, 24, 64) * 3 + torch.arange(64).div(4).floor()
    selected = torch.rand(2, 24) < 0.5
    half, full = (renoise_patches(tokens, GRID, selected, s, 7) for s in (0.5, 1.0))
    assert torch.equal(half[~selected], tokens[~selected])
    torch.testing.assert_close(half, (tokens + full) / 2, rtol=1e-5, atol=1e-5)
    assert torch.equal(renoise_patches(tokens, GRID, selected, 0.0, 7), tokens)
    everything = renoise_patches(tokens, GRID, torch.ones_like(selected), 1.0, 7)
    assert torch.equal(everything[selected], full[selected])  # whatever else is selected
    assert not torch.equal(everything, renoise_patches(tokens, GRID, selected, 1.0, 8))
    with pytest.raises(ValueError, match=r"strength of 1\.1"):
        renoise_patches(tokens, GRID, selected, 1.1, 0)


def test_full_noise_has_each_channels_mean_and_deviation():
    grid = Grid(8, 8, 8, PATCH)
    wanted = torch.arange(16.0)
    tokens = torch.randn(1, 512, 16, 4) * (1 + wanted)[:, None] + 10 * wanted[:, None]
    noisy = renoise_patches(tokens.flatten(2), grid, torch.ones(1, 512, dtype=torch.bool), 1.0, 0)
    mean, deviation = channel_statistics(noisy, grid)
    assert ((mean.flatten() - 10 * wanted) / (1 + wanted)).abs().max() < 0.1
    torch.testing.assert_close(deviation.flatten(), 1 + wanted, rtol=0.1, atol=0)


def test_merging_moves_the_selected_patches():
    base, inserted = torch.randn(2, 24, 4), torch.randn(1, 4, 4)
    small = Grid(1, 2, 2, PATCH)
    selected = torch.tensor([[True, False, True, True]])
    got, placed = merge_patches(base, GRID, inserted, small, selected, (2, 0, 1))
    wanted = base.clone().unflatten(1, (3, 2, 4))
    wanted[:, 2, 0, 1], wanted[:, 2, 1, 1], wanted[:, 2, 1, 2] = inserted[0, [0, 2, 3]]
    assert torch.equal(got, wanted.flatten(1, 3))
    assert placed.nonzero().tolist() == [[b, i] for b in (0, 1) for i in (17, 21, 22)]


def test_merging_differs_by_video():
    base, inserted = torch.zeros(2, 24, 4), torch.ones(2, 24, 4)
    selected = torch.zeros(2, 24, dtype=torch.bool)
    selected[0, 0], selected[1, 1] = True, True
    got, placed = merge_patches(base, GRID, inserted, GRID, selected, (1, 1, 1))
    assert placed.nonzero().tolist() == [[0, 13], [1, 14]]
    assert torch.equal(got, placed[..., None].expand(-1, -1, 4).float())


@pytest.mark.parametrize(
    ("offset", "said"),
    [
        ((3, 0, 0), "With frame 3 the inserted patches reach from frame 3 to 3; .* 0 to 2"),
        ((0, 1, 0), "With row 1 .* row 1 to 2; .* change row"),
        ((0, 0, -1), "With column -1 .* column -1 to 0"),
    ],
)
def test_merging_outside_names_the_setting(offset, said):
    small, every = Grid(1, 2, 2, PATCH), torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=said):
        merge_patches(torch.zeros(1, 24, 4), GRID, torch.zeros(1, 4, 4), small, every, offset)


def test_only_selected_patches_need_room():
    selected = torch.zeros(1, 24, dtype=torch.bool)
    selected[0, 23] = True
    base, inserted = torch.zeros(1, 24, 4), torch.ones(1, 24, 4)
    _, placed = merge_patches(base, GRID, inserted, GRID, selected, (-2, -1, -3))
    assert placed.nonzero().tolist() == [[0, 0]]
    none, nowhere = merge_patches(base, GRID, inserted, GRID, selected & False, (99, 0, 0))
    assert torch.equal(none, base) and not nowhere.any()


def test_the_surrounding_of_a_patch_is_its_26_neighbours():
    grid = Grid(5, 5, 5, PATCH)
    selected = torch.zeros(1, 125, dtype=torch.bool)
    selected[0, 62] = True
    ring = shaped(surrounding(selected, grid), grid)
    wanted = torch.zeros(5, 5, 5, dtype=torch.bool)
    wanted[1:4, 1:4, 1:4] = True
    wanted[2, 2, 2] = False
    assert torch.equal(ring, wanted)
    assert surrounding(torch.ones(1, 125, dtype=torch.bool), grid).sum() == 0


def test_colours_ignore_the_scale_of_channels_and_span_their_range():
    latent = torch.randn(16, 3, 4, 4)
    colours = principal_colours(latent)
    scale, shift = torch.logspace(-1, 1, 16), torch.arange(16.0)
    other = principal_colours(latent * scale[:, None, None, None] + shift[:, None, None, None])
    assert colours.shape == (3, 4, 4, 3) and colours.min() >= 0 and colours.max() <= 1
    torch.testing.assert_close(colours, other, rtol=0, atol=1e-2)
    torch.testing.assert_close(colours.mean((0, 1, 2)), torch.full((3,), 0.5), rtol=0, atol=0.05)
    assert principal_colours(torch.zeros(2, 1, 2, 2)).unique().tolist() == [0.5]


def test_a_picture_tints_the_selected_and_darkens_the_rest():
    picture = torch.full((32, 64, 3), 0.5)
    selected = torch.zeros(24, dtype=torch.bool)
    selected[8] = True  # time 1, the upper left patch
    plain, drawn = draw_patches(picture, GRID, 1, None), draw_patches(picture, GRID, 1, selected)
    assert plain.shape == drawn.shape == (LONG_SIDE // 2 + STRIP, LONG_SIDE, 3)
    inside, outside = drawn[100, 100], drawn[100, 300]
    assert inside[0] > inside[2] + 0.1 and torch.equal(outside, outside[:1].expand(3))
    assert outside[0] < plain[100, 300, 0] == pytest.approx(128 / 255)
    other_time = draw_patches(picture, GRID, 0, selected)
    assert torch.equal(other_time[100, 100], outside)


def test_motion_of_real_patches_finds_a_moving_square():
    latent = torch.zeros(1, 16, 3, 4, 8)
    for t in range(3):
        latent[:, :, t, 0:2, 2 * t : 2 * t + 2] = 1
    tokens, grid = patchify(latent, PATCH)
    chosen = shaped(select_share(tokens, grid, "motion", 6 / 24), grid)
    assert chosen[:, 0].int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0]]
    assert not chosen[:, 1].any()
