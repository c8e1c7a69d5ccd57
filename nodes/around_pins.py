"""The video that is made around pinned images: its canvas, and how it shows them exactly.

B batch, C channels, F pixel frames, T/H/W latent frames/rows/columns (in FHWC: pixels).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..models.assembly import Given, Made, Piece
from ..models.pins import frames_held
from . import host
from .clips import FPS, Latent, frames_for, latent_length, mask_of, real_frames, samples_of
from .footage import Footage, at_rate, check_rate, grid_of
from .host.duck import temporal_stride
from .host.facts import facts_of, rate_of
from .host.shown import Shown, shown_in
from .pinning import pin_images, size_of
from .sound import place
from .types import Plan


def plan_of(latent: Latent, vae: Any, report: str, audio: dict | None = None) -> Plan:
    """How a canvas with pins, once it is denoised, becomes a VIDEO that shows them exactly.

    Of a latent frame that images show only in part the latent is that of a still: the sampler may
    have made it anew, so it is not pasted back.
    """
    samples, stride = samples_of(latent), temporal_stride(vae)
    mask = mask_of(latent, samples.shape, stride)
    assert mask is not None  # of a canvas with pins
    shown = shown_in(latent, mask)
    for note in shown:
        for at, cells_HW in enumerate(note.cells_THW, note.first):
            held = frames_held(at, at + 1, stride)
            if held[0] < note.frame or held[-1] >= note.frame + len(note.images_FHWC):
                mask[:, :, at].masked_fill_(cells_HW.to(mask.device), 1.0)
    size = size_of(samples, vae)
    pieces = pieces_around(samples, shown, real_frames(latent, stride), size)
    seams = tuple(accumulate(piece.frames for piece in pieces))[:-1]
    window = {**latent, "noise_mask": mask}
    fps = latent.get(FPS) or rate_of(vae)
    return Plan(vae, window, (slice(None),), pieces, fps, size, audio, seams, report)


def pieces_around(
    latent_BCTHW: Tensor, shown: Sequence[Shown], frames: int, size: tuple[int, int]
) -> tuple[Piece, ...]:
    """Images that are pinned as a whole, as they are, and what is made before and after them."""
    whole = sorted((note for note in shown if note.cells_THW.all()), key=lambda note: note.frame)
    pieces, at, before_HWC = [], 0, None
    for note in whole:
        if note.frame > at:
            after = note.images_FHWC[0]
            pieces.append(Made(latent_BCTHW, at, note.frame - at, before_HWC, after, size=size))
        pieces.append(Given(note.images_FHWC))
        at, before_HWC = note.frame + len(note.images_FHWC), note.images_FHWC[-1]
    if at < frames:
        pieces.append(Made(latent_BCTHW, at, frames - at, before_HWC, size=size))
    return tuple(pieces)


def canvas_for(clip: Footage, last: int, seconds: float, settings: dict) -> Latent:
    """An empty LATENT of so many seconds for a clip, in its size unless the settings say another.

    A ValueError where the clip and `last` frames at the end do not fit into it.
    """
    if not 0 < seconds <= 600:
        raise ValueError(f"Setting seconds is {seconds:g}; need more than 0 and at most 600.")
    vae = clip.vae
    frames = frames_for(seconds, clip.fps, clip.stride)
    if clip.frames + last > frames:
        raise ValueError(
            f"Setting seconds is {seconds:g}, {frames} frame{'s' * (frames > 1)} at"
            f" {clip.fps:g} fps, and {clip.frames + last} are given: make seconds longer, or give"
            " fewer frames."
        )
    size = canvas_size(clip.size, settings["height"], settings["width"], grid_of(vae))
    rows, columns = (side // host.spatial_stride(vae) for side in size)
    channels = host.latent_channels(vae) or 16
    shape = 1, channels, latent_length(frames, clip.stride), rows, columns
    return {"samples": torch.zeros(shape), FPS: clip.fps}


def canvas_size(own: tuple[int, int], height: int, width: int, grid: int) -> tuple[int, int]:
    """Height and width in pixels, multiples of `grid`; those that are 0 follow the picture's."""
    for name, side in (("height", height), ("width", width)):
        if side % grid:
            raise ValueError(
                f"Setting {name} is {side} pixels; need a multiple of {grid}, or 0 to take the"
                " picture's."
            )
    nearest = lambda side: max(round(side / grid), 1) * grid  # noqa: E731
    if height or width:
        return (
            height or nearest(width * own[0] / own[1]),
            width or nearest(height * own[1] / own[0]),
        )
    return nearest(own[0]), nearest(own[1])


def pin_clip(
    clip: Footage, last_FHWC: Tensor | None, seconds: float, settings: dict
) -> tuple[Latent, Plan]:
    """The canvas with a clip and what ends it pinned, and the plan of the VIDEO around them."""
    made = facts_of(settings["model"])
    fps = check_rate("generate_fps", settings["generate_fps"] or made.fps)
    given = clip.size
    clip, notes = at_rate(clip, fps, "The clip")
    ends = 0 if last_FHWC is None else len(last_FHWC)
    canvas = canvas_for(clip, ends, seconds, settings)
    size = size_of(canvas["samples"], clip.vae)
    how = settings["strength"], settings["fit"]
    own = clip.latent_1CTHW if clip.size == size and settings.get("mask") is None else None
    frame, frames = settings["frame"], real_frames(canvas, clip.stride)
    start = (clip.frames_FHWC, frame, *how, settings.get("mask"), own)
    latent, report = pin_images(canvas, clip.vae, *start)
    reports = [report]
    if last_FHWC is not None:
        latent, report = pin_images(latent, clip.vae, last_FHWC, -ends, *how)
        reports.append(report)
    if given != size:
        reports.append(
            f"Scaled from {given[1]}x{given[0]} to {size[1]}x{size[0]} pixels ({how[1]})."
        )
    reports = [f"{frames} frames ({frames / fps:.2f} s at {fps:g} fps).", *reports, *notes]
    if frames > made.frames:
        reports.append(
            f"The model was trained at up to {made.frames} frames: for a longer video make these"
            " and go on with Extend Video."
        )
    begins = frame + frames if frame < 0 else frame
    sound = place(clip.audio, begins / fps, frames / fps)
    return latent, plan_of(latent, clip.vae, "\n".join(reports), sound)
