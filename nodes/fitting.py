"""Bringing images to another size: cropped, padded or stretched.

F frames, H rows, W columns, C channels; sizes are (height, width) in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

FITS = ["crop", "pad", "stretch"]
SAME_SHAPE = 0.02  # aspect ratios that differ by less count as one
SCALED_SIDES = {"crop": max, "pad": min}  # which of the two scales the picture takes


class Box(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int


def fit_frames(frames_FHWC: Tensor, size_HW: tuple[int, int], fit: str) -> Tensor:
    """Frames in 0..1 at a size, as new_FHWC; of that size already, they come back as they are.

    crop: the middle, at its own shape; pad: all of it, with black bars; stretch: all of it, bent.
    """
    return fit_with_edges(frames_FHWC, size_HW, fit, edges=False)


def fit_with_edges(
    frames_FHWC: Tensor, size_HW: tuple[int, int], fit: str, edges: bool = True
) -> Tensor:
    """As `fit_frames`; bars of "pad" show the picture's outermost pixels again where `edges`."""
    H, W = frames_FHWC.shape[1:3]
    if tuple(size_HW) == (H, W):
        return frames_FHWC
    box = picture_box((H, W), size_HW, fit)
    scaled_FHWC = resize(frames_FHWC, (box.height, box.width))
    if box.height >= size_HW[0] and box.width >= size_HW[1]:
        rows = slice(-box.top, size_HW[0] - box.top)
        return scaled_FHWC[:, rows, -box.left : size_HW[1] - box.left]
    return surround(scaled_FHWC, size_HW, box.top, box.left, edges)


def picture_box(size: tuple[int, int], into: tuple[int, int], fit: str) -> Box:
    """Where a picture of one size lies in a frame of another; what juts out has a negative place.

    ValueError for a fit that is none of FITS.
    """
    if fit not in FITS:
        raise ValueError(f"Setting fit is {fit!r}; need one of {', '.join(FITS)}.")
    if fit == "stretch":
        return Box(0, 0, *into)
    scale = SCALED_SIDES[fit](into[0] / size[0], into[1] / size[1])
    height, width = (max(1, round(side * scale)) for side in size)
    return Box((into[0] - height) // 2, (into[1] - width) // 2, height, width)


def resize(frames_FHWC: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """Frames at a size: averaged where they shrink, cubic and kept in 0..1 where they grow."""
    H, W = frames_FHWC.shape[1:3]
    if tuple(size_HW) == (H, W):
        return frames_FHWC
    frames = frames_FHWC.detach().float().cpu().numpy()
    done_FHWC = torch.empty(len(frames), *size_HW, frames_FHWC.shape[3])
    for done_HWC, frame_HWC in zip(done_FHWC, frames, strict=True):
        done_HWC.copy_(torch.from_numpy(resize_one(frame_HWC, size_HW)).view_as(done_HWC))
    return done_FHWC.clamp_(0, 1)


def resize_one(frame_HWC: np.ndarray, size_HW: tuple[int, int]) -> np.ndarray:
    """Rows first, then columns: a picture may shrink in one and grow in the other."""
    height, width = size_HW
    for axis, size in ((0, (frame_HWC.shape[1], height)), (1, (width, height))):
        old, new = frame_HWC.shape[axis], size_HW[axis]
        if old != new:
            way = cv2.INTER_AREA if new < old else cv2.INTER_CUBIC
            frame_HWC = cv2.resize(frame_HWC, size, interpolation=way)
    return frame_HWC


def surround(
    frames_FHWC: Tensor, size_HW: tuple[int, int], top: int, left: int, edges: bool = True
) -> Tensor:
    """Frames placed in a larger frame; around them their outermost pixels again, or black."""
    H, W = frames_FHWC.shape[1:3]
    rows, columns = torch.arange(size_HW[0]) - top, torch.arange(size_HW[1]) - left
    placed = frames_FHWC[:, rows.clamp(0, H - 1)[:, None], columns.clamp(0, W - 1)]
    if edges:
        return placed
    inside_HW = ((rows >= 0) & (rows < H))[:, None] & ((columns >= 0) & (columns < W))
    return placed * inside_HW[..., None]
