"""What of a training sample is known, and at what noise level the rest is.

B batch, T latent frames, L tokens, h/w token rows and columns. Levels are sigmas; 0 means known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from patchdit.models.solvers import shift_for

# Share of steps whose samples are made so; "none" is plain denoising of everything.
KINDS = {
    "none": 0.44,
    "frames": 0.05,  # every latent frame has a level of its own
    "prefix": 0.17,
    "suffix": 0.13,
    "both ends": 0.11,
    "scattered": 0.05,
    "region": 0.05,
}


def draw_kind(generator: torch.Generator, latents: int) -> str:
    """A kind of sample; clips of one latent frame have only "none" and "region"."""
    weights = torch.tensor(list(KINDS.values()))
    kind = list(KINDS)[int(torch.multinomial(weights, 1, generator=generator))]
    return kind if latents > 1 or kind == "region" else "none"


def draw_sigmas(generator: torch.Generator, shape, tokens: int) -> Tensor:
    """Logit-normal noise levels, shifted for the number of tokens, and what those hardly reach.

    One in five is spread as the steps of a run are, one in seven is uniform, and one in five lies
    among the highest: there nothing but the text says how a thing moves (`shift_for`).
    """
    uniform = torch.rand(shape, generator=generator)
    chosen = torch.rand(shape, generator=generator)
    normal = torch.sigmoid(torch.randn(shape, generator=generator))
    t = torch.where(chosen < 0.2, uniform, normal)
    shift = shift_for(tokens)
    sigmas = shift * t / (1 + (shift - 1) * t)
    sigmas = torch.where(chosen > 0.65, uniform, sigmas)
    sigmas = torch.where(chosen > 0.8, 1 - 0.05 * uniform, sigmas)
    return sigmas.clamp(1e-3, 1 - 1e-4)


def draw_levels(
    generator: torch.Generator, kind: str, batch: int, grid, starts_B: Tensor
) -> Tensor:
    """Noise levels (B) for "none", (B,L) for "region", (B,T) for the other kinds.

    `grid` is (T, h, w) in tokens with one token per latent frame; `starts_B` says where a sample's
    encoded suffix begins (T: it has none), so that the "suffix" kinds use it.
    """
    T, h, w = grid
    sigma_B = draw_sigmas(generator, (batch,), T * h * w)
    if kind == "none":
        return sigma_B
    if kind == "frames":
        return draw_sigmas(generator, (batch, T), T * h * w)
    if kind == "region":
        return _region(generator, sigma_B, T, h, w)
    known_BT = torch.zeros(batch, T, dtype=torch.bool)
    for b in range(batch):
        start = int(starts_B[b]) if starts_B[b] < T else _integer(generator, 1, T)
        if kind == "prefix":
            known_BT[b, : _integer(generator, 1, T)] = True
        elif kind == "suffix":
            known_BT[b, start:] = True
        elif kind == "both ends":
            known_BT[b, start:] = True
            known_BT[b, : _integer(generator, 1, max(start, 2))] = True
            if known_BT[b].all():
                known_BT[b, 0] = False
        else:
            known_BT[b] = torch.rand(T, generator=generator) < 0.4
            if known_BT[b].all():
                known_BT[b, _integer(generator, 0, T)] = False
    return torch.where(known_BT, 0.0, sigma_B[:, None])


def _integer(generator: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, max(high, low + 1), (), generator=generator))


def _region(generator: torch.Generator, sigma_B: Tensor, T: int, h: int, w: int) -> Tensor:
    """A box of tokens through all of time is unknown, or is all that is known."""
    levels = torch.zeros(len(sigma_B), T, h, w)
    for b, sigma in enumerate(sigma_B):
        bh, bw = _integer(generator, 1, h + 1), _integer(generator, 1, w + 1)
        y, x = _integer(generator, 0, h - bh + 1), _integer(generator, 0, w - bw + 1)
        inside = torch.zeros(h, w, dtype=torch.bool)
        inside[y : y + bh, x : x + bw] = True
        unknown = inside if inside.all() or torch.rand((), generator=generator) < 0.5 else ~inside
        levels[b] = unknown * sigma
    return levels.flatten(1)
