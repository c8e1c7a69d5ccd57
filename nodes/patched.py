"""Facts about PATCHES that several nodes ask for.

B batch, C channels, L tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..models.patches import unpatchify
from .latent_dicts import real_frames
from .types import PatchedLatent


def channels(patches: PatchedLatent) -> int:
    """Channels of the latent that was cut up."""
    return patches.tokens_BLP.shape[-1] // math.prod(patches.grid.patch)


def clip_frames(patches: PatchedLatent) -> tuple[int, int]:
    """Pixel frames of the clip, without and with the padding at its end."""
    samples_BCTHW = unpatchify(patches.tokens_BLP, patches.grid)
    latent = {**patches.rest, "samples": samples_BCTHW}
    return real_frames(latent, patches.stride), patches.frames


def size_of(patches: PatchedLatent) -> str:
    """Patches along time, rows and columns, and their size, in words."""
    grid = patches.grid
    return f"{grid.t}x{grid.h}x{grid.w} (time, rows, columns) of {tuple(grid.patch)} cells"


def selected_of(patches: PatchedLatent) -> Tensor:
    """The selection (B,L); all of them where nothing was said."""
    if patches.selected_BL is not None:
        return patches.selected_BL
    tokens_BLP = patches.tokens_BLP
    return torch.ones(tokens_BLP.shape[:2], dtype=torch.bool, device=tokens_BLP.device)


def check_alike(one: PatchedLatent, other: PatchedLatent, name: str, other_name: str) -> None:
    """ValueError unless patches have one size and `other` one video, or as many as `one`."""
    sizes = [(tuple(p.grid.patch), p.tokens_BLP.shape[-1]) for p in (one, other)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"Patches of {other_name} are {sizes[1][0]} cells of {sizes[1][1]} values, those of"
            f" {name} {sizes[0][0]} of {sizes[0][1]}; cut latents of one model with the same"
            " settings of Patchify Latent."
        )
    batch, others = len(one.tokens_BLP), len(other.tokens_BLP)
    if others not in (1, batch):
        raise ValueError(
            f"There are {others} videos in {other_name} and {batch} in {name}; give {other_name} 1"
            f" or {batch}."
        )
