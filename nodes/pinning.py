"""Images pinned into the latent of a video that is still to be made.

B batch, C channels, F pixel frames, T/H/W latent frames/rows/columns (in FHWC: pixels).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..models.pins import (
    Pin,
    cells_of_region,
    frames_held,
    pin_at,
    pinned_mask,
    pinned_twice,
    put_pin,
)
from . import host
from .fitting import FITS, SAME_SHAPE, fit_frames, fit_with_edges, surround
from .footage import (
    check_frames,
    encode_clip,
    encode_ending,
    grid_of,
    patch_of,
)
from .host.duck import temporal_stride
from .host.shown import SHOWN, Shown
from .latent_dicts import PINS, Latent, mask_of, real_frames, samples_of, shown_size
from .verbs import check_choice

NEAR = 0.5 / 255  # of a mask's value to 0 or 1: what resampling or 8 bits make of those
COUNTS = {4: "Four", 6: "Six", 8: "Eight"}


def pin_images(
    latent: Latent,
    vae: Any,
    images_FHWC: Tensor,
    frame: int,
    strength: float,
    fit: str,
    mask: Tensor | None = None,
    own_1CTHW: Tensor | None = None,
    by_frame: bool = False,
) -> tuple[Latent, str]:
    """The LATENT with images pinned, and what was done in words; a ValueError names a setting.

    `own_1CTHW` are latents that the images were decoded from, for where they begin the video.
    `by_frame`: the model is told of each pixel frame, and makes those that no image shows.
    """
    if not 0 < strength <= 1:
        raise ValueError(
            f"Setting strength is {strength:g}; need more than 0 (which would pin nothing) and at"
            " most 1."
        )
    check_choice("fit", fit, FITS)
    images_FHWC = images_FHWC[..., :3]
    check_frames(images_FHWC)
    samples = samples_of(latent, host.latent_channels(vae)).float()
    (H, W), stride, canvas = samples.shape[-2:], temporal_stride(vae), canvas_of(samples, vae)
    size = shown_size(latent, (H, W), host.spatial_stride(vae), grid_of(vae))
    pin = pin_at(frame, len(images_FHWC), real_frames(latent, stride), stride)
    images_FHWC = images_FHWC[..., :3].float().cpu()
    region_FHW = grown(region_of(images_FHWC, mask, size, fit)[..., None], canvas)[..., 0]
    cells_THW = cells_of_region(region_FHW, pin, grid_of(vae))
    pinned_THW = pinned_mask(cells_THW, strength, (H, W), patch_of(vae))
    if not (pinned_THW < 1).any():
        patch = f"whole patch of {grid_of(vae)}x{grid_of(vae)} pixels"
        raise ValueError(
            f"Setting fit is {fit}, which leaves no {patch} to pin: take crop, or a larger canvas."
            if mask is None
            else f"The mask covers no {patch}, so nothing would be pinned: paint a larger area (1 ="
            " pinned), invert it, or disconnect it."
        )
    before = mask_of(latent, samples.shape, stride)
    before = torch.ones_like(samples[:, :1]) if before is None else before.to(samples.device)
    known = tuple(latent.get(PINS, ()))
    check_free(before, pin, pinned_THW.to(before), known)
    fitted_FHWC = grown(fit_with_edges(images_FHWC, size, fit), canvas)
    if own_1CTHW is None or pin.first:
        own_1CTHW = encode_pin(vae, fitted_FHWC, pin)
    encoded = own_1CTHW[..., :H, :W].to(samples)
    values = put_pin(samples, before, pin, encoded, pinned_THW.to(before))
    shown = Shown(pin.frame, fitted_FHWC, pin.first, encoded, pinned_THW == 0)
    rest = {name: value for name, value in latent.items() if name != "downscale_ratio_spacial"}
    pins = (*known, (pin.own[0], pin.own[-1]))
    made = {**rest, "samples": values[0], "noise_mask": values[1], PINS: pins}
    made[SHOWN] = (*latent.get(SHOWN, ()), shown)
    return made, report_of(pin, strength, bool((pinned_THW == 1).any()), by_frame)


def grown(frames_FHWC: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Frames with their edges repeated at the bottom and on the right, to fill the canvas."""
    same = tuple(frames_FHWC.shape[1:3]) == canvas
    return frames_FHWC if same else surround(frames_FHWC, canvas, 0, 0)


