"""Changing a clip's frame: where its pixels go in the new one, what is known, windows in time.

Sizes are (height, width) in pixels, anchors (down, across) in 0..1. B batch, C channels, F pixel
frames, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .extend import Fill, Still, canvas, context_of


@dataclass(frozen=True)
class Side:
    """One axis: pixels `start` .. `start + length` - 1 of the clip go to `place` in the frame."""

    start: int
    length: int
    place: int
    size: int  # of the new frame

    @property
    def own(self) -> slice:
        """What of the clip is kept."""
        return slice(self.start, self.start + self.length)

    @property
    def kept(self) -> slice:
        """Where it lies in the new frame."""
        return slice(self.place, self.place + self.length)


def side_at(old: int, new: int, anchor: float, grid: int) -> Side:
    """A side of `old` pixels in one of `new`: 0 puts the clip at the beginning, 1 at the end.

    Between the two ends, a clip with room around it begins at a multiple of `grid`.
    """
    if new <= old:
        return Side(round(anchor * (old - new)), new, 0, new)
    room = new - old
    place = room if anchor == 1 else min(grid * round(anchor * room / grid), room // grid * grid)
    return Side(0, old, place, new)


def size_for(
    old: tuple[int, int], ratio: tuple[int, int], widen: bool, grid: int
) -> tuple[int, int]:
    """The size of a frame of another shape around the old one, or in it.

    One side stays; the other is the nearest multiple of `grid`, never on the old one's wrong side.
    """
    taller = ratio[0] * old[1] > old[0] * ratio[1]  # than the old frame
    side, bound = (0 if taller == widen else 1), (max if widen else min)
    exact = old[1 - side] * ratio[side] / ratio[1 - side]
    if round(exact) == old[side]:
        return old
    size = list(old)
    size[side] = bound(max(grid * round(exact / grid), grid), old[side])
    return size[0], size[1]


def kept_shares(rows: Side, columns: Side, feather: int) -> Tensor:
    """How much of the clip shows in the new frame, share_1HW: 1 inside, fading over `feather`."""
    away = []
    for side in (rows, columns):
        at = torch.arange(side.size)
        away.append((side.place - at).clamp(min=0) + (at - side.kept.stop + 1).clamp(min=0))
    distance_HW = torch.hypot(away[0][:, None].float(), away[1][None].float())
    return (1 - distance_HW / (feather + 1)).clamp(min=0)[None]


def mask_outside(share_1HW: Tensor, latent_BCTHW: Tensor, stride: int, cells: int) -> Tensor:
    """The noise mask_B1THW: 0 for patches that are wholly inside (share 1), else 1.

    A patch is `cells` latent cells of `stride` pixels wide and high.
    """
    H, W = latent_BCTHW.shape[-2:]
    inside = F.pad((share_1HW >= 1).float(), (0, W * stride - share_1HW.shape[2]))
    inside = F.pad(inside, (0, 0, 0, H * stride - share_1HW.shape[1]))
    patches = -F.max_pool2d(-inside[None], cells * stride)
    known = patches.repeat_interleave(cells, 2).repeat_interleave(cells, 3)
    return (1 - known)[:, :, None].expand_as(latent_BCTHW[:, :1]).contiguous()


def window_starts(latents: int, window: int, context: int) -> list[int]:
    """The first new latent of each window; all but the first window also see `context` before."""
    if context < 1 or (latents > window and context >= window):
        raise ValueError(
            f"A window of {window} latent frames has no room after {context} known ones: make the"
            " window longer or the context shorter."
        )
    later = window - context
    windows = -(-(latents - window) // later) if latents > window else 0
    return [0, *(latents - i * later for i in range(windows, 0, -1))]


def fill_in_windows(
    latent_BCTHW: Tensor,
    mask_B1THW: Tensor,
    window: int,
    context: int,
    fill: Fill,
    still: Still,
) -> Tensor:
    """A whole sequence generated where its mask says so, `window` latents at a time.

    Every window after the first begins with the last `context` latents before it, all known, the
    first of them made an image.
    """
    T = latent_BCTHW.shape[2]
    starts = window_starts(T, window, context)
    stops = [*starts[1:], T]
    sequence = last = fill(latent_BCTHW[:, :, : stops[0]], mask_B1THW[:, :, : stops[0]])
    for start, stop in zip(starts[1:], stops[1:], strict=True):
        front = context_of(last, context, still)
        whole, mask = canvas(front, 0, stop - start)
        whole[:, :, context:] = latent_BCTHW[:, :, start:stop]
        mask[:, :, context:] = mask_B1THW[:, :, start:stop]
        last = fill(whole, mask)
        sequence = torch.cat((sequence, last[:, :, context:]), 2)
    return sequence
