"""Runs of shots that go on from each other, shot by shot: what the next one has to see of them.

B is 1, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .extend import Fill, Still, context_of, extend_forwards


@dataclass(frozen=True)
class RunEnd:
    """How a run ends: all that the next shot sees of it, however long the run is."""

    last_BCTHW: Tensor  # its last window, which is the whole run while that fits one
    latents: int  # of the whole run


def add_shot(
    end: RunEnd | None,
    empty_BCTHW: Tensor,
    window: int,
    context: int,
    fill: Fill,
    still: Still,
) -> tuple[Tensor, RunEnd]:
    """A new shot as long as `empty`, latents_BCTHW, and how the run ends with it; None: a new run.

    Its first window knows the whole run if it has room, else the last `context` latents of it.
    """
    made, left = [], empty_BCTHW.shape[2]
    if end is None:
        first = empty_BCTHW[:, :, :window]
        made = [fill(first, torch.ones_like(first[:, :1]))]
        end, left = RunEnd(made[0], first.shape[2]), left - first.shape[2]
    if not left:
        return made[0], end
    front = last = end.last_BCTHW
    context = min(context, front.shape[2])
    if end.latents + left > window:
        front = context_of(front, context, still)

    def fill_last(latent_BCTHW: Tensor, mask_B1THW: Tensor) -> Tensor:
        nonlocal last
        last = fill(latent_BCTHW, mask_B1THW)
        return last

    longer = extend_forwards(front, left, window, context, fill_last, still)
    made.append(longer[:, :, front.shape[2] :])
    return torch.cat(made, 2), RunEnd(last, end.latents + left)


def recall(shot_BCTHW: Tensor) -> Fill:
    """Fills the windows of a shot with what it holds: `add_shot` then finds its run's end again."""
    at = 0

    def fill(latent_BCTHW: Tensor, mask_B1THW: Tensor) -> Tensor:
        nonlocal at
        new = int(mask_B1THW[0, 0, :, 0, 0].sum())
        known = latent_BCTHW[:, :, : latent_BCTHW.shape[2] - new]
        at += new
        return torch.cat((known, shot_BCTHW[:, :, at - new : at]), 2)

    return fill