def canvas_of(samples_BCTHW: Tensor, vae: Any) -> tuple[int, int]:
    """Height and width in pixels of what a latent decodes to."""
    H, W = samples_BCTHW.shape[3:]
    return H * host.spatial_stride(vae), W * host.spatial_stride(vae)


def encode_pin(vae: Any, images_FHWC: Tensor, pin: Pin) -> Tensor:
    """The latents_1CTHW of a pin's latent frames, as they are at its place in a sequence."""
    frames_FHWC = images_FHWC[list(pin.sources)]
    return (encode_ending if pin.first else encode_clip)(vae, frames_FHWC)


def region_of(images_FHWC: Tensor, mask: Tensor | None, size: tuple[int, int], fit: str) -> Tensor:
    """What of the fitted images is pinned, in 0..1, as region_FHW of one frame or of one each."""
    own = torch.ones_like(images_FHWC[:1, ..., :1])
    region = fit_frames(own if mask is None else mask_like(images_FHWC, mask), size, fit)[..., 0]
    return torch.where((region - region.round()).abs() < NEAR, region.round(), region)


def mask_like(images_FHWC: Tensor, mask: Tensor) -> Tensor:
    """A MASK as mask_FHW1 in 0..1 for these images; ValueError where it is not of their shape."""
    F, H, W = images_FHWC.shape[:3]
    mask_FHW = mask.reshape(-1, *mask.shape[-2:]).float().cpu().clamp(0, 1)
    if len(mask_FHW) not in (1, F):
        raise ValueError(
            f"The mask has {len(mask_FHW)} frames for {F} image{'s' * (F != 1)}: give one mask, or"
            " one for each."
        )
    height, width = mask_FHW.shape[1:]
    if abs((width / height) / (W / H) - 1) > SAME_SHAPE:
        raise ValueError(
            f"The mask is {width}x{height} and the image {W}x{H}, another shape: paint the mask on"
            " the image that is pinned, or disconnect it."
        )
    return fit_frames(mask_FHW[..., None], (H, W), "stretch")


def check_free(mask_B1THW: Tensor, pin: Pin, pinned_THW: Tensor, known: tuple) -> None:
    """ValueError where a part of a latent frame is pinned already."""
    latent = pinned_twice(mask_B1THW, pin, pinned_THW)
    if latent is None:
        return
    group = frames_held(latent, latent + 1, pin.stride)
    near = [span(*pin) for pin in known if pin[0] <= group[-1] and pin[1] >= group[0]]
    raise ValueError(
        f"Setting frame puts a pin on {span(pin.own[0], pin.own[-1])}, too near to what is pinned"
        f" already ({near[0] if near else 'a part of the latent'}): one latent frame holds"
        f" {span(group[0], group[-1])}. Choose a frame outside, or masks that do not overlap."
    )


def span(first: int, last: int) -> str:
    """Frames in words."""
    return f"frame {first}" if first == last else f"frames {first} to {last}"


def report_of(pin: Pin, strength: float, partly: bool, by_frame: bool = False) -> str:
    """What was pinned, in words."""
    until = "to the end" if strength == 1 else f"for {strength:.0%} of the steps"
    lines = [
        f"Pinned {span(pin.own[0], pin.own[-1])}{' in part (whole patches)' * partly} at strength"
        f" {strength:g} (held {until})."
    ]
    extra = [at for at in pin.held if at not in pin.own]
    held = span(pin.held[0], pin.held[-1])
    if extra and by_frame:
        lines.append(f"The model makes the rest of {held} around them.")
    elif extra:
        lines.append(
            f"{COUNTS.get(pin.stride, pin.stride)} frames are one latent frame: {held} are pinned"
            " together, and the nearest image stands for"
            f" frame{'s' * (len(extra) > 1)} {', '.join(map(str, extra))}."
        )
    return "\n".join(lines)
