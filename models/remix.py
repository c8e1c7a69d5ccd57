"""Remaking a clip that is known whole: windows of a long one, and inversion-free editing.

B batch (1 for windows), C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .extend import Still, context_of, window_lengths
from .flow import DenoiseState, Predict, cell_levels, draw_noise, mix, noise_levels

# (source, latent, mask) of a window -> the remade window; both latents agree but for what is known
Remake = Callable[[Tensor, Tensor, Tensor], Tensor]


def remix_lengths(latents: int, window: int, context: int) -> list[int]:
    """Latents that each window remakes; every window after the first sees `context` before them."""
    if latents <= window:
        return [latents]
    first, *others = window_lengths(latents - 1, 1, window, context)
    return [1 + first, *others]


def remix_windows(
    source_BCTHW: Tensor,
    mask_B1THW: Tensor,
    window: int,
    context: int,
    remake: Remake,
    still: Still,
) -> Tensor:
    """The clip remade window by window; where the mask is 0 it stays exactly as it was.

    A later window begins with the last `context` latents of the window before, as remade and known
    to it, so that it goes on as they do. The first of them, and of the source's there, is made an
    image, both in the same way and from the window before alone: a remake that changes nothing
    knows the same on both sides.
    """
    sequence = before = after = source_BCTHW[:, :, :0]  # a window of the source, and it remade
    for length in remix_lengths(source_BCTHW.shape[2], window, context):
        at, known = sequence.shape[2], min(context, after.shape[2])
        before, after = (context_of(side, known, still) for side in (before, after))
        rest, mask = (whole[:, :, at : at + length] for whole in (source_BCTHW, mask_B1THW))
        mask = torch.cat((mask.new_zeros(*mask.shape[:2], known, *mask.shape[3:]), mask), 2)
        before = torch.cat((before, rest), 2)
        after = remake(before, torch.cat((after, rest), 2), mask)
        sequence = torch.cat((sequence, after[:, :, known:]), 2)
    return torch.where(mask_B1THW == 0, source_BCTHW, sequence)


def start_edit(state: DenoiseState) -> DenoiseState:
    """A run before its first step as an edit: its x is a clean latent from now on."""
    return replace(state, x=state.latent)


def edit_step(
    state: DenoiseState, source_BCTHW: Tensor, of_source: Predict, of_target: Predict
) -> DenoiseState:
    """One step of FlowEdit (Kulikov et al. 2024, arXiv:2412.08629, algorithm 1, n_avg = 1).

    With z the source, n new noise and s the noise level: x_src = (1 - s) z + s n, x_tar = x + x_src
    - z, and x moves by ds (v_tar(x_tar) - v_src(x_src)). Nothing is inverted, and where both
    prompts say the same x stays as it is. Held cells are the run's latent in x_tar, z in x_src.
    """
    if state.steps_left < 1:
        raise ValueError(f"All {state.step} steps of this edit are done.")
    level, following = state.sigmas[state.step : state.step + 2].tolist()
    noise, random_state = draw_noise(state.x.shape, state.random_state)
    noise = noise.to(state.x)
    cells, sigma = cell_levels(state, state.step), noise_levels(state)
    x_src = mix(source_BCTHW, noise, cells)
    x_tar = torch.where(
        state.known, mix(state.latent, noise, cells), state.x + x_src - source_BCTHW
    )
    towards = x_tar - of_target(x_tar, sigma)  # the velocity times the level
    away = x_src - of_source(x_src, sigma)
    moved = state.x + (following - level) / level * (towards - away)
    x = torch.where(state.known, state.latent, moved)
    return replace(state, x=x, step=state.step + 1, random_state=random_state, predicted=x)
