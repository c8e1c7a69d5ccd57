"""Extending a clip in time: what is known, what is to come, and how both become one clip.

T latent frames; latents_1CTHW are raw VAE means, frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import accumulate
from math import ceil
from typing import Any

from torch import Tensor

from ..models.assembly import Given, Made
from ..models.extend import (
    backward_lengths,
    canvas,
    front_of,
    usual_context,
    window_lengths,
)
from ..models.timeline import STRIDE, frames_back, pixel_frames, places_after
from .footage import (
    Footage,
    check_rate,
    encode_clip,
    encode_ending,
    same_rate,
)
from .host.facts import facts_of
from .latent_dicts import FPS, check_seconds
from .sound import join
from .types import Plan
from .verbs import window_latents

ENOUGH = 5  # latent frames, 17 frames: with 3 of a window of 9 blockworld may lose its subject


@dataclass(frozen=True)
class Extent:
    """How far a clip is extended, and in windows of what size."""

    backwards: bool
    seconds: float
    window: int  # latent frames
    context: int  # latent frames known to a window; 0: half of it and at most 5, or what there is
    fps: float  # frames per second that the model makes


def extent_from(
    settings: dict[str, Any], seconds: float, *clips: Footage, backwards: bool = False
) -> Extent:
    """The length of a new part, and its windows, from a node's inputs.

    Clips that came as latents, and those at about the model's own rate, keep their rate.
    """
    model, context, (first, *_) = settings["model"], settings["context"], clips
    window = window_latents(model, settings["window"], stride=first.stride)
    known = window_latents(model, context, "context", first.stride) if context else 0
    fps = check_rate("generate_fps", settings["generate_fps"] or facts_of(model).fps)
    if any(clip.latent_1CTHW is not None for clip in clips) or same_rate(first.fps, fps):
        fps = first.fps
    return Extent(backwards, check_seconds(seconds), window, known, fps)


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
    shown = max(round(extent.seconds * clip.fps), 1)
    made = ceil(shown * extent.fps / clip.fps - 1e-6)
    if extent.backwards:
        known = beginning_of(clip, extent)
        new = ceil((made + lost_frames(clip)) / clip.stride)
        context = context_latents(extent, known.shape[2], new, clip.stride)
        front = known if known.shape[2] + new <= extent.window else known[:, :, :context]
    else:
        known, places = ending_of(clip, extent)
        new = ceil(made / clip.stride)
        context = context_latents(extent, known.shape[2], new, clip.stride)
        front = front_of(known, new, extent.window, context, partial(own_still, clip, places))
    job = Extension(clip, extent, known, front, new, shown, context)
    job.lengths()  # that windows and context leave room for each other
    return job


def ending_of(clip: Footage, extent: Extent) -> tuple[Tensor, list[int]]:
    """Latents of the clip's end, and which of its frames, at the fps, they stand for."""
    if clip.latent_1CTHW is not None:
        return clip.latent_1CTHW, list(range(clip.frames))
    wanted = extent.window * clip.stride if extent.fps != clip.fps else clip.frames
    places = frames_back(clip.frames, clip.fps, extent.fps, wanted)
    places = places[(len(places) - 1) % clip.stride :]
    contiguous = places == list(range(places[0], clip.frames))  # a view then, no copy of the clip
    frames_FHWC = clip.frames_FHWC[places[0] :] if contiguous else clip.frames_FHWC[places]
    return encode_clip(clip.vae, frames_FHWC), places


def has_suffix(clip: Footage) -> bool:
    """Whether a clip's own latents can stand behind others: all but the first, an image."""
    return clip.latent_1CTHW is not None and clip.latent_1CTHW.shape[2] > 1


def lost_frames(clip: Footage) -> int:
    """How many frames, of a group for each latent made before a clip, do not come before it.

    Latent 0 is a single frame, and a LATENT's own first frame is made anew.
    """
    return clip.stride - 1 + has_suffix(clip)


