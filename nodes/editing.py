"""Changing a run between two of its steps.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..models.flow import DenoiseState, edit
from . import host
from .fitting import SAME_SHAPE
from .host.facts import stride_of
from .host.native import known_in, put_known, shown_to
from .host.shown import SHOWN, noting, shown_in, still_kept, unmoved
from .latent_dicts import SIZE, Latent, mask_of
from .sampling import tell_known
from .types import Denoising


def edit_run(
    run: Denoising,
    positive: list | None = None,
    negative: list | None = None,
    cfg: float | None = None,
    latent: Latent | None = None,
    mask: Tensor | None = None,
    sigmas: Tensor | None = None,
) -> Denoising:
    """The run with other values from here on; None: as it was. The solver's history is forgotten.

    `latent` says what the clean video should be: cells that are kept take it as it is, the others
    move by what it differs from the run's prediction, under the noise that they have. Its noise
    mask counts unless `mask` (a MASK, in pixels, 1 = generate) is given. Of `sigmas` the levels
    below the present one are taken.
    """
    before = run.state
    shape = tuple(before.x.shape)
    wanted = None if latent is None else host.prepare_latent(run.model, latent)
    if wanted is not None and wanted.shape != before.x.shape:
        raise ValueError(
            f"The latent has shape {tuple(wanted.shape)}, the run {shape}; give one of the same"
            " size, such as `predicted` of Denoise Step."
        )
    if mask is not None:
        check_shape(mask, shape[3:], run.rest.get(SIZE))
    masks = latent if mask is None else {"noise_mask": mask}
    keep = None if masks is None else mask_of(masks, shape, stride_of(run.model))
    shown = run.rest.get(SHOWN, ())
    if wanted is not None:
        shown = unmoved(shown, before.latent, wanted, before.known)
    rest = noting(run.rest, shown)
    if keep is not None:
        shown = still_kept(shown, keep > 0) if latent is None else shown_in(latent, keep)
        keep, rest = shown_to(run.model, shown, keep, rest, run.positive, run.negative)
    levels = None if sigmas is None else rest_of_schedule(before, sigmas)
    state = edit(before, latent=wanted, mask=keep, sigmas=levels)
    if wanted is not None:
        free = ~(before.known | state.known)
        moved = state.x + (1 - before.sigmas[before.step]) * (wanted - before.x0)
        state = edit(state, x=torch.where(free, moved, state.x))
        state = replace(state, predicted=torch.where(free, wanted, state.latent))
    known = known_in(run.positive, run.negative)
    edited = replace(
        run,
        positive=run.positive if positive is None else put_known(positive, known),
        negative=run.negative if negative is None else put_known(negative, known),
        cfg=run.cfg if cfg is None else cfg,
        state=state,
        rest=rest,
    )
    return edited if wanted is None and masks is None else tell_known(edited)


def check_shape(mask: Tensor, cells: Sequence[int], size: tuple[int, int] | None) -> None:
    """ValueError unless a MASK has the shape of the frames, whose latent cells or size are told."""
    height, width = mask.shape[-2:]
    shapes = [tuple(cells)] if size is None else [tuple(cells), size]
    if all(abs(width * rows / (height * columns) - 1) > SAME_SHAPE for rows, columns in shapes):
        rows, columns = shapes[-1]
        raise ValueError(
            f"Input mask is {width}x{height} and the frames are {columns}x{rows}"
            f"{' latent cells' * (size is None)}, another shape: give a mask of the frames' shape."
        )


def rest_of_schedule(state: DenoiseState, sigmas: Tensor) -> Tensor:
    """The run's schedule up to here, and from here on those of `sigmas` that are lower."""
    sigmas = sigmas.detach().float().cpu().flatten()
    if not (sigmas.diff() < 0).all() or not len(sigmas) or sigmas[-1] != 0:
        raise ValueError(
            f"Sigmas have to fall to 0; got {[round(s, 4) for s in sigmas.tolist()[:8]]}: connect"
            " Flow Sigmas."
        )
    done = state.sigmas[: state.step + 1]
    return torch.cat([done, sigmas[sigmas < done[-1] - 1e-6]])
