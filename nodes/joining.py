"""Joining two clips, or the ends of one: what is known around the new part, and the whole again.

A is the clip before the new part, B the one after it; a loop has one clip on both sides. T latent
frames; latents_1CTHW are raw VAE means, frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import accumulate
from math import ceil
from typing import Any

from torch import Tensor

from ..models.assembly import Given, Made, Piece
from ..models.blending import Zone, lay_zone
from ..models.extend import bridge, context_of, front_of, gap, usual_context, window_lengths
from ..models.timeline import STRIDE, pixel_frames, places_between
from .extension import (
    Extent,
    beginning_of,
    check_context,
    ending_of,
    has_suffix,
    own_still,
)
from .fitting import fit_frames
from .footage import Footage, at_rate, last_frame_as_image
from .latent_dicts import FPS
from .sound import CROSSFADE, join, without_beginning
from .types import Plan


@dataclass(frozen=True)
class Joint:
    """A new part between A without its last `cut_a` frames and B without its first `cut_b`."""

    a: Footage
    b: Footage
    extent: Extent
    known_1CTHW: Tensor  # A's latents
    front_1CTHW: Tensor  # those of them that the first window sees
    head_1CTHW: Tensor  # B's first latents, that the last window sees
    tail_1CTHW: Tensor  # B's latents
    new: int  # latent frames to make
    lead: int  # 1 where the last frame made stands for B's first, as with B's own latents
    context: int  # latent frames
    cut_a: int = 0
    cut_b: int = 0
    loop: bool = False
    zone: Zone | None = None
    crossfade: float = CROSSFADE  # seconds of sound
    notes: tuple[str, ...] = ()

    @property
    def before(self) -> Tensor:
        """The frames of A that are shown."""
        return self.a.frames_FHWC[: self.a.frames - self.cut_a]

    @property
    def after(self) -> Tensor:
        """The frames of B that are shown."""
        return self.b.frames_FHWC[self.cut_b :]

    @property
    def made(self) -> int:
        """Frames that the new part has at the rate it is made at."""
        return self.a.stride * self.new - self.lead

    @property
    def places(self) -> tuple[float, ...] | None:
        """Where among them the frames lie that are shown; None: all are."""
        same = self.extent.fps == self.a.fps
        return None if same else places_between(self.made, self.a.fps, self.extent.fps)

    @property
    def shown(self) -> int:
        """Frames of the new part."""
        places = self.places
        return self.made if places is None else len(places)

    def lengths(self) -> list[int]:
        """New latents of each window."""
        known = min(self.context, self.front_1CTHW.shape[2])
        room = self.extent.window - known - self.head_1CTHW.shape[2]
        if self.new <= room:
            return [self.new]
        grown, front = self.new - room, self.front_1CTHW.shape[2]
        return [*window_lengths(grown, front, self.extent.window, known), room]


def conform(clip: Footage, like: Footage, fit: str) -> tuple[Footage, tuple[str, ...]]:
    """A clip in another's size and frame rate, and what was done to it, in words.

    Its frames are scaled by `fit` (crop, pad, stretch); of another rate, the frames nearest in time
    are taken. What needs neither stays as it is, latents included.
    """
    notes = []
    if clip.size != like.size:
        sizes = [f"{width}x{height}" for height, width in (clip.size, like.size)]
        notes.append(f"B was scaled from {sizes[0]} to {sizes[1]} pixels ({fit}).")
        frames = fit_frames(clip.frames_FHWC, like.size, fit)
        clip = replace(clip, frames_FHWC=frames, latent_1CTHW=None)
    clip, changed = at_rate(clip, like.fps, "B")
    return clip, (*notes, *changed)


def new_latents(extent: Extent, lead: int = 0, stride: int = STRIDE) -> int:
    """Latents whose frames last about as long as asked for, at least one."""
    return max(int((extent.seconds * extent.fps + lead) / stride + 0.5), 1)


def prepare_bridge(a: Footage, b: Footage, extent: Extent, **rest: Any) -> Joint:
    """A, new time, and B."""
    lead = int(has_suffix(b))
    known, tail = ending_of(a, extent), beginning_of(b, extent)
    return around(a, b, extent, known, tail, new_latents(extent, lead, a.stride), lead, **rest)


def prepare_loop(clip: Footage, extent: Extent, crossfade: float) -> Joint:
    """A clip, and new time that leads from its end to its beginning.

    The beginning is encoded as an ending, also of a clip that came as latents: so its first frame
    is known, and none is shown twice.
    """
    if clip.frames < 2:
        raise ValueError(
            "The input video has 1 frame; a loop needs at least 2: connect a longer clip, or make"
            " one of it with Extend Video."
        )
    seen = ceil(extent.window * clip.stride * clip.fps / extent.fps)
    start = replace(clip, latent_1CTHW=None, frames_FHWC=clip.frames_FHWC[:seen])
    return prepare_bridge(clip, start, extent, loop=True, crossfade=crossfade)


def around(
    a: Footage,
    b: Footage,
    extent: Extent,
    ending: tuple[Tensor, list[int]],
    tail_1CTHW: Tensor,
    new: int,
    lead: int,
    **rest: Any,
) -> Joint:
    """The job with what its windows see; ValueError where a window has no room.

    `ending` are A's latents and the frames that they stand for.
    """
    known_1CTHW, places = ending
    if known_1CTHW.shape[3:] != tail_1CTHW.shape[3:]:
        raise ValueError(
            f"The latents of A and B have {tuple(known_1CTHW.shape[3:])} and"
            f" {tuple(tail_1CTHW.shape[3:])} rows and columns; decode B first (Decode Video)."
        )
    check_context(extent, known_1CTHW.shape[2], a.stride)
    if extent.context > tail_1CTHW.shape[2]:
        raise ValueError(
            f"After the new part there are {tail_1CTHW.shape[2]} latent frames and setting context"
            f" asks for {extent.context}: make the context shorter, or 0 to take what there is."
        )
    context = extent.context or usual_context(extent.window)
    head = tail_1CTHW[:, :, :context]
    seen = min(context, known_1CTHW.shape[2])
    if seen + head.shape[2] >= extent.window:
        raise ValueError(
            f"A window of {extent.window} latent frames has no room between {seen} and"
            f" {head.shape[2]} known ones: make setting window longer or context shorter."
        )
    still = partial(own_still, a, places)
    if extent.context or new > extent.window - seen - head.shape[2]:
        front = front_of(known_1CTHW, new + head.shape[2], extent.window, context, still)
    else:  # one window: A fills what is left of it
        left = min(known_1CTHW.shape[2], extent.window - new - head.shape[2])
        front = context_of(known_1CTHW, left, still)
    return Joint(a, b, extent, known_1CTHW, front, head, tail_1CTHW, new, lead, context, **rest)


def one_window(job: Joint, instead: str) -> Plan:
    """The plan of a job for a sampler of one's own; ValueError if it takes several windows."""
    if len(job.lengths()) > 1:
        raise ValueError(
            f"Setting seconds is {job.extent.seconds:g}, which takes {len(job.lengths())} windows;"
            f" make it shorter or the window longer, or use {instead}."
        )
    return plan_of(job)


