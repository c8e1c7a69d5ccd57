"""What is seen of PATCHES: a picture for every pixel frame, and one sheet of them for the brush.

F pixel frames, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import torch.nn.functional as F
from torch import Tensor

from ..models.patch_picture import principal_colours
from ..models.patches import unpatchify
from ..models.selection import patch_frames
from ..models.timeline import latent_of_frame
from .api import Input
from .patched import clip_frames
from .types import PatchedLatent

LONG_SIDE = 512  # pixels of a picture on the sheet
TALLEST = 16384  # pixels of the sheet


def frames_of(patches: PatchedLatent, item: int, frames: Any, at: Sequence[int]) -> Tensor:
    """Pictures (N,H,W,3) of N pixel frames: those of the clip, or of the latent's colours."""
    (real, _), clip = clip_frames(patches), patches.frames
    if frames is None:
        one_1LP = patches.tokens_BLP[item : item + 1]
        colours_THW3 = principal_colours(unpatchify(one_1LP, patches.grid)[0])
        return colours_THW3[[latent_of_frame(frame, patches.stride) for frame in at]]
    images = frames.get_components().images if isinstance(frames, Input.Video) else frames
    if len(images) not in (real, clip):
        raise ValueError(
            f"Got {len(images)} frames for patches of a clip of {real}; decode the same latent for"
            " frames, or leave it out."
        )
    return images[[min(frame, len(images) - 1) for frame in at]][..., :3]


def brush_view(patches: PatchedLatent, frames: Any) -> dict[str, list[dict[str, Any]]]:
    """What the patch brush in the browser shows, for a node's `ui`.

    `patchdit_grid` is t, h and w of the grid, the first and the last pixel frame of each time, and
    `picture`: the last frame of each time of the first video, one below the other, as a data URL.
    """
    grid = patches.grid
    spans = [patch_frames(grid, time, patches.stride) for time in range(grid.t)]
    shown_THW3 = frames_of(patches, 0, frames, [last for _, last in spans])
    picture = sheet(shown_THW3, ".png" if frames is None else ".jpg")
    view = {"t": grid.t, "h": grid.h, "w": grid.w, "spans": spans, "picture": picture}
    return {"patchdit_grid": [view]}


def sheet(pictures_THW3: Tensor, kind: str) -> str:
    """Pictures 0..1 one below the other as a data URL, made smaller where they are large."""
    times, height, width = pictures_THW3.shape[:3]
    scale = min(1.0, LONG_SIDE / max(height, width), TALLEST / (times * height))
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    small_T3HW = pictures_THW3.float().cpu().movedim(-1, 1)
    if scale < 1:
        small_T3HW = F.interpolate(small_T3HW, size, mode="area")
    pixels = (small_T3HW.movedim(1, -1).flatten(0, 1).clamp(0, 1) * 255).round().byte()
    done, data = cv2.imencode(kind, pixels.numpy()[..., ::-1])
    if not done:
        raise ValueError(f"No picture of {times} frames of {width}x{height} could be written.")
    mime = "image/png" if kind == ".png" else "image/jpeg"
    return f"data:{mime};base64,{base64.b64encode(data.tobytes()).decode()}"
