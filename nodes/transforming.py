"""Turning one clip's scene into another's: the zone it happens in, and denoising under two prompts.

T latent frames; latents_1CTHW are raw VAE means, frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import floor
from typing import Any

from torch import Tensor

from ..models.blending import Zone, blend_zone, lay_zone, mixed_over_time
from ..models.flow import DenoiseState, denoise_step, finish
from ..models.guidance import Denoiser, guided_by_known
from ..models.journal import Journal
from .extension import Extent, beginning_of, ending_of, has_suffix
from .footage import Footage, encode_ending
from .host.native import known_in, put_known
from .joining import Joint, around, new_latents
from .latent_dicts import FPS
from .sampling import latent_of, leads_by_known, walk
from .types import Denoising
from .verbs import Sampling, with_kept


def prepare_transform(a: Footage, b: Footage, extent: Extent, **rest: Any) -> Joint:
    """A without its last half of the zone, the zone, and B without its first half of it.

    A clip that is too short for its half keeps what it has, and is held still in the zone.
    """
    new = max(new_latents(extent, stride=a.stride), 2)
    from_a = (new + 1) // 2
    rate = a.fps / extent.fps
    halves = (("A", a, from_a), ("B", b, new - from_a))
    short = [name for name, clip, half in halves if groups_in(clip, rate) < half]
    if short:
        verb = "are" if len(short) > 1 else "is"
        note = (
            f"{' and '.join(short)} {verb} too short for half of the change and {verb} held in it."
        )
        rest["notes"] = (*rest.get("notes", ()), note)
    cut_a = round(a.stride * min(from_a, groups_in(a, rate)) * rate)
    cut_b, own = start_of_rest(b, new - from_a, rate)
    kept_a, kept_b = a.part(0, a.frames - cut_a), b.part(cut_b, b.frames)
    tail = own if own is not None else beginning_of(replace(kept_b, latent_1CTHW=None), extent)
    zone = zone_between(a, b, cut_a, cut_b, new, rate)
    rest = {**rest, "cut_a": cut_a, "cut_b": cut_b, "zone": zone}
    return around(a, b, extent, ending_of(kept_a, extent), tail, new, 0, **rest)


def groups_in(clip: Footage, rate: float) -> int:
    """Groups of frames, at the rate of making, that a clip has beside one that it keeps."""
    return max(floor((clip.frames - 1) / (clip.stride * rate) + 1e-6), 0)


def start_of_rest(b: Footage, groups: int, rate: float) -> tuple[int, Tensor | None]:
    """B's first frame after about that many groups, and its own latents from there, if it has any.

    Only where one of them begins can B's own latents go on.
    """
    latent = b.latent_1CTHW
    if latent is None or not has_suffix(b):
        return round(b.stride * min(groups, groups_in(b, rate)) * rate), None
    dropped = min(groups, latent.shape[2] - 2)
    return b.stride * dropped + 1, latent[:, :, dropped + 1 :]


def zone_between(a: Footage, b: Footage, cut_a: int, cut_b: int, new: int, rate: float) -> Zone:
    """What the new latents start from: A going on, then held; B held, then beginning; mixed."""
    made, last = a.stride * new, a.frames - 1
    from_a = [min(last - cut_a + round((i + 1) * rate), last) for i in range(made)]
    from_b = [min(max(cut_b - round((made - i) * rate), 0), b.frames - 1) for i in range(made)]
    going = encode_ending(a.vae, a.frames_FHWC[from_a])
    coming = encode_ending(b.vae, b.frames_FHWC[from_b])
    return blend_zone(going, coming)


def blended_fill(
    sampling: Sampling, positive_b: list, zone: Zone, fps: float, journal: Journal | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """Generates the zone window by window, from its start and under both prompts."""
    at = 0

    def fill(latent_BCTHW: Tensor, mask_B1THW: Tensor) -> Tensor:
        nonlocal at
        first = at  # latent that the window makes: what tells its noise from the others'
        start, weight_T, at = lay_zone(latent_BCTHW, mask_B1THW, zone, at)
        latent = {"samples": start, "noise_mask": mask_B1THW, FPS: fps}
        run = sampling.begin(latent, first)
        done = finish(advance_blended(run, positive_b, weight_T, journal))
        return with_kept(latent, latent_of(run, done))

    return fill


def advance_blended(
    run: Denoising, positive_b: list, weight_T: Tensor, journal: Journal | None
) -> DenoiseState:
    """The run's last state: each frame under its first prompt, `positive_b`, or between them."""
    positive_b = put_known(positive_b, known_in(run.positive, run.negative))
    by_known = leads_by_known(run)
    cfg = 1.0 if by_known else run.cfg
    guides = [(prompt, run.negative, cfg) for prompt in (run.positive, positive_b)]
    if by_known:
        guides.append((run.negative, run.negative, 1.0))

    def step(state: DenoiseState, first: Denoiser, second: Denoiser, *blind: Denoiser):
        mixed = mixed_over_time(first, second, weight_T)
        if blind:
            mixed = guided_by_known(mixed, blind[0], run.cfg, state.noise)
        return denoise_step(state, mixed)

    until = run.state.step + run.state.steps_left
    return walk(run, until, guides, step, journal, ("blended", weight_T, run.cfg)).state
