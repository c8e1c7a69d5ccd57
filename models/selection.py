"""Choosing patches of a latent video, and changing just those.

Shapes: B batch, C channels, T H W latent frames, rows, columns, L tokens, P values of a patch.
A selection is bool, (L) or (B,L), true where a patch is chosen. Pixel frames follow `timeline`.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from .patches import Grid, unpatchify
from .timeline import STRIDE, first_pixel_frame, pixel_frames

COMBINATIONS = ("replace", "add", "remove", "intersect")
SHARES = ("motion", "stillness", "random")
Box = tuple[float, float, float, float]


def patch_frames(grid: Grid, time: int, stride: int = STRIDE) -> tuple[int, int]:
    """The first and the last pixel frame of the patches at a place along the grid's time."""
    first = time * grid.patch.t
    return first_pixel_frame(first, stride), stride * (first + grid.patch.t - 1)


def select_frames(grid: Grid, first: int, last: int, stride: int = STRIDE) -> Tensor:
    """Patches (L) that hold any of the pixel frames `first` to `last`, both included.

    A patch holds `stride` frames or more (one in latent 0), so the choice may reach beyond the
    range.
    """
    frames = pixel_frames(grid.latent_shape[0], stride)
    if not 0 <= first <= last < frames:
        raise ValueError(
            f"Frames {first} to {last} are not a range of this clip, which has {frames}; start must"
            f" be at least 0, end at least start and at most frame {frames - 1}."
        )
    spans = [patch_frames(grid, time, stride) for time in range(grid.t)]
    chosen_T = torch.tensor([low <= last and high >= first for low, high in spans])
    return chosen_T.repeat_interleave(grid.h * grid.w)


def select_box(grid: Grid, box: Box) -> Tensor:
    """Patches (L) that a box covers any part of, through all of time.

    `box` is x, y, width and height in fractions of the frame, from its upper left corner.
    """
    x, y, width, height = box
    chosen_h = _touched(grid.h, y, height)
    chosen_w = _touched(grid.w, x, width)
    if not (width > 0 and height > 0 and chosen_h.any() and chosen_w.any()):
        raise ValueError(
            f"The box at x {x:g}, y {y:g} of width {width:g} and height {height:g} (fractions of "
            "the frame) covers nothing of the frame; move x and y inside or give it a size."
        )
    return (chosen_h[:, None] & chosen_w).flatten().repeat(grid.t)


def _touched(patches: int, start: float, length: float) -> Tensor:
    """Which of equal parts of 0..1 an interval overlaps; touching an edge is not enough."""
    low = torch.arange(patches, dtype=torch.float64) / patches
    slack = 1e-6 / patches
    return (low < start + length - slack) & (low + 1 / patches > start + slack)


def select_share(tokens_BLP: Tensor, grid: Grid, by: str, share: float, seed: int = 0) -> Tensor:
    """A share 0..1 of each video's patches (B,L): most or least "motion", or at "random".

    Random patches are the same in every video of the batch. Equal patches go in token order.
    """
    if by not in SHARES or not 0 <= share <= 1:
        raise ValueError(
            f"Got a share of {share:g} by {by!r}; need a share of 0 to 1, by {', '.join(SHARES)}."
        )
    B, L, _ = tokens_BLP.shape
    if by == "random":
        order_BL = torch.randperm(L, generator=torch.Generator().manual_seed(seed)).expand(B, L)
    else:
        change_BL = motion(tokens_BLP, grid)
        order_BL = change_BL.argsort(dim=1, descending=by == "motion", stable=True)
    chosen_BL = torch.zeros(B, L, dtype=torch.bool, device=order_BL.device)
    return chosen_BL.scatter(1, order_BL[:, : round(share * L)], True)


def motion(tokens_BLP: Tensor, grid: Grid) -> Tensor:
    """How much each patch changes (B,L): RMS difference from the patch before it in time.

    Every channel counts in units of its own deviation. The first patches of a clip have none
    before them and count the change to the next.
    """
    if grid.t < 2:
        raise ValueError(
            "Motion needs patches at two times or more; this video has one: choose by something "
            "else than motion or stillness."
        )
    deviation_B1C1 = channel_statistics(tokens_BLP, grid)[1].clamp(min=1e-6)
    scaled_BLCP = by_channel(tokens_BLP, grid) / deviation_B1C1
    change = scaled_BLCP.unflatten(1, (grid.t, -1)).diff(dim=1).square().mean(dim=(3, 4)).sqrt()
    return torch.cat([change[:, :1], change], dim=1).flatten(1)


