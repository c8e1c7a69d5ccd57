"""Images pinned into a latent video: which frames they take, and the noise mask they leave.

Latent 0 is pixel frame 0 and an image by itself; each later latent is a group of `stride` pixel
frames, which are pinned together (see `timeline`). B batch, C channels, F pixel frames, T/H/W
latent frames/rows/columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .timeline import STRIDE, first_pixel_frame, latent_of_frame, pixel_frames


@dataclass(frozen=True)
class Pin:
    """Consecutive images from pixel frame `frame` on, and the whole latent frames they take.

    `sources` says which image stands for each pixel frame of those latent frames.
    """

    frame: int
    images: int
    first: int  # latent frames first .. stop - 1
    stop: int
    sources: tuple[int, ...]
    stride: int = STRIDE  # pixel frames per latent frame

    @property
    def held(self) -> range:
        """The pixel frames that the latent frames stand for."""
        return frames_held(self.first, self.stop, self.stride)

    @property
    def own(self) -> range:
        """The pixel frames that show the images themselves."""
        return range(self.frame, self.frame + self.images)


def frames_held(first: int, stop: int, stride: int = STRIDE) -> range:
    """The pixel frames that latent frames first .. stop - 1 stand for."""
    return range(first_pixel_frame(first, stride), pixel_frames(stop, stride))


def pin_at(frame: int, images: int, frames: int, stride: int = STRIDE) -> Pin:
    """Where `images` images lie from `frame` on in a clip; a negative frame counts from the end.

    Where they begin or end inside a latent frame, the nearest image stands for the rest of it.
    ValueError where they do not fit.
    """
    start = frame + frames if frame < 0 else frame
    if start < 0 or start + images > frames:
        last = frames - images
        raise ValueError(
            f"{images} images do not fit into a clip of {frames} frames; pin fewer of them."
            if last < 0
            else f"Setting frame is {frame} for {images} image{'s' * (images != 1)}; a clip of"
            f" {frames} frames takes 0 to {last}, or -{frames} to {last - frames} counted from its"
            " end."
        )
    last = latent_of_frame(start + images - 1, stride)
    first, stop = latent_of_frame(start, stride), last + 1
    held = frames_held(first, stop, stride)
    sources = tuple(min(max(at - start, 0), images - 1) for at in held)
    return Pin(start, images, first, stop, sources, stride)


def cells_of_region(region_FHW: Tensor, pin: Pin, patch: int) -> Tensor:
    """How far each patch of each latent frame is pinned, by a region of the frames in pixels.

    A patch, `patch` pixels wide and high, counts by its least pinned pixel: patches are known as a
    whole. `region_FHW` in 0..1 has one frame, or one for each of the pin's images; the outcome is
    (latent frames, rows of patches, columns of patches).
    """
    if len(region_FHW) > 1:
        region_FHW = region_FHW[list(pin.sources)]
    least_FHW = -F.max_pool2d(-region_FHW[:, None], patch, ceil_mode=True)[:, 0]
    latents = pin.stop - pin.first
    if len(least_FHW) == 1:
        return least_FHW.expand(latents, -1, -1)
    lead = 1 if pin.first == 0 else 0
    groups = least_FHW[lead:].unflatten(0, (-1, pin.stride)).amin(1)
    return torch.cat((least_FHW[:lead], groups))


def pinned_mask(cells_THW: Tensor, strength: float, size_HW: tuple[int, int], cells: int) -> Tensor:
    """The noise mask_THW of pinned patches on the latent grid: 1 - strength where wholly pinned.

    `cells` is a patch's width and height in latent cells. 1 is free; m between is held for the
    first 1 - m of the steps.
    """
    spread = cells_THW.repeat_interleave(cells, 1).repeat_interleave(cells, 2)
    return 1 - strength * spread[:, : size_HW[0], : size_HW[1]]


def pinned_twice(mask_B1THW: Tensor, pin: Pin, pinned_THW: Tensor) -> int | None:
    """The first latent frame in which a cell of a pin is already pinned; None if there is none."""
    here_BTHW = mask_B1THW[:, 0, pin.first : pin.stop]
    twice_T = ((pinned_THW < 1) & (here_BTHW < 1)).any(0).flatten(1).any(1)
    return pin.first + int(twice_T.nonzero()[0]) if twice_T.any() else None


def put_pin(
    samples_BCTHW: Tensor, mask_B1THW: Tensor, pin: Pin, latent_1CTHW: Tensor, pinned_THW: Tensor
) -> tuple[Tensor, Tensor]:
    """New samples and noise mask with a pin's latents and its mask in them, where it is below 1."""
    here, taken = slice(pin.first, pin.stop), pinned_THW < 1
    samples, mask = samples_BCTHW.clone(), mask_B1THW.clone()
    samples[:, :, here] = torch.where(taken, latent_1CTHW, samples[:, :, here])
    mask[:, :, here] = torch.where(taken, pinned_THW, mask[:, :, here])
    return samples, mask
