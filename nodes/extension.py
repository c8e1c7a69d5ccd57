"""Extending a clip in time: what is known, what is to come, and how both become one clip.

T latent frames; latents_1CTHW are raw VAE means, frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil

import torch
from torch import Tensor

from ..models.assembly import Given, Made
from ..models.extend import backward_lengths, canvas, front_of, window_lengths
from ..models.timeline import STRIDE, frames_back, pixel_frames, places_after
from .clips import FPS
from .footage import Footage, encode_clip, encode_ending, last_frame_as_image, same_rate
from .sound import join
from .types import Plan


@dataclass(frozen=True)
class Extent:
    """How far a clip is extended, and in windows of what size."""

    backwards: bool
    seconds: float
    window: int  # latent frames
    context: int  # latent frames known to a window; 0: a third of it, or what the clip has
    fps: float  # frames per second that the model makes


@dataclass(frozen=True)
class Extension:
    """A clip about to be extended: what the first window knows, and how many latents follow."""

    clip: Footage
    extent: Extent
    known_1CTHW: Tensor  # the clip's latents
    front_1CTHW: Tensor  # those of them that the first window sees
    new: int  # latent frames to make
    shown: int  # frames of the clip to make
    context: int  # latent frames

    def lengths(self) -> list[int]:
        """New latents of each window."""
        cut = backward_lengths if self.extent.backwards else window_lengths
        return cut(self.new, self.front_1CTHW.shape[2], self.extent.window, self.context)


def prepare_extension(clip: Footage, extent: Extent) -> Extension:
    """What to generate to extend a clip; a ValueError names a setting that cannot be."""
    if not 0 < extent.seconds <= 600:
        raise ValueError(
            f"Setting seconds is {extent.seconds:g}; need more than 0 and at most 600."
        )
    if clip.latent_1CTHW is not None or same_rate(clip.fps, extent.fps):
        extent = replace(extent, fps=clip.fps)
    shown = max(round(extent.seconds * clip.fps), 1)
    made = ceil(shown * extent.fps / clip.fps - 1e-6)
    known = beginning_of(clip, extent) if extent.backwards else ending_of(clip, extent)
    context = context_latents(extent, known.shape[2])
    if extent.backwards:  # the first latent is one frame; what a LATENT's image showed is made anew
        new = ceil((made + (3 if clip.latent_1CTHW is None else 4)) / STRIDE)
        front = known if known.shape[2] + new <= extent.window else known[:, :, :context]
    else:
        new = ceil(made / STRIDE)
        front = front_of(known, new, extent.window, context, lambda part: still_of(clip, part))
    return Extension(clip, extent, known, front, new, shown, context)


def ending_of(clip: Footage, extent: Extent) -> Tensor:
    """The latents of the clip, or of as many of its last frames as make 1 + 4k at the fps."""
    if clip.latent_1CTHW is not None:
        return clip.latent_1CTHW
    wanted = extent.window * STRIDE if extent.fps != clip.fps else clip.frames
    places = frames_back(clip.frames, clip.fps, extent.fps, wanted)
    return encode_clip(clip.vae, clip.frames_FHWC[places[(len(places) - 1) % STRIDE :]])


def beginning_of(clip: Footage, extent: Extent) -> Tensor:
    """The latents, without an image latent, of the clip's first 4k frames at the fps."""
    if clip.latent_1CTHW is not None and clip.latent_1CTHW.shape[2] > 1:
        return clip.latent_1CTHW[:, :, 1:]
    wanted = extent.window * STRIDE if extent.fps != clip.fps else clip.frames
    last = clip.frames - 1
    places = [last - p for p in frames_back(clip.frames, clip.fps, extent.fps, wanted)][::-1]
    places = places[: len(places) // STRIDE * STRIDE] or (places + [places[-1]] * STRIDE)[:STRIDE]
    return encode_ending(clip.vae, clip.frames_FHWC[places])


def still_of(clip: Footage, latent_1CTHW: Tensor) -> Tensor:
    """The last frame of a clip's first latents as an image latent."""
    return last_frame_as_image(clip.vae, latent_1CTHW)


def context_latents(extent: Extent, known: int) -> int:
    """Latent frames that a window knows of those before it."""
    if extent.context > known:
        raise ValueError(
            f"The clip has {known} latent frames and setting context asks for {extent.context}"
            " (1 frame, then 4 each): make the context shorter, or 0 to take what there is."
        )
    if extent.context >= extent.window:
        raise ValueError(
            f"Setting context is {extent.context} of the window's {extent.window} latent frames;"
            " make the context shorter or the window longer."
        )
    return extent.context or min(known, max(extent.window // 3, 1))


def plan_of(job: Extension) -> Plan:
    """How the front and the new latents, in one sequence, become the longer clip."""
    clip, size = job.clip, job.front_1CTHW.shape[2]
    new_sound, own_sound = (None, job.shown / clip.fps), (clip.audio, clip.seconds)
    if job.extent.backwards:
        latent, mask = canvas(job.front_1CTHW, job.new, 0)
        parts = slice(0, job.new), job.known_1CTHW
        pieces = made_before(job, latent), Given(clip.frames_FHWC)
        sounds, seams = [new_sound, own_sound], (job.shown,)
    else:
        latent, mask = canvas(job.front_1CTHW, 0, job.new)
        parts = job.known_1CTHW, slice(size, None)
        pieces = Given(clip.frames_FHWC), made_after(job, latent)
        sounds = [own_sound, new_sound]
        ends = accumulate(job.lengths()[:-1], initial=0)
        rate = STRIDE * clip.fps / job.extent.fps
        seams = tuple(clip.frames + round(end * rate) for end in ends)
    window = {"samples": latent, "noise_mask": mask, FPS: job.extent.fps}
    return Plan(
        clip.vae, window, parts, pieces, clip.fps, clip.size, join(sounds), seams, report_of(job)
    )


def made_after(job: Extension, latent: Tensor) -> Made:
    """The new frames that follow the clip."""
    clip, extent = job.clip, job.extent
    places, count = None, min(job.shown, STRIDE * job.new)
    if extent.fps != clip.fps:
        places, count = places_after(job.shown, clip.fps, extent.fps), STRIDE * job.new
    first = pixel_frames(job.front_1CTHW.shape[2])
    return Made(latent, first, count, clip.frames_FHWC[-1], shown=places, size=clip.size)


def made_before(job: Extension, latent: Tensor) -> Made:
    """The new frames that lead to the clip."""
    clip, extent = job.clip, job.extent
    made = STRIDE * job.new - (3 if clip.latent_1CTHW is None else 4)
    places, first, count = None, made - job.shown, job.shown
    if extent.fps != clip.fps:
        back = places_after(job.shown, clip.fps, extent.fps)
        places, first, count = tuple(made + 1 - place for place in back[::-1]), 0, made
    after = clip.frames_FHWC[0]
    return Made(latent, first, count, after_HWC=after, shown=places, size=clip.size)


def shortened(job: Extension, new: int) -> Extension:
    """The job of which only `new` latents were made."""
    if new == job.new:
        return job
    made = STRIDE * new - (0 if not job.extent.backwards else 4)
    return replace(job, new=new, shown=min(job.shown, int(made * job.clip.fps / job.extent.fps)))


def report_of(job: Extension) -> str:
    """What was done, in words."""
    clip, extent = job.clip, job.extent
    way = "backwards" if extent.backwards else "forwards"
    windows = len(job.lengths())
    lines = [
        f"Extended {way} by {job.shown} frames ({job.shown / clip.fps:.2f} s at {clip.fps:g} fps)"
        f" in {windows} window{'s' * (windows != 1)}; each knows"
        f" {pixel_frames(job.context)} frames or more.",
    ]
    if extent.fps != clip.fps:
        lines.append(
            f"Made at {extent.fps:g} fps, shown at {clip.fps:g}: each new frame is mixed from the"
            " two nearest."
        )
    return "\n".join(lines)


def joined(job: Extension, sequence: Tensor) -> dict:
    """A sequence as a LATENT for the plan."""
    return {"samples": torch.as_tensor(sequence), FPS: job.extent.fps}
