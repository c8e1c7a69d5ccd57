"""What every node that denoises shares: beginning a run, taking its steps, and its LATENT.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from torch import Tensor

from ..models.flow import DenoiseState, denoise_step, finish, noise_levels, start
from ..models.guidance import Denoiser, guided_by_known
from ..models.journal import Journal, run_key
from . import host
from .host.facts import boundary_of, facts_of, patch_of, stride_of
from .host.native import check_pair, shown_to, with_known
from .host.shown import SHOWN, shown_in
from .latent_dicts import FPS, Latent, mask_of, rest_of
from .types import BOUNDARY, Denoising

Guide = tuple[list, list, float]  # positive, negative and cfg: what one denoiser goes by


@dataclass(frozen=True)
class Journaled(Denoising):
    """A run whose earlier steps lie in a journal, under these keys."""

    keys: tuple[str, ...] = ()


class NodeJournal(Journal):
    """A node's: where it was told to stop, what is done is kept for when it is queued again."""

    def finish(self) -> None:
        if not host.was_stopped():
            super().finish()


class Stoppable:
    """For nodes whose runs can be stopped: ComfyUI does not keep a stopped result as a whole one.

    It keeps results by fingerprint, so a node that was stopped gets another one.
    """

    @classmethod
    def fingerprint_inputs(cls, **_inputs: Any) -> int:
        return host.times_stopped()


def open_journal(seconds: float = 5.0) -> Journal:
    """The host's journal: what a restarted run reads. Its owner calls `finish()` at the end."""
    return NodeJournal(host.journal_folder(), seconds)


def begin(
    model: Any,
    positive: list,
    negative: list,
    cfg: float,
    latent: Latent,
    sigmas: Tensor,
    seed: int | Sequence[int],
    solver: str = "euler",
    *,
    vae: Any | None = None,
    model_low: Any | None = None,
    boundary: float = BOUNDARY,
) -> Denoising:
    """A run before its first step; what the LATENT's noise mask says to keep will be kept.

    One `seed` for the whole batch, or a sequence with one for each item; an empty one is an error.
    A `boundary` of 0 is the model's own.
    """
    check_pair(model, model_low)
    boundary = boundary or boundary_of(model)
    samples_BCTHW = host.prepare_latent(model, latent)
    mask = mask_of(latent, samples_BCTHW.shape, stride_of(model))
    fill = host.fill_mode(model, mask)
    shown = shown_in(latent, mask)
    rest = {FPS: facts_of(model).fps, **rest_of(latent)}
    mask, rest = shown_to(model, shown, mask, rest, positive, negative)
    kept = {"fill": fill, "patch": patch_of(model)}
    state = start(samples_BCTHW, mask, sigmas, seed, solver=solver, **kept)
    run = Denoising(model, positive, negative, cfg, state, rest, vae, model_low, boundary)
    return tell_known(run)


def tell_known(run: Denoising) -> Denoising:
    """The run with prompts that say what is known, where its weights are told so by prompts."""
    if run.state.fill != "native":
        return run
    known = latent_of(run, run.state.latent)["samples"].float().cpu(), run.state.mask
    told = run.positive, run.negative, run.rest.get(SHOWN, ())
    positive, negative = with_known(run.model, run.vae, *known, *told)
    return replace(run, positive=positive, negative=negative)


def advance(run: Denoising, steps: int, journal: Journal | None = None) -> Denoising:
    """The run after `steps` more steps, with progress and previews; cancel stops between two.

    With a journal the run goes on from the last state that was written of it, and the outcome is
    bit for bit that of a run without one.
    """
    if steps == 0:
        return run
    until = run.state.step + steps
    if not leads_by_known(run):
        guide = run.positive, run.negative, run.cfg
        return walk(run, until, [guide], denoise_step, journal)
    guides = [(run.positive, run.negative, 1.0), (run.negative, run.negative, 1.0)]

    def step(state: DenoiseState, informed: Denoiser, blind: Denoiser) -> DenoiseState:
        return denoise_step(state, guided_by_known(informed, blind, run.cfg, state.noise))

    return walk(run, until, guides, step, journal, ("by known frames", run.cfg))