def combine_selections(before_BL: Tensor | None, chosen_BL: Tensor, how: str) -> Tensor:
    """A new choice and the one before it as one, (B,L).

    Where nothing was selected yet, "add" starts from no patches, the others from all.
    """
    if how not in COMBINATIONS:
        raise ValueError(f"Got combine {how!r}; need one of {', '.join(COMBINATIONS)}.")
    if how == "replace":
        return chosen_BL.clone()
    if before_BL is None:
        before_BL = torch.full_like(chosen_BL, how != "add")
    if how == "add":
        return before_BL | chosen_BL
    return before_BL & (chosen_BL if how == "intersect" else ~chosen_BL)


def selection_mask(selected_BL: Tensor, grid: Grid) -> Tensor:
    """The selection on the latent grid, (B,1,T,H,W) float: 1 in every cell of chosen patches."""
    cells = prod(grid.patch)
    return unpatchify(selected_BL.float().unsqueeze(-1).expand(-1, -1, cells), grid)


def replace_patches(target_BLP: Tensor, source_BLP: Tensor, selected_BL: Tensor) -> Tensor:
    """The target with the source's values where selected; a source of one video serves all."""
    source = source_BLP.to(target_BLP)
    return torch.where(selected_BL[..., None].to(target_BLP.device), source, target_BLP)


def renoise_patches(
    tokens_BLP: Tensor, grid: Grid, selected_BL: Tensor, strength: float, seed: int
) -> Tensor:
    """Selected clean patches moved towards noise, (1 - s) x + s (mean + std eps); others as given.

    Mean and deviation are those of each channel of each video. A patch's noise depends on the
    seed and its place alone, not on what else is selected.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"Got a strength of {strength:g}; need 0 (as it is) to 1 (only noise).")
    mean, deviation = channel_statistics(tokens_BLP, grid)
    noise_BLP = torch.randn(tokens_BLP.shape, generator=torch.Generator().manual_seed(seed))
    noise = mean + deviation * by_channel(noise_BLP.to(tokens_BLP.device), grid)
    mixed = (1 - strength) * tokens_BLP.float() + strength * noise.flatten(2)
    return replace_patches(tokens_BLP, mixed, selected_BL)


def channel_statistics(tokens_BLP: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of each video, both (B,1,C,1) float."""
    cells_BLCP = by_channel(tokens_BLP, grid)
    mean = cells_BLCP.mean(dim=(1, 3), keepdim=True)
    return mean, cells_BLCP.var(dim=(1, 3), keepdim=True, correction=0).sqrt()


def by_channel(tokens_BLP: Tensor, grid: Grid) -> Tensor:
    """The values of tokens apart by channel, (B,L,C,cells of a patch) float."""
    return tokens_BLP.float().unflatten(-1, (-1, prod(grid.patch)))


def merge_patches(
    base_BLP: Tensor,
    base_grid: Grid,
    inserted_BLP: Tensor,
    inserted_grid: Grid,
    selected_BL: Tensor,
    offset: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """The base with selected patches of another video put in, and where they went, (B,L).

    `offset` (frames, rows, columns, in patches, may be negative) is added to a patch's place in
    its own video. One inserted video serves a whole batch; patches have one size.
    """
    places_L3 = inserted_grid.positions() + torch.tensor(offset)
    wanted_L = selected_BL.any(dim=0).cpu()
    sizes = (base_grid.t, base_grid.h, base_grid.w)
    for axis, name in enumerate(("frame", "row", "column")):
        used = places_L3[wanted_L, axis]
        if len(used) and not 0 <= int(used.min()) <= int(used.max()) < sizes[axis]:
            raise ValueError(
                f"With {name} {offset[axis]} the inserted patches reach from {name}"
                f" {int(used.min())} to {int(used.max())}; the base has {name}s 0 to"
                f" {sizes[axis] - 1}: change {name} or select fewer patches."
            )
    sources = wanted_L.nonzero().flatten()
    place_L = (places_L3 * torch.tensor([sizes[1] * sizes[2], sizes[2], 1])).sum(dim=1)[sources]
    chosen_BL = selected_BL[:, sources].to(base_BLP.device)
    merged_BLP = base_BLP.clone()
    merged_BLP[:, place_L] = replace_patches(
        base_BLP[:, place_L], inserted_BLP[:, sources], chosen_BL
    )
    placed_BL = torch.zeros(base_BLP.shape[:2], dtype=torch.bool, device=base_BLP.device)
    placed_BL[:, place_L] = chosen_BL
    return merged_BLP, placed_BL


def surrounding(selected_BL: Tensor, grid: Grid) -> Tensor:
    """The unselected patches (B,L) next to selected ones: in time, rows, columns or diagonally."""
    cells = selected_BL.float().unflatten(1, (1, grid.t, grid.h, grid.w))
    near_BL = F.max_pool3d(cells, 3, stride=1, padding=1).flatten(1) > 0
    return near_BL & ~selected_BL
