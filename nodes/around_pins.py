"""The video that is made around pinned images: its canvas, and how it shows them exactly.

B batch, C channels, F pixel frames, T/H/W latent frames/rows/columns (in FHWC: pixels).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..models.assembly import Given, Made, Piece, crop
from ..models.pins import Pin, frames_held, pin_at
from . import host
from .cells import cells_of, latent_shape
from .footage import Footage, at_rate, check_frames, check_rate, grid_of
from .host.duck import temporal_stride
from .host.facts import facts_of, rate_of
from .host.native import native_kind
from .host.shown import Shown, left_free, shown_in, without
from .latent_dicts import (
    FPS,
    SIZE,
    Latent,
    check_seconds,
    frames_for,
    mask_of,
    real_frames,
    samples_of,
    shown_size,
)
from .pinning import canvas_of, pin_images, span
from .sound import SPARE, place
from .types import Plan


def pin_clip(
    clip: Footage, last_FHWC: Tensor | None, seconds: float, settings: dict
) -> tuple[Latent, Plan]:
    """The canvas with a clip and what ends it pinned, and the plan of the VIDEO around them."""
    last_FHWC = checked_last(last_FHWC)
    clip, mask, notes = at_models_rate(clip, settings)
    canvas = canvas_for(clip, seconds, settings)
    frames = real_frames(canvas, clip.stride)
    pin, at_end = check_room(clip, last_FHWC, frames, seconds, settings)
    how: dict[str, Any] = {name: settings[name] for name in ("strength", "fit")}
    how["by_frame"] = native_kind(settings["model"]) == "wan"
    size = canvas.get(SIZE, canvas_of(canvas["samples"], clip.vae))
    own = clip.latent_1CTHW if clip.size == size and mask is None else None
    latent, shown, report = pin_loosely(
        canvas, clip.vae, clip.frames_FHWC, pin, how, mask=mask, own_1CTHW=own
    )
    reports = [report, *scaled("The clip", clip.size, size, how["fit"])]
    if last_FHWC is not None and at_end is not None:
        if at_end.first < pin.stop and not free_from(latent, at_end.first):
            raise ValueError(too_near(pin, at_end, seconds))
        latent, ends, report = pin_loosely(latent, clip.vae, last_FHWC, at_end, how)
        reports += [report, *scaled("last_image", last_FHWC.shape[1:3], size, how["fit"])]
        shown = (*shown, *ends)
    free = latent["noise_mask"]
    if not (left_free(free, shown) if how["by_frame"] else free).any():
        raise ValueError(
            f"Setting seconds is {seconds:g}, of which all is given: there is nothing to generate,"
            " so make it longer."
        )
    begins = f"{frames} frames ({frames / clip.fps:.2f} s at {clip.fps:g} fps)."
    also = *heard(clip, frames, pin), *too_long(frames, settings["model"])
    words = "\n".join((begins, *reports, *notes, *also))
    sound = place(clip.audio, pin.frame / clip.fps, frames / clip.fps)
    seams = [pin.frame + seam for seam in clip.seams]
    return latent, plan_of(latent, clip.vae, words, sound, shown, seams)


def checked_last(last_FHWC: Tensor | None) -> Tensor | None:
    """What ends the video, as RGB; a ValueError names the input."""
    if last_FHWC is None:
        return None
    last_FHWC = last_FHWC[..., :3]
    check_frames(last_FHWC, "Input last_image")
    return last_FHWC


def at_models_rate(clip: Footage, settings: dict) -> tuple[Footage, Tensor | None, tuple[str, ...]]:
    """The clip at the rate of the video, the mask of its frames, and what was done, in words.

    That is generate_fps, else a latent's own, else what the model was trained at. A single frame
    has no rate.
    """
    mask = settings.get("mask")
    usual = clip.fps if clip.latent_1CTHW is not None else facts_of(settings["model"]).fps
    fps = check_rate("generate_fps", settings["generate_fps"] or usual)
    if clip.frames == 1:
        return replace(clip, fps=fps), mask, ()
    if mask is not None and mask.ndim > 2 and len(mask) > 1:
        if len(mask) != clip.frames:
            raise ValueError(
                f"Input mask has {len(mask)} frames for {clip.frames} of the clip: give one, or one"
                " for each."
            )
        masks = replace(clip, frames_FHWC=mask.reshape(-1, *mask.shape[-2:]))
        mask = at_rate(masks, fps, "")[0].frames_FHWC
    changed, notes = at_rate(clip, fps, "The clip")
    return changed, mask, notes


def canvas_for(clip: Footage, seconds: float, settings: dict) -> Latent:
    """An empty LATENT of so many seconds for a clip, in its size or that of the settings."""
    cells = cells_of(clip.vae)
    size = size_asked(clip.size, settings["height"], settings["width"])
    height, width = (-(-side // cells.grid) * cells.grid for side in size)
    shape = latent_shape(
        width, height, frames_for(check_seconds(seconds), clip.fps, cells.frames), 1, cells
    )
    canvas: Latent = {"samples": torch.zeros(shape), FPS: clip.fps}
    return canvas if size == (height, width) else {**canvas, SIZE: size}


def size_asked(own: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Height and width in pixels; 0 follows the picture: its own size, or its shape."""
    for name, side in (("height", height), ("width", width)):
        if side and (side < 16 or side % 2):
            raise ValueError(
                f"Setting {name} is {side} pixels; need an even number from 16 on, or 0 to take the"
                " picture's."
            )
    if not height and not width:
        return own
    even = lambda side: max(2 * int(side / 2 + 0.5), 16)  # noqa: E731
    return height or even(width * own[0] / own[1]), width or even(height * own[1] / own[0])


