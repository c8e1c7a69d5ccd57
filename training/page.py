"""A page to lay frames and labels out on, for contact sheets. Pixels are uint8 RGB."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

INK, FAINT, PAPER = (34, 38, 48), (126, 132, 144), (250, 250, 248)
GOOD, BAD = (24, 132, 78), (200, 44, 44)
GAP = 2  # pixels between the frames of a strip
_FONT = cv2.FONT_HERSHEY_DUPLEX


class Page:
    """A blank page of `width` x `height` pixels."""

    def __init__(self, width: int, height: int):
        self.pixels = np.full((height, width, 3), PAPER, np.uint8)

    def text(self, x: int, y: int, words: str, size: int = 13, colour=INK) -> int:
        """Write ASCII `words` about `size` pixels high, top left at (x, y); returns the end x."""
        scale = size / 22
        (width, height), _ = cv2.getTextSize(words, _FONT, scale, 1)
        at = (int(x), int(y) + height)
        cv2.putText(self.pixels, words, at, _FONT, scale, colour, 1, cv2.LINE_AA)
        return int(x) + width

    def rule(self, x: int, y: int, width: int) -> None:
        """A thin horizontal line."""
        self.pixels[y : y + 1, x : x + width] = (218, 220, 224)

    def strip(self, x: int, y: int, frames, scale: float = 2.0) -> tuple[int, int]:
        """Put frames side by side, enlarged; returns the strip's width and height."""
        left = x
        for frame in frames:
            height, width = (round(side * scale) for side in frame.shape[:2])
            picture = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
            self.pixels[y : y + height, left : left + width] = picture
            left += width + GAP
        return left - GAP - x, height

    def save(self, path: str | Path) -> None:
        """Write a PNG; OSError where that fails."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), self.pixels[..., ::-1]):
            raise OSError(
                f"Could not write the picture {path}; need a folder that can be written to."
            )


def strip_size(frames: int, width: int, height: int, scale: float = 2.0) -> tuple[int, int]:
    """Width and height that `Page.strip` takes for frames of width x height."""
    return frames * round(width * scale) + (frames - 1) * GAP, round(height * scale)


def spread(frames_FHWC: np.ndarray, count: int) -> np.ndarray:
    """`count` frames spread evenly over a clip, the first and the last among them."""
    return frames_FHWC[np.linspace(0, len(frames_FHWC) - 1, count).round().astype(int)]
