"""Which of the five shapes a blurred subject has: every shape is drawn, blurred and compared.

Matching drawings (`tracking`) finds a subject's place, size and colour, but blur that fills a star
makes it a ball there. Here the picture is made anew: background, shape and blur together.
H/W pixels. Frames are float32 RGB in 0..1.
"""

from __future__ import annotations

import cv2
import numpy as np

from patchdit.training.sprites import SUBJECTS, place

_BLURS = (0.5, 1.0, 1.6, 2.3)  # pixels
_SCALES = (0.8, 0.9, 1.0, 1.12, 1.25, 1.4)
_SHIFTS = ((0, -1), (0, 1), (-1, 0), (1, 0))
_TRUNCATION = 0.2  # the most that one pixel counts


def erase(frame_HWC: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """The frame with a disc filled in from its surroundings."""
    hole = np.zeros(frame_HWC.shape[:2], np.uint8)
    cv2.circle(hole, (round(float(x)), round(float(y))), round(float(radius)), 1, -1)
    pixels = np.clip(frame_HWC * 255, 0, 255).astype(np.uint8)
    return cv2.inpaint(pixels, hole, 3, cv2.INPAINT_TELEA).astype(np.float32) / 255


def misfits(frame_HWC: np.ndarray, colour: str, states: np.ndarray) -> np.ndarray:
    """How badly each shape explains a frame, one number per shape of SUBJECTS.

    states [shapes, 3] are where each shape fits best: pixel x, pixel y, radius in pixels.
    """
    x, y, r = states[:, 0].mean(), states[:, 1].mean(), 1.3 * states[:, 2].max()
    height, width = frame_HWC.shape[:2]
    left, right = max(0, int(x - 1.4 * r)), min(width, int(x + 1.4 * r) + 2)
    top, bottom = max(0, int(y - 1.4 * r)), min(height, int(y + 1.4 * r) + 2)
    view = frame_HWC[top:bottom, left:right]
    empty = erase(frame_HWC, x, y, r)[top:bottom, left:right]
    return np.array(
        [
            _best_misfit(view, empty, kind, colour, state - (left, top, 0))
            for kind, state in zip(SUBJECTS, states, strict=True)
        ]
    )


def _best_misfit(view, empty, kind: str, colour: str, state) -> float:
    """The smallest misfit of one shape over size, blur and, from there, place."""

    def misfit(x: float, y: float, r: float, blur: float) -> float:
        made = empty.copy()
        place(made, kind, colour, x, y, r)
        difference = np.abs(cv2.GaussianBlur(made, (0, 0), blur) - view).mean(-1)
        return float(np.square(np.minimum(difference, _TRUNCATION)).sum())

    x, y, r = (float(v) for v in state)
    best, scale, blur = min(
        (misfit(x, y, r * scale, blur), scale, blur) for scale in _SCALES for blur in _BLURS
    )
    for _ in range(2):
        trials = [(misfit(x + dx, y + dy, r * scale, blur), dx, dy) for dx, dy in _SHIFTS]
        trial, dx, dy = min(trials)
        if trial >= best:
            break
        best, x, y = trial, x + dx, y + dy
    return best