def beginning_of(clip: Footage, extent: Extent) -> Tensor:
    """The latents, without an image latent, of the clip's first groups of frames at the fps."""
    if clip.latent_1CTHW is not None and has_suffix(clip):
        return clip.latent_1CTHW[:, :, 1:]
    stride, last = clip.stride, clip.frames - 1
    wanted = extent.window * stride if extent.fps != clip.fps else clip.frames
    places = [last - p for p in frames_back(clip.frames, clip.fps, extent.fps, wanted)][::-1]
    places = places[: len(places) // stride * stride] or (places + [places[-1]] * stride)[:stride]
    if places == list(range(len(places))):  # a view: no second copy of the clip
        return encode_ending(clip.vae, clip.frames_FHWC[: len(places)])
    return encode_ending(clip.vae, clip.frames_FHWC[places])


def own_still(clip: Footage, places: list[int], latent_1CTHW: Tensor) -> Tensor:
    """As `last_frame_as_image` for latents of the clip's frames `places`, undecoded."""
    last = places[pixel_frames(latent_1CTHW.shape[2], clip.stride) - 1]
    return encode_clip(clip.vae, clip.frames_FHWC[last : last + 1])


def check_context(extent: Extent, known: int, stride: int = STRIDE) -> None:
    """ValueError where a window has no room for the context and new frames, or a clip too few."""
    asked, window = (pixel_frames(latents, stride) for latents in (extent.context, extent.window))
    if extent.context > known:
        raise ValueError(
            f"Setting context is {asked} frames, {extent.context} latents, and the clip has {known}"
            " latents to know: make the context shorter, or 0 to take what there is."
        )
    if extent.context >= extent.window:
        raise ValueError(
            f"Setting context is {asked} frames and the window {window}; make the context shorter"
            " or the window longer."
        )
    if extent.window < 2:
        raise ValueError(
            f"The window is {window} frame, which leaves no room for new ones; make it longer."
        )


def context_latents(extent: Extent, known: int, new: int, stride: int = STRIDE) -> int:
    """Latent frames that a window knows of those before it; the first has what there are.

    Where the setting is 0, a little less is known if so one window can make all `new` ones.
    """
    check_context(extent, known, stride)
    enough, least = min((extent.window + 1) // 2, ENOUGH), usual_context(extent.window)
    fitting = extent.window - new  # known ones beside which one window makes all
    return extent.context or (min(enough, fitting) if fitting >= least else enough)


def plan_of(job: Extension) -> Plan:
    """How the front and the new latents, in one sequence, become the longer clip."""
    clip, size = job.clip, job.front_1CTHW.shape[2]
    rate = Fraction(clip.fps).limit_denominator(1001)
    new_sound, own_sound = (None, job.shown / rate), (clip.audio, clip.frames / rate)
    if job.extent.backwards:
        latent, mask = canvas(job.front_1CTHW, job.new, 0)
        parts = slice(0, job.new), job.known_1CTHW
        pieces = made_before(job, latent), Given(clip.frames_FHWC)
        sounds = [new_sound, own_sound]
    else:
        latent, mask = canvas(job.front_1CTHW, 0, job.new)
        parts = job.known_1CTHW, slice(size, None)
        pieces = Given(clip.frames_FHWC), made_after(job, latent)
        sounds = [own_sound, new_sound]
    window = {"samples": latent, "noise_mask": mask, FPS: job.extent.fps}
    sound, words = join(sounds), report_of(job)
    return Plan(clip.vae, window, parts, pieces, clip.fps, clip.size, sound, seams_of(job), words)


def seams_of(job: Extension) -> tuple[int, ...]:
    """Frames of the longer clip at which another part begins: the clip's own, windows, the clip."""
    clip, lengths = job.clip, job.lengths()
    rate = clip.fps / job.extent.fps
    if not job.extent.backwards:
        ends = accumulate(lengths[:-1], initial=0)
        seams = (clip.frames + round(clip.stride * end * rate) for end in ends)
        return *clip.seams, *(seam for seam in seams if seam < clip.frames + job.shown)
    kept = accumulate(length - 1 for length in lengths[:-1])  # each lost its image to the next
    back = [clip.stride * latents - has_suffix(clip) for latents in kept]
    seams = [job.shown - round(frames * rate) for frames in reversed(back)]
    own = (job.shown + seam for seam in (0, *clip.seams))
    return tuple(seam for seam in (*seams, *own) if seam > 0)


def made_after(job: Extension, latent: Tensor) -> Made:
    """The new frames that follow the clip."""
    clip, extent = job.clip, job.extent
    made = clip.stride * job.new
    places, count = None, min(job.shown, made)
    if extent.fps != clip.fps:
        places, count = places_after(job.shown, clip.fps, extent.fps), made
    first = pixel_frames(job.front_1CTHW.shape[2], clip.stride)
    return Made(latent, first, count, clip.frames_FHWC[-1], shown=places, size=clip.size)


def made_before(job: Extension, latent: Tensor) -> Made:
    """The new frames that lead to the clip."""
    clip, extent = job.clip, job.extent
    made = clip.stride * job.new - lost_frames(clip)
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
    made = job.clip.stride * new - (lost_frames(job.clip) if job.extent.backwards else 0)
    shown = int(made * job.clip.fps / job.extent.fps + 1e-6)
    return replace(job, new=new, shown=min(job.shown, shown))


def report_of(job: Extension) -> str:
    """What was done, in words."""
    clip, extent = job.clip, job.extent
    way = "backwards" if extent.backwards else "forwards"
    windows, knows = len(job.lengths()), job.front_1CTHW.shape[2]
    knows = min(job.context, knows) if windows > 1 else knows
    knows = clip.stride * knows if extent.backwards else pixel_frames(knows, clip.stride)
    lines = [
        f"Extended {way} by {job.shown} frames ({job.shown / clip.fps:.2f} s at {clip.fps:g} fps)"
        f" in {windows} window{'s' * (windows != 1)}; each knows {knows} frame{'s' * (knows != 1)}"
        f"{' or more' * (windows > 1)}.",
    ]
    if extent.fps != clip.fps:
        lines.append(
            f"Made at {extent.fps:g} fps, shown at {clip.fps:g}: each new frame is mixed from the"
            " two nearest. The latent is at the rate it was made at and holds no more of the clip"
            " than the model saw; to go on from here, extend the video."
        )
    return "\n".join(lines)
