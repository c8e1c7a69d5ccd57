"""What every node that denoises shares: beginning a run, taking its steps, and its LATENT.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..models.flow import DenoiseState, denoise_step, edit, finish, start
from ..models.journal import Journal, run_key
from . import host
from .clips import Latent, mask_of, rest_of
from .types import Denoising


@dataclass(frozen=True)
class Journaled(Denoising):
    """A run whose earlier steps lie in a journal, under these keys."""

    keys: tuple[str, ...] = ()


def open_journal(seconds: float = 5.0) -> Journal:
    """The host's journal: what a restarted run reads. Its owner calls `finish()` at the end."""
    return Journal(host.journal_folder(), seconds)


def begin(
    model: Any,
    positive: list,
    negative: list,
    cfg: float,
    latent: Latent,
    sigmas: Tensor,
    seed: int | Sequence[int],
    solver: str = "euler",
) -> Denoising:
    """A run before its first step; what the LATENT's noise mask says to keep will be kept.

    One `seed` for the whole batch, or a sequence with one for each item; an empty one is an error.
    """
    samples_BCTHW = host.prepare_latent(model, latent)
    mask = mask_of(latent, samples_BCTHW.shape)
    state = start(samples_BCTHW, mask, sigmas, seed, solver=solver, fill=host.fill_mode(model))
    return Denoising(model, positive, negative, cfg, state, rest_of(latent))


def advance(run: Denoising, steps: int, journal: Journal | None = None) -> Denoising:
    """The run after `steps` more steps, with progress and previews; cancel stops between two.

    With a journal the run goes on from the last state that was written of it, and the outcome is
    bit for bit that of a run without one.
    """
    if steps == 0:
        return run
    first, until = run.state.step, run.state.step + steps
    report = host.step_reporter(run.model, steps)
    begun, key = run.state, ""
    if journal is not None:
        prompts = run.positive, run.negative, run.cfg
        key = run_key(host.fingerprint(run.model), prompts, run.state, until)
        begun = journal.load(key) or run.state
        keys = (*getattr(run, "keys", ()), key)
        run = Journaled(run.model, *prompts, run.state, run.rest, keys)
    if begun.step == until:
        report(steps, begun.x0)
        return replace(run, state=begun)

    def work(denoiser) -> DenoiseState:
        state = begun
        while state.step < until:
            state = denoise_step(state, denoiser)
            if journal is not None:
                journal.keep(key, state, last=state.step == until)
            report(state.step - first, state.x0)
        return state

    denoiser = host.as_denoiser(run.model, run.positive, run.negative, run.cfg)
    return replace(run, state=denoiser.run(begun, work))


def latent_of(run: Denoising, samples_BCTHW: Tensor) -> Latent:
    """The LATENT of samples in the run's model space, with what else the run's LATENT carried."""
    return {**run.rest, "samples": host.finish_latent(run.model, samples_BCTHW)}


def sample(
    model: Any,
    positive: list,
    negative: list,
    cfg: float,
    latent: Latent,
    sigmas: Tensor,
    seed: int | Sequence[int],
    solver: str = "euler",
    journal: Journal | None = None,
) -> Latent:
    """The denoised LATENT of a whole run; several windows of one verb share one journal."""
    run = begin(model, positive, negative, cfg, latent, sigmas, seed, solver)
    done = advance(run, run.state.steps_left, journal)
    return latent_of(done, finish(done.state))


def finish_run(run: Denoising, journal: Journal | None = None) -> Latent:
    """The LATENT after all steps that are left; what a journal kept of the run is then deleted."""
    done = advance(run, run.state.steps_left, journal)
    latent = latent_of(done, finish(done.state))
    if isinstance(done, Journaled):
        open_journal().forget(done.keys)
    return latent


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
    masks = latent if mask is None else {"noise_mask": mask}
    state = edit(
        before,
        latent=wanted,
        mask=None if masks is None else mask_of(masks, shape),
        sigmas=None if sigmas is None else rest_of_schedule(before, sigmas),
    )
    if wanted is not None:
        free = ~(before.known | state.known)
        moved = state.x + (1 - before.sigmas[before.step]) * (wanted - before.x0)
        state = edit(state, x=torch.where(free, moved, state.x))
    return replace(
        run,
        positive=run.positive if positive is None else positive,
        negative=run.negative if negative is None else negative,
        cfg=run.cfg if cfg is None else cfg,
        state=state,
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


def seed_list(seeds: str, batch: int) -> list[int]:
    """The seeds of "1, 2, 3", one for each of the batch; nothing for an empty text."""
    parts = seeds.replace(",", " ").split()
    if not all(part.isdecimal() and len(part) <= 20 and int(part) < 2**64 for part in parts):
        raise ValueError(
            f"Seeds are whole numbers from 0 to {2**64 - 1}, as in 1, 2, 3; got {seeds!r}."
        )
    if parts and len(parts) != batch:
        raise ValueError(f"Got {len(parts)} seeds for a batch of {batch}; need one for each.")
    return [int(part) for part in parts]
