"""One picture of a whole video: evenly spaced frames in a grid, each with its time."""

from __future__ import annotations

import math
from pathlib import Path

import av
import cv2
import numpy as np

from .images import write_png

FRAMES = 12
GAP = 8
LABEL = 20  # pixels under a frame for its time
SHEET_WIDTH = 1200
BACKGROUND, INK = 24, 190


def write_contact_sheet(video: str | Path) -> Path:
    """Write clip_00001_sheet.png beside clip_00001_.mp4; give its path."""
    path = Path(video).with_name(f"{Path(video).stem.rstrip('_')}_sheet.png")
    frames, times = evenly_spaced_frames(video, FRAMES)
    write_png(str(path), contact_sheet(frames, times))
    return path


def evenly_spaced_frames(video: str | Path, count: int) -> tuple[list[np.ndarray], list[float]]:
    """Up to `count` uint8 RGB frames from first to last, and their times in seconds.

    The file is decoded twice, once to count, so that no more than the chosen frames are held.
    """
    with av.open(str(video)) as container:
        total = sum(1 for _ in container.decode(video=0))
    chosen = set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())
    frames, times = [], []
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in chosen:
                frames.append(frame.to_ndarray(format="rgb24"))
                times.append(frame.time or 0.0)
    return frames, times


def contact_sheet(frames: list[np.ndarray], times: list[float]) -> np.ndarray:
    """Lay equally sized RGB frames [H,W,3] out in a grid as near to 3:2 as they allow."""
    height, width = frames[0].shape[:2]
    columns = _columns(len(frames), height, width)
    rows = math.ceil(len(frames) / columns)
    cell_width = (SHEET_WIDTH - GAP * (columns + 1)) // columns
    cell_height = max(1, round(cell_width * height / width))
    sheet_height = rows * (cell_height + LABEL) + GAP * (rows + 1)
    sheet = np.full((sheet_height, SHEET_WIDTH, 3), BACKGROUND, np.uint8)
    smooth = cv2.INTER_AREA if cell_width < width else cv2.INTER_CUBIC
    for index, (frame, time) in enumerate(zip(frames, times, strict=True)):
        row, column = divmod(index, columns)
        top = GAP + row * (cell_height + LABEL + GAP)
        left = GAP + column * (cell_width + GAP)
        cell = cv2.resize(frame, (cell_width, cell_height), interpolation=smooth)
        sheet[top : top + cell_height, left : left + cell_width] = cell
        _write(sheet, f"{time:.2f} s", left, top + cell_height + LABEL - 5)
    return sheet


def _columns(count: int, height: int, width: int) -> int:
    """The number of columns whose sheet comes closest to 3:2 without a nearly empty last row."""

    def badness(columns: int) -> float:
        rows = math.ceil(count / columns)
        shape = columns * width / (rows * height)
        return abs(math.log(shape / 1.5)) + 0.5 * (rows * columns - count) / count

    return min(range(1, count + 1), key=badness)


def _write(sheet: np.ndarray, text: str, left: int, baseline: int) -> None:
    cv2.putText(
        sheet,
        text,
        (left + 2, baseline),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.42,
        (INK, INK, INK),
        1,
        cv2.LINE_AA,
    )