def check_room(
    clip: Footage, last_FHWC: Tensor | None, frames: int, seconds: float, settings: dict
) -> tuple[Pin, Pin | None]:
    """Where the clip goes and where what ends the video goes; a ValueError where they overlap."""
    last = 0 if last_FHWC is None else len(last_FHWC)
    if clip.frames + last > frames:
        raise ValueError(
            f"Setting seconds is {seconds:g}, {frames} frame{'s' * (frames > 1)} at"
            f" {clip.fps:g} fps, and {clip.frames + last} are given: make seconds longer, or give"
            " fewer frames."
        )
    pin = pin_at(settings["frame"], clip.frames, frames, clip.stride)
    at_end = pin_at(-last, last, frames, clip.stride) if last else None
    if at_end is not None and pin.own.stop > at_end.frame:
        raise ValueError(too_near(pin, at_end, seconds))
    return pin, at_end


def too_near(pin: Pin, at_end: Pin, seconds: float) -> str:
    """What is said where a clip and what ends the video have no room beside each other."""
    own, end, held = (span(at[0], at[-1]) for at in (pin.own, at_end.own, at_end.held))
    return (
        f"Setting seconds is {seconds:g} and the clip at {own} leaves no room for last_image at"
        f" {end}, which holds {held}: make seconds longer, or frame smaller."
    )


def pin_loosely(
    latent: Latent, vae: Any, frames_FHWC: Tensor, pin: Pin, how: dict, **more: Any
) -> tuple[Latent, tuple[Shown, ...], str]:
    """The LATENT with frames pinned, what they show, and what was done in words.

    A latent frame that they fill only in part is left free: held, it would show the nearest frame
    as a still; free, the model goes on with the motion that it knows, and the frames themselves are
    shown over it. Not where nothing would be left to know, and not where the model is told of each
    frame by itself.
    """
    partly = partly_shown(pin.frame, pin.images, pin.first, pin.stop, pin.stride)
    if len(partly) == pin.stop - pin.first:
        partly = []
    told: dict[str, Any] = how | more | {"by_frame": how["by_frame"] or bool(partly)}
    latent, report = pin_images(latent, vae, frames_FHWC, pin.frame, **told)
    held = shown_in(latent, latent["noise_mask"])
    shown = tuple(note for note in held if note.frame == pin.frame)
    if partly and not how["by_frame"]:
        mask = latent["noise_mask"].clone()
        mask[:, :, partly] = 1
        latent = {**latent, "noise_mask": mask}
    return latent, shown, report


