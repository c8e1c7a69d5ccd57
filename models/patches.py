"""Spacetime patches: cutting a latent video into tokens and putting it together again.

Shapes: B batch, C channels, T H W latent frames, rows, columns, L tokens, P values of a patch.
A token's P values always run (c, pt, ph, pw), the last fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from .config import PatchSize


@dataclass(frozen=True)
class Grid:
    """How many patches a latent video has along time, height and width, and how large they are."""

    t: int
    h: int
    w: int
    patch: PatchSize

    def __post_init__(self):
        object.__setattr__(self, "patch", PatchSize(*self.patch))
        if min(self.t, self.h, self.w) < 1 or min(self.patch) < 1:
            raise ValueError(
                f"A grid needs at least one patch each way; got {self.t}x{self.h}x{self.w} (t,h,w) "
                f"of size {tuple(self.patch)}."
            )

    @classmethod
    def of(cls, latent_THW: tuple[int, int, int], patch: PatchSize) -> Grid:
        """The grid of a latent video of (frames, rows, columns) latent cells."""
        T, H, W = latent_THW
        patch = PatchSize(*patch)
        if min(T, H, W) < 1 or T % patch.t or H % patch.h or W % patch.w:
            raise ValueError(
                f"Latent is {T}x{H}x{W} (t,h,w); need positive multiples of patch {tuple(patch)}."
            )
        return cls(T // patch.t, H // patch.h, W // patch.w, patch)

    @property
    def tokens(self) -> int:
        return self.t * self.h * self.w

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        return self.t * self.patch.t, self.h * self.patch.h, self.w * self.patch.w

    def positions(self, device: torch.device | str | None = None) -> Tensor:
        """Integer (t,h,w) of every token, (L,3), in token order; add to it to move a clip."""
        axes = [torch.arange(size, device=device) for size in (self.t, self.h, self.w)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


def patchify(x_BCTHW: Tensor, patch: PatchSize) -> tuple[Tensor, Grid]:
    """Cut a latent video into spacetime-patch tokens (B,L,P); `unpatchify` is the exact inverse.

    Tokens run time-major, so the first frames of a clip are a prefix of L: extending and stitching
    rely on that order.
    """
    if x_BCTHW.ndim != 5:
        raise ValueError(f"A latent video has 5 dimensions (B,C,T,H,W); got {x_BCTHW.ndim}.")
    B, C, T, H, W = x_BCTHW.shape
    grid = Grid.of((T, H, W), patch)
    pt, ph, pw = grid.patch
    cells = x_BCTHW.reshape(B, C, grid.t, pt, grid.h, ph, grid.w, pw)
    return cells.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(B, grid.tokens, C * pt * ph * pw), grid


def unpatchify(tokens_BLP: Tensor, grid: Grid) -> Tensor:
    """Put tokens back where `patchify` cut them from: the latent video (B,C,T,H,W)."""
    if tokens_BLP.ndim != 3:
        raise ValueError(f"Tokens have 3 dimensions (B,L,P); got {tokens_BLP.ndim}.")
    B, L, P = tokens_BLP.shape
    pt, ph, pw = grid.patch
    if grid.tokens != L or P % prod(grid.patch):
        raise ValueError(
            f"Got {L} tokens of {P} values; a {grid.t}x{grid.h}x{grid.w} grid needs {grid.tokens} "
            f"tokens of a multiple of {prod(grid.patch)} values."
        )
    cells = tokens_BLP.reshape(B, grid.t, grid.h, grid.w, -1, pt, ph, pw)
    return cells.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(B, -1, *grid.latent_shape)


def token_maximum(values_BTHW: Tensor, patch: PatchSize) -> Tensor:
    """The largest of each patch's values, (B,L): a token is as noisy as its noisiest cell."""
    tokens_BLP, _ = patchify(values_BTHW.unsqueeze(1), patch)
    return tokens_BLP.amax(dim=-1)


def spread_maximum(values_BTHW: Tensor, patch: PatchSize) -> Tensor:
    """Every cell set to the largest value of its patch, (B,T,H,W): a mask grown to whole tokens."""
    tokens_BLP, grid = patchify(values_BTHW.unsqueeze(1), patch)
    whole_BLP = tokens_BLP.amax(dim=-1, keepdim=True).expand_as(tokens_BLP)
    return unpatchify(whole_BLP, grid).squeeze(1)