def fill_joint(job: Joint, fill: Callable[[Tensor, Tensor], Tensor]) -> dict:
    """The front, the new latents and the head in one sequence, as a LATENT for the plan."""
    ends, still = (job.front_1CTHW, job.head_1CTHW), partial(last_frame_as_image, job.a.vae)
    sequence = bridge(*ends, job.new, job.extent.window, job.context, fill, still)
    return {"samples": sequence, FPS: job.extent.fps}


def plan_of(job: Joint) -> Plan:
    """How the front, the new latents and the head, in one sequence, become the whole clip."""
    a, front = job.a, job.front_1CTHW.shape[2]
    latent, mask = gap(job.front_1CTHW, job.head_1CTHW, job.new)
    if job.zone is not None:
        latent, _, _ = lay_zone(latent, mask, job.zone, 0)
    window = {"samples": latent, "noise_mask": mask, FPS: job.extent.fps}
    parts: list[Tensor | slice] = [job.known_1CTHW, slice(front, front + job.new)]
    pieces: list[Piece] = [Given(job.before), made_between(job, latent)]
    if not job.loop:
        parts.append(job.tail_1CTHW)
        pieces.append(Given(job.after))
    text = report_of(job)
    audio = sound_of(job)
    return Plan(
        a.vae, window, tuple(parts), tuple(pieces), a.fps, a.size, audio, seams_of(job), text
    )


def made_between(job: Joint, latent_1CTHW: Tensor) -> Made:
    """The new frames."""
    first = pixel_frames(job.front_1CTHW.shape[2], job.a.stride)
    ends = job.before[-1], job.after[0]
    return Made(latent_1CTHW, first, job.made, *ends, shown=job.places, size=job.a.size)


def sound_of(job: Joint) -> dict | None:
    """A's sound, silence in time that neither clip had, and B's sound, in step with its frames."""
    fps = Fraction(job.a.fps).limit_denominator(1001)
    spare = job.shown - job.cut_a - job.cut_b
    sounds = [(job.a.audio, job.a.frames / fps), (None, max(spare, 0) / fps)]
    if not job.loop:
        late, seconds = max(-spare, 0) / fps, job.b.frames / fps
        sounds.append((without_beginning(job.b.audio, late), seconds - late))
    return join(sounds, job.crossfade)


def seams_of(job: Joint) -> tuple[int, ...]:
    """The frames at which another part begins: A's and B's own, each window, and B."""
    first, after = len(job.before), len(job.before) + job.shown
    ends = [job.a.stride * end for end in accumulate(job.lengths()[:-1], initial=0)]
    if job.places is not None:  # of the frames shown, the first behind each end
        ends = sorted({bisect_right(job.places, end) for end in ends})
    tail = [] if job.loop else [after, *(after + s - job.cut_b for s in job.b.seams)]
    own = (seam for seam in job.a.seams if seam < first)
    starts = (first + end for end in ends if end < job.shown)
    return *own, *starts, *(seam for seam in tail if seam >= after)


def report_of(job: Joint) -> str:
    """What was done, in words."""
    a, windows = job.a, len(job.lengths())
    length = f"{job.shown} frames ({job.shown / a.fps:.2f} s at {a.fps:g} fps)"
    many = f"{windows} window{'s' * (windows != 1)}"
    last = len(job.before) + job.shown - 1
    if job.loop:
        lines = [f"Closed a loop of {a.frames} frames with {length} in {many}."]
    elif job.zone is None:
        lines = [
            f"Joined {a.frames} frames of A and {job.b.frames} of B by {length} in {many}.",
            "Blend zone: none; A and B are exactly as they were given"
            f"{' and conformed' if job.notes else ''}.",
        ]
    else:
        lines = [
            f"Turned A into B in {length}, in {many}.",
            f"Blend zone: frames {len(job.before)} to {last}, in place of the last {job.cut_a}"
            f" frames of A and the first {job.cut_b} of B; outside it both are exact.",
        ]
    lines += job.notes
    if job.extent.fps != a.fps:
        lines.append(
            f"Made at {job.extent.fps:g} fps, shown at {a.fps:g}: each new frame is mixed from the"
            " two nearest."
        )
    return "\n".join(lines)