def partly_shown(frame: int, images: int, first: int, stop: int, stride: int) -> list[int]:
    """Those of the latent frames first .. stop - 1 that so many images fill only in part."""
    groups = [(at, frames_held(at, at + 1, stride)) for at in range(first, stop)]
    return [at for at, held in groups if held[0] < frame or held[-1] >= frame + images]


def free_from(latent: Latent, first: int) -> bool:
    """Whether nothing is held from this latent frame on."""
    return bool((latent["noise_mask"][:, :, first:] == 1).all())


def scaled(name: str, own: Sequence[int], size: tuple[int, int], fit: str) -> list[str]:
    """What is said of images of another size."""
    if tuple(own) == size:
        return []
    sizes = [f"{width}x{height}" for height, width in (own, size)]
    return [f"{name} was scaled from {sizes[0]} to {sizes[1]} pixels ({fit})."]


def heard(clip: Footage, frames: int, pin: Pin) -> list[str]:
    """What is said of sound that is longer than the video."""
    if clip.audio is None:
        return []
    sound = clip.audio["waveform"].shape[-1] / clip.audio["sample_rate"]
    over = pin.frame / clip.fps + sound - frames / clip.fps
    return [f"The last {over:.2f} s of the sound are cut off."] if over > SPARE else []


def too_long(frames: int, model: Any) -> list[str]:
    """What is said, before the run too, of a video longer than those the model was trained on."""
    most = facts_of(model).frames
    if frames <= most:
        return []
    words = (
        f"The model was trained at up to {most} frames: for a longer video make these and go on"
        " with Extend Video."
    )
    logging.warning("%s", words)
    return [words]


def plan_of(
    latent: Latent,
    vae: Any,
    report: str,
    audio: dict | None = None,
    shown: Sequence[Shown] | None = None,
    seams: Sequence[int] = (),
) -> Plan:
    """How a canvas with pins, once it is denoised, becomes a VIDEO that shows them exactly.

    `shown` are the images, if not those that the LATENT holds; `seams` are their own. Of a latent
    frame that images show only in part the latent is that of a still: the sampler may have made it
    anew, so it is not pasted back.
    """
    samples, stride = samples_of(latent).float().cpu(), temporal_stride(vae)
    mask = mask_of(latent, samples.shape, stride)
    assert mask is not None  # of a canvas with pins
    mask = mask.cpu()
    notes = shown_in(latent, latent["noise_mask"]) if shown is None else shown
    for note in notes:
        end = note.first + len(note.cells_THW)
        for at in partly_shown(note.frame, len(note.images_FHWC), note.first, end, stride):
            mask[:, :, at].masked_fill_(note.cells_THW[at - note.first].cpu(), 1.0)
    if without(mask == 0, notes).any():
        report += (
            "\nMore of this latent is known: where that is of a Prepare node, Finish Video needs"
            " its plan."
        )
    size = shown_size(latent, samples.shape[3:], host.spatial_stride(vae), grid_of(vae))
    pieces = pieces_around(samples, notes, real_frames(latent, stride), size)
    starts = tuple(accumulate(piece.frames for piece in pieces))[:-1]
    window = {**latent, "samples": samples, "noise_mask": mask}
    rate = latent.get(FPS) or rate_of(vae)
    places = tuple(sorted({*starts, *seams}))
    return Plan(vae, window, (slice(None),), pieces, rate, size, audio, places, report)


def pieces_around(
    latent_BCTHW: Tensor, shown: Sequence[Shown], frames: int, size: tuple[int, int]
) -> tuple[Piece, ...]:
    """Images that are pinned as a whole, as they are, and what is made before and after them."""
    whole = sorted((note for note in shown if note.cells_THW.all()), key=lambda note: note.frame)
    pieces, at, before_HWC = [], 0, None
    for note in whole:
        images_FHWC = crop(note.images_FHWC, size)
        if note.frame > at:
            count, after = note.frame - at, images_FHWC[0]
            pieces.append(Made(latent_BCTHW, at, count, before_HWC, after, size=size))
        pieces.append(Given(images_FHWC))
        at, before_HWC = note.frame + len(images_FHWC), images_FHWC[-1]
    if at < frames:
        pieces.append(Made(latent_BCTHW, at, frames - at, before_HWC, size=size))
    return tuple(pieces)
