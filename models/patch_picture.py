"""Pictures of patches: their grid over a frame, the selected ones tinted and numbered.

Shapes: C channels, T H W latent frames, rows, columns, L tokens. Pictures are RGB, (height, width,
3): uint8 inside, float 0..1 where a tensor is given out.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .config import PatchSize
from .patches import Grid, patchify
from .selection import by_channel, channel_statistics, patch_frames
from .timeline import STRIDE

LONG_SIDE = 768  # pixels that a smaller picture is scaled up to
STRIP = 30  # pixels of the line of text under it
ORANGE, INK, DARK = (255, 150, 30), (235, 235, 235), (24, 24, 24)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def principal_colours(latent_CTHW: Tensor) -> Tensor:
    """A latent video as colours (T,H,W,3) in 0..1: its first three principal components.

    Channels count in units of their deviation; a component's largest weight is positive, and 2.5
    deviations to either side of the mean span 0..1.
    """
    tokens_1LP, grid = patchify(latent_CTHW.float().unsqueeze(0), PatchSize(1, 1, 1))
    mean, deviation = channel_statistics(tokens_1LP, grid)
    cells_LC = ((by_channel(tokens_1LP, grid) - mean) / deviation.clamp(min=1e-6))[0, ..., 0]
    covariance_CC = cells_LC.T.double() @ cells_LC.double() / len(cells_LC)
    axes_CK = torch.linalg.eigh(covariance_CC).eigenvectors.flip(1)[:, :3].float()
    axes_CK = axes_CK * axes_CK.gather(0, axes_CK.abs().argmax(0, keepdim=True)).sign()
    parts_LK = F.pad(cells_LC @ axes_CK, (0, 3 - axes_CK.shape[1]))
    spread_K = parts_LK.square().mean(0).sqrt().clamp(min=1e-6)
    colours = (0.5 + parts_LK / spread_K / 5).clamp(0, 1)
    return colours.unflatten(0, tuple(latent_CTHW.shape[1:]))


def draw_patches(
    picture_HW3: Tensor, grid: Grid, time: int, selected_L: Tensor | None, stride: int = STRIDE
) -> Tensor:
    """The patches at one place in time drawn over a picture of it, a line of text below.

    `picture_HW3` in 0..1 is scaled up where it is small. The selection is that of the whole grid;
    None draws the grid only. Numbers are places in token order, over all of time. A latent frame
    stands for `stride` pixel frames, which the text names.
    """
    image = _enlarged(picture_HW3)
    height, width = image.shape[:2]
    rows = np.linspace(0, height, grid.h + 1).round().astype(int).tolist()
    columns = np.linspace(0, width, grid.w + 1).round().astype(int).tolist()
    here = slice(time * grid.h * grid.w, (time + 1) * grid.h * grid.w)
    chosen = None if selected_L is None else selected_L[here].cpu().numpy().reshape(grid.h, grid.w)
    if chosen is not None:
        image = _tinted(image, chosen, rows, columns)
    image = _gridded(image, rows, columns)
    if chosen is not None:
        _outline(image, chosen, rows, columns)
    _number(image, here.start, chosen, rows, columns)
    sheet = np.concatenate([image, np.full((STRIP, width, 3), DARK, np.uint8)])
    text = _caption(patch_frames(grid, time, stride), grid, time, chosen)
    _write(sheet, text, (10, height + 20), 0.5, INK)
    return torch.from_numpy(sheet).float() / 255


def _caption(span: tuple[int, int], grid: Grid, time: int, chosen: np.ndarray | None) -> str:
    first, last = span
    frames = f"frame {first}" if first == last else f"frames {first}-{last}"
    text = f"time {time} of 0-{grid.t - 1}   {frames}"
    return text if chosen is None else f"{text}   {chosen.sum()} of {chosen.size} selected"


def _enlarged(picture_HW3: Tensor) -> np.ndarray:
    """uint8 pixels whose long side is at least LONG_SIDE; tiny pictures keep their square cells."""
    pixels = (picture_HW3.float() * 255).round().clamp(0, 255).byte().cpu().numpy()
    height, width = pixels.shape[:2]
    scale = LONG_SIDE / max(height, width)
    if scale <= 1:
        return np.ascontiguousarray(pixels)
    how = cv2.INTER_CUBIC if scale < 16 else cv2.INTER_NEAREST
    return cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=how)


def _tinted(image: np.ndarray, chosen: np.ndarray, rows: list, columns: list) -> np.ndarray:
    """Chosen patches towards orange, the others darker."""
    mask = np.repeat(np.repeat(chosen, np.diff(rows), 0), np.diff(columns), 1)[..., None]
    tint = np.array(ORANGE, np.float32)
    mixed = np.where(mask, 0.72 * image + 0.28 * tint, 0.62 * image)
    return mixed.round().astype(np.uint8)


def _gridded(image: np.ndarray, rows: list, columns: list) -> np.ndarray:
    """Thin half-transparent lines between patches."""
    lines = image.copy()
    height, width = image.shape[:2]
    for y in rows[1:-1]:
        cv2.line(lines, (0, y), (width - 1, y), (255, 255, 255), 1)
    for x in columns[1:-1]:
        cv2.line(lines, (x, 0), (x, height - 1), (255, 255, 255), 1)
    return cv2.addWeighted(lines, 0.4, image, 0.6, 0)


def _outline(image: np.ndarray, chosen: np.ndarray, rows: list, columns: list) -> None:
    """A bold line where chosen patches meet others or the frame's edge."""
    padded = np.pad(chosen, 1)
    down, across = padded[1:, 1:-1] != padded[:-1, 1:-1], padded[1:-1, 1:] != padded[1:-1, :-1]
    height, width = image.shape[:2]
    for row, column in np.argwhere(down).tolist():
        y = min(max(rows[row], 1), height - 2)
        cv2.line(image, (columns[column], y), (columns[column + 1], y), ORANGE, 3)
    for row, column in np.argwhere(across).tolist():
        x = min(max(columns[column], 1), width - 2)
        cv2.line(image, (x, rows[row]), (x, rows[row + 1]), ORANGE, 3)


def _number(image, first: int, chosen: np.ndarray | None, rows: list, columns: list) -> None:
    """Token numbers in the corners of patches that have room; the selected ones' are brighter."""
    if min(rows[1], columns[1]) < 40:
        return
    across = len(columns) - 1
    for index in range((len(rows) - 1) * across):
        row, column = divmod(index, across)
        bright = chosen is None or chosen[row, column]
        ink = INK if bright else (150, 150, 150)
        _write(image, str(first + index), (columns[column] + 5, rows[row] + 18), 0.45, ink)


def _write(image: np.ndarray, text: str, at: tuple[int, int], size: float, ink) -> None:
    """Text with a dark edge, readable on anything."""
    cv2.putText(image, text, at, FONT, size, DARK, 2, cv2.LINE_AA)
    cv2.putText(image, text, at, FONT, size, ink, 1, cv2.LINE_AA)
