"""Planning a change of frame: its size, what of the clip is known in it, and the pieces.

B batch, C channels, F pixel frames, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.assembly import Given, Made
from ..models.reframe import Side, kept_shares, mask_outside, side_at, size_for, window_starts
from ..models.timeline import STRIDE, first_pixel_frame, whole_groups
from . import host
from .aspects import ratio_of
from .fitting import surround
from .footage import Footage, encode_clip, grid_of, patch_of, same_rate
from .latent_dicts import FPS, FRAMES, Latent
from .types import Plan
from .verbs import check_choice

WIDEN, CROP = "widen", "crop"


@dataclass(frozen=True)
class Framing:
    """A clip in its new frame: which of its pixels are kept, and where."""

    clip: Footage
    rows: Side
    columns: Side
    feather: int
    fps: float  # frames per second that the model makes

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the new frame."""
        return self.rows.size, self.columns.size

    @property
    def place(self) -> tuple[int, int]:
        """The row and column of the new frame where the clip begins."""
        return self.rows.place, self.columns.place

    @property
    def own_FHWC(self) -> Tensor:
        """The pixels that are kept."""
        return self.clip.frames_FHWC[:, self.rows.own, self.columns.own]

    @property
    def cropped(self) -> bool:
        """Whether nothing has to be generated."""
        return (self.rows.length, self.columns.length) == self.size


def frame_clip(
    clip: Footage, settings: dict[str, Any], fps: float, grid: int | None = None
) -> Framing:
    """The framing that a node's settings ask for; a ValueError names a setting that cannot be."""
    grid = grid or grid_of(clip.vae)
    for name in ("anchor_x", "anchor_y"):
        if not 0 <= settings[name] <= 1:
            raise ValueError(f"Setting {name} is {settings[name]:g}; need 0 to 1.")
    if settings["feather"] < 0:
        raise ValueError(f"Setting feather is {settings['feather']} pixels; need 0 or more.")
    size = new_size(clip.size, settings, grid)
    anchors = settings["anchor_y"], settings["anchor_x"]
    rows, columns = map(side_at, clip.size, size, anchors, (grid, grid))
    return Framing(clip, rows, columns, settings["feather"], fps)


def new_size(old: tuple[int, int], settings: dict[str, Any], grid: int) -> tuple[int, int]:
    """Height and width in pixels."""
    aspect, how = settings["aspect"], settings["how"]
    check_choice("how", how, (WIDEN, CROP))
    ratio = ratio_of(aspect)
    if ratio is not None:
        return size_for(old, (ratio[1], ratio[0]), how == WIDEN, grid)
    for name in ("width", "height"):
        if settings[name] < 2 or settings[name] % 2:
            raise ValueError(f"Setting {name} is {settings[name]} pixels; need an even number.")
    return settings["height"], settings["width"]


def plan_of(job: Framing, window: int, context: int) -> Plan:
    """How latents with the clip's surroundings generated become the clip in its new frame."""
    clip = job.clip
    if job.cropped:
        return plan_of_crop(job)
    latent = with_own_latents(job, encode_surrounded(job))
    share_1HW = kept_shares(job.rows, job.columns, job.feather)
    mask = mask_outside(share_1HW, latent, host.spatial_stride(clip.vae), patch_of(clip.vae))
    if mask.all():
        raise ValueError(
            f"The kept part of the clip is {job.columns.length}x{job.rows.length} pixels and holds"
            f" no whole patch of {grid_of(clip.vae)}: keep more of it, or scale the clip first."
        )
    canvas: Latent = {"samples": latent, "noise_mask": mask, FPS: clip.fps}
    kept = {"kept_FHWC": job.own_FHWC, "kept_FHW": share_1HW, "kept_at": job.place}
    made = Made(latent, 0, clip.frames, **kept, size=job.size)
    starts = window_starts(latent.shape[2], window, context)
    seams = (*clip.seams, *(first_pixel_frame(start, clip.stride) for start in starts[1:]))
    return Plan(
        clip.vae,
        with_length(canvas, clip.frames, clip.stride),
        (slice(None),),
        (made,),
        clip.fps,
        job.size,
        clip.audio,
        seams,
        report_of(job, len(starts)),
    )


def encode_surrounded(job: Framing) -> Tensor:
    """The latents_1CTHW of the clip in its new frame, its outermost pixels all around it.

    Only here are there frames of that size, for as long as it takes.
    """
    own_FHWC = whole_groups(job.own_FHWC, job.clip.stride)
    around_FHWC = surround(own_FHWC, job.size, *job.place)
    return encode_clip(job.clip.vae, around_FHWC)


def plan_of_crop(job: Framing) -> Plan:
    """The plan for a frame inside the clip's: nothing is generated."""
    clip = job.clip
    own_FHWC = whole_groups(job.own_FHWC, clip.stride)
    latent = with_own_latents(job, encode_clip(clip.vae, own_FHWC))
    canvas: Latent = {"samples": latent, "noise_mask": torch.zeros_like(latent[:, :1])}
    canvas = with_length({**canvas, FPS: clip.fps}, clip.frames, clip.stride)
    pieces = (Given(job.own_FHWC),)
    report = report_of(job, 0)
    parts = (slice(None),)
    return Plan(clip.vae, canvas, parts, pieces, clip.fps, job.size, clip.audio, clip.seams, report)


def with_length(latent: Latent, frames: int, stride: int = STRIDE) -> Latent:
    """The LATENT, which says how many of its frames are the clip where the last are padding."""
    return latent if (frames - 1) % stride == 0 else {**latent, FRAMES: frames}


def with_own_latents(job: Framing, latent_1CTHW: Tensor) -> Tensor:
    """The latents, with the clip's own in their place where it came as a LATENT.

    Only where pixels and latent cells coincide; else they stay encoded from its pixels.
    """
    own, stride = job.clip.latent_1CTHW, host.spatial_stride(job.clip.vae)
    sides = job.rows, job.columns
    if own is None or any(n % stride for s in sides for n in (s.start, s.place, s.length)):
        return latent_1CTHW
    here = [slice(s.place // stride, (s.place + s.length) // stride) for s in sides]
    there = [slice(s.start // stride, (s.start + s.length) // stride) for s in sides]
    whole = latent_1CTHW.clone()
    whole[..., here[0], here[1]] = own[..., there[0], there[1]]
    return whole


def report_of(job: Framing, windows: int) -> str:
    """What was done, in words."""
    clip, (height, width) = job.clip, job.size
    lines = [f"{clip.size[1]}x{clip.size[0]} became {width}x{height} pixels."]
    rows, columns = job.rows, job.columns
    if (rows.length, columns.length) != clip.size:
        lines.append(
            f"Kept of the clip: {columns.length}x{rows.length} from {columns.start} across and"
            f" {rows.start} down."
        )
    if job.cropped:
        return "\n".join([*lines, "Nothing was generated: the frames are the clip's own, exactly."])
    lines.append(
        f"It lies at {columns.place} across and {rows.place} down, exactly as it was; outside, its"
        f" outermost pixels fade over {job.feather}. Generated in {windows}"
        f" window{'s' * (windows != 1)}."
    )
    if not same_rate(clip.fps, job.fps):
        lines.append(
            f"The clip keeps its {clip.fps:g} fps; the model was trained at {job.fps:g}, so motion"
            " may look slow or fast to it."
        )
    return "\n".join(lines)
