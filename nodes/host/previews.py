"""The whole clip that a run predicts, as one small picture that the canvas plays.

B batch, C channels, T/H/W latent frames/rows/columns; pictures are RGB.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...models.timeline import STRIDE
from ...models.video_vae import VideoVAE

EVENT = "patchdit.preview"  # what web/js/clip_preview.js listens to
SIDE = 256  # pixels of a frame's longer side at most
PIXELS = 4_000_000  # of all frames of a clip at most
BLOCK = 16  # pixels: a frame ends where JPEG's blocks do, so that none bleeds into the next
QUALITY = 85  # of the JPEG
PAUSE = 0.25  # seconds at least from one picture to the next
SHARE = 0.02  # of a run's time, which pictures may take at most

Colours = tuple[list[list[float]], list[float] | None]  # (C,3) factors and a bias of 3


@dataclass(frozen=True)
class Sheet:
    """All frames of a clip in one JPEG, row by row, each `width` x `height` pixels."""

    jpeg: bytes
    frames: int
    columns: int
    width: int
    height: int


def colour(x0_BCTHW: Tensor, colours: Colours) -> Tensor:
    """video_3THW in 0..1 of the batch's first clip, a colour for every latent cell."""
    factors_C3, bias = colours
    x0_CTHW = x0_BCTHW[0].float()
    video_3THW = torch.einsum("cthw,cd->dthw", x0_CTHW, x0_CTHW.new_tensor(factors_C3))
    if bias is not None:
        video_3THW = video_3THW + x0_CTHW.new_tensor(bias).view(3, 1, 1, 1)
    return ((video_3THW + 1) / 2).nan_to_num(0).clamp(0, 1)


def draw_sheet(video_3THW: Tensor) -> Sheet:
    """The sheet of a clip in 0..1; a longer clip has smaller frames."""
    T, H, W = video_3THW.shape[1:]
    columns = math.ceil(math.sqrt(T))
    rows = math.ceil(T / columns)
    scale = min(SIDE / max(H, W), math.sqrt(PIXELS / (T * H * W)))
    height, width = (max(round(side * scale / BLOCK), 1) * BLOCK for side in (H, W))
    frames_T3HW = interpolate(video_3THW.movedim(1, 0), (height, width), mode="bilinear")
    tiles_T3HW = frames_T3HW.new_zeros(rows * columns, 3, height, width)
    tiles_T3HW[:T] = frames_T3HW
    tiles = tiles_T3HW.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    picture_HW3 = tiles.reshape(rows * height, columns * width, 3).mul(255).round().byte()
    bgr = picture_HW3.flip(2).contiguous().cpu().numpy()
    whole, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not whole:
        raise RuntimeError(f"OpenCV wrote no JPEG of {bgr.shape[1]}x{bgr.shape[0]} pixels.")
    return Sheet(jpeg.tobytes(), T, columns, width, height)


class ClipShow:
    """Tells a canvas how a run goes: `send(message)` for EVENT, where node and prompt are added.

    A latent frame stands for `stride` frames of the clip, of which `fps` last a second.
    At most four messages a second, and never more than SHARE of the run's time goes into them.
    Without `colours` the messages have no picture.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        colours: Colours | None,
        total: int,
        fps: float,
        stride: int = STRIDE,
    ):
        self._send, self._colours, self._total = send, colours, total
        self._seconds = stride / fps  # of a latent frame
        self._next = 0.0
        send({"step": 0, "total": total})

    def show(self, done: int, x0_BCTHW: Tensor) -> None:
        """Tell of a step and its predicted clean latent (model space), if it is time to."""
        begun = time.monotonic()
        if begun < self._next:
            return
        told = {"step": done, "total": self._total}
        if self._colours is not None:
            video_3THW = colour(x0_BCTHW, self._colours)
            told |= clip_message(draw_sheet(video_3THW), self._seconds, video_3THW)
        self._send(told)
        ended = time.monotonic()
        self._next = ended + max(PAUSE, (ended - begun) / SHARE)


def clip_message(sheet: Sheet, seconds: float, video_3THW: Tensor) -> dict[str, Any]:
    """What the canvas needs to play a sheet, each of whose frames lasts so many seconds."""
    H, W = video_3THW.shape[2:]
    return {
        "image": "data:image/jpeg;base64," + base64.b64encode(sheet.jpeg).decode(),
        "frames": sheet.frames,
        "columns": sheet.columns,
        "width": sheet.width,
        "height": sheet.height,
        "aspect": W / H,
        "seconds": seconds,
    }


@torch.no_grad()
def preview_colours(vae: VideoVAE) -> tuple[list[list[float]], list[float]]:
    """Factors and bias that turn a normalised latent cell into its colour in -1..1.

    A ridge fit over flat pictures in 27 colours: good enough to see where a run is going.
    """
    side = 2 * vae.spatial_stride
    levels = torch.tensor([-0.8, 0.0, 0.8])
    colours_NC = torch.cartesian_prod(levels, levels, levels)
    flat = colours_NC[:, :, None, None, None].expand(-1, -1, 1, side, side)
    video_BCFHW = flat.to(vae.conv1.weight)
    cells_NC = vae.normalise(vae.encode(video_BCFHW)).float().cpu().mean((2, 3, 4))
    known_NC = torch.cat([cells_NC, torch.ones(len(cells_NC), 1)], dim=1)
    square_CC = known_NC.T @ known_NC + 0.01 * torch.eye(known_NC.shape[1])
    factors = torch.linalg.solve(square_CC, known_NC.T @ colours_NC).tolist()
    return factors[:-1], factors[-1]