def leads_by_known(run: Denoising) -> bool:
    """Whether guidance goes by known frames too: the network is told of them, by noise levels.

    Not where parts of frames are known at first, in any item of the batch: their cached keys and
    values make a step cheap. Nor where another pack has put its own guidance on the MODEL.
    """
    whole_frames = noise_levels(replace(run.state, step=0)).ndim == 2  # of the run, not the step
    return run.cfg > 1 and whole_frames and not host.guides_itself(run.model)


def walk(
    run: Denoising,
    until: int,
    guides: Sequence[Guide],
    step: Callable[..., DenoiseState],
    journal: Journal | None = None,
    also: object = (),
) -> Denoising:
    """The run at step `until`, each step being `step(state, *denoisers)`, one for each guide.

    A journal knows the run by all of these; `also` is what else the outcome depends on. What is
    done when a cancel or an error stops the run is written to it, however short ago the last was.

    A user who stops the node has the run end with what it predicts after the present step; runs
    that the node begins after that take one step each.
    """
    first, state, key = run.state.step, run.state, ""
    fps = run.rest.get(FPS) or facts_of(run.model).fps  # a run from a file may have lost its rest
    report = host.step_reporter(run.model, until - first, fps)
    follows_stop, stopped = host.was_stopped(), False
    if journal is not None:
        key = run_key(fingerprint_of(run), (guides, also), state, until)
        run = with_key(run, key)
        state = journal.load(key) or state
    if state.step == until:
        report(until - first, state.x0)

    def work(end: int, *denoisers: Denoiser) -> None:
        nonlocal state, stopped
        while state.step < end and not stopped:
            state = step(state, *denoisers)
            if journal is not None:
                journal.keep(key, state, last=state.step == until)
            report(state.step - first, state.x0)
            stopped = state.steps_left > 0 and host.heed_stop()

    try:
        for model, end in run.spans(state.step, until):
            if stopped:
                break
            denoisers = [host.as_denoiser(model, *guide) for guide in guides]
            inside(denoisers, state, partial(work, end))
    except BaseException:
        if journal is not None and state.step > first:
            journal.keep_last(key, state)
        raise
    if not stopped:
        return replace(run, state=state)
    if journal is not None and not follows_stop:  # what follows a stop is never asked for again
        journal.keep_last(key, state)
    return ended(run, state)


def ended(run: Denoising, state: DenoiseState) -> Denoising:
    """The run at its last step with what `state` predicts, and no keys: its journal is to stay."""
    whole = replace(state, x=state.x0, step=len(state.sigmas) - 1, history=())
    return replace(Denoising(**values_of(run)), state=whole)


def values_of(run: Denoising) -> dict[str, Any]:
    return {field.name: getattr(run, field.name) for field in fields(Denoising)}


def inside(denoisers: Sequence[Any], state: DenoiseState, work: Callable[..., None]) -> None:
    """`work` with all denoisers ready, each one's run inside that of the one before."""
    if not denoisers:
        return work()
    first, *others = denoisers
    return first.run(state, lambda ready: inside(others, state, partial(work, ready)))


def fingerprint_of(run: Denoising) -> str:
    """What tells this run's weights, and which of them take which steps, from any others."""
    own = host.fingerprint(run.model)
    if run.model_low is None:
        return own
    return f"{own} {host.fingerprint(run.model_low)} {run.boundary!r}"


def with_key(run: Denoising, key: str) -> Journaled:
    """The run, with a key more under which a journal holds it."""
    return Journaled(**values_of(run), keys=(*getattr(run, "keys", ()), key))


def latent_of(run: Denoising, samples_BCTHW: Tensor) -> Latent:
    """The LATENT of samples in the run's model space, with what else the run's LATENT carried."""
    return {**run.rest, "samples": host.finish_latent(run.model, samples_BCTHW)}


def sample(run: Denoising, journal: Journal | None = None) -> Latent:
    """The LATENT of a run taken to its end; several windows of one verb share one journal."""
    done = advance(run, run.state.steps_left, journal)
    return latent_of(done, finish(done.state))


def finish_run(run: Denoising, journal: Journal | None = None) -> Latent:
    """The LATENT after all steps that are left; what a journal kept of the run is then deleted."""
    done = advance(run, run.state.steps_left, journal)
    latent = latent_of(done, finish(done.state))
    if isinstance(done, Journaled):
        open_journal().forget(done.keys)
    return latent


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
