"""The subjects of the world: shaded, anti-aliased drawings of five shapes in eight colours."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

SUBJECTS = ("ball", "cube", "cone", "star", "ring")
COLOURS = {
    "red": (226, 48, 48),
    "orange": (250, 138, 22),
    "yellow": (250, 216, 48),
    "green": (38, 166, 70),
    "cyan": (40, 208, 222),
    "blue": (44, 88, 226),
    "purple": (152, 62, 204),
    "white": (246, 246, 246),
}
REACH = 1.2  # a sprite's square spans -REACH..REACH, in units of the subject's radius
_OUTLINE = 0.11  # thickness of the dark rim, in radii
_LIGHT = np.array([-0.5, -0.65, 0.57], np.float32)  # towards the lamp: left, up, to the viewer
_SIZES = (12, 16, 22, 30, 42, 60, 84, 120, 168)


def _polygon_distance(x, y, points) -> np.ndarray:
    """Signed distance to a polygon, negative inside."""
    n = len(points)
    best = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, bool)
    for i in range(n):
        (ax, ay), (bx, by) = points[i], points[(i + 1) % n]
        ex, ey = bx - ax, by - ay
        t = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        best = np.minimum(best, (x - ax - t * ex) ** 2 + (y - ay - t * ey) ** 2)
        if ey:
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < ax + (y - ay) * ex / ey)
    return np.sqrt(best) * np.where(inside, -1, 1)


def _lambert(nx, ny, nz) -> np.ndarray:
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-6
    return np.clip((nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2]) / length, 0, 1)


def _ball(x, y):
    distance = np.hypot(x, y) - 0.98
    z = np.sqrt(np.clip(0.96 - x * x - y * y, 0, None))
    shine = np.exp(-((x + 0.36) ** 2 + (y + 0.42) ** 2) / 0.035)
    return distance, 0.62 + 0.5 * _lambert(x, y, z), shine


def _cube(x, y):
    d = 0.42  # depth of the oblique projection
    left, right, top, bottom = -0.92, 0.92 - d, -0.92 + d, 0.92
    outline = [
        (left, bottom),
        (left, top),
        (left + d, top - d),
        (right + d, top - d),
        (right + d, bottom - d),
        (right, bottom),
    ]
    front = (x < right) & (y > top)
    above = (y <= top) & (x - left < right - left + (top - y))
    light = np.where(front, 0.92, np.where(above, 1.16, 0.66)).astype(np.float32)
    edges = [
        _segment(x, y, (left, top), (right, top)),
        _segment(x, y, (right, top), (right, bottom)),
        _segment(x, y, (right, top), (right + d, top - d)),
    ]
    light *= 1 - 0.35 * np.exp(-((np.minimum.reduce(edges) / 0.05) ** 2))
    return _polygon_distance(x, y, outline), light, np.zeros_like(x)


def _segment(x, y, a, b) -> np.ndarray:
    ex, ey = b[0] - a[0], b[1] - a[1]
    t = np.clip(((x - a[0]) * ex + (y - a[1]) * ey) / (ex * ex + ey * ey), 0, 1)
    return np.hypot(x - a[0] - t * ex, y - a[1] - t * ey)


def _cone(x, y):
    base, height = 0.72, 0.98
    flank = _polygon_distance(x, y, [(0, -height), (0.86, base), (-0.86, base)])
    foot = (np.hypot(x / 0.86, (y - base) / 0.24) - 1) * 0.24
    across = x / np.clip((y + height) / (base + height), 0.08, None) / 0.86
    return np.minimum(flank, foot), 1.04 - 0.34 * across - 0.1 * across**2, np.zeros_like(x)


def _star(x, y):
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, 0.47, 1.08)
    points = [(r * np.cos(a), r * np.sin(a) + 0.06) for r, a in zip(radii, angles, strict=True)]
    # Each arm is a roof: one side of its ridge faces the lamp, the other turns away.
    turn = (np.arctan2(y - 0.06, x) + np.pi / 2) % (2 * np.pi / 5)
    sector = np.floor((np.arctan2(y - 0.06, x) + np.pi / 2) / (np.pi / 5)) * np.pi / 5
    facing = sector - np.pi / 2 + np.where(turn < np.pi / 5, 0.9, -0.7)
    light = 0.95 + 0.2 * (np.cos(facing) * _LIGHT[0] + np.sin(facing) * _LIGHT[1])
    return _polygon_distance(x, y, points), light, np.zeros_like(x)


def _ring(x, y):
    middle, tube = 0.66, 0.32
    rho = np.hypot(x, y) + 1e-6
    across = (rho - middle) / tube
    z = np.sqrt(np.clip(1 - across**2, 0, None))
    shine = np.exp(-((across + 0.25) ** 2) / 0.06) * np.clip(-(x * 0.6 + y * 0.8) / rho, 0, 1) ** 6
    return (
        np.abs(rho - middle) - tube,
        0.64 + 0.48 * _lambert(across * x / rho, across * y / rho, z),
        shine,
    )


_SHAPES = {"ball": _ball, "cube": _cube, "cone": _cone, "star": _star, "ring": _ring}


def _draw(subject: str, colour: str, size: int) -> np.ndarray:
    """RGBA in 0..1, colour already multiplied by alpha, [size, size, 4] float32."""
    fine = size * 4
    axis = ((np.arange(fine, dtype=np.float32) + 0.5) / fine * 2 - 1) * REACH
    x, y = np.meshgrid(axis, axis)
    distance, light, shine = _SHAPES[subject](x, y)
    pixel = 2 * REACH / fine
    alpha = np.clip(0.5 - distance / pixel, 0, 1)
    rgb = np.array(COLOURS[colour], np.float32) / 255
    body = np.clip(rgb * np.asarray(light)[..., None], 0, 1)
    body += (1 - body) * 0.85 * np.asarray(shine)[..., None]
    rim = np.clip(1 + distance / _OUTLINE, 0, 1)[..., None] ** 1.5
    body = body * (1 - rim) + (rgb * 0.22 + 0.02) * rim
    rgba = np.concatenate([body * alpha[..., None], alpha[..., None]], -1).astype(np.float32)
    return cv2.resize(rgba, (size, size), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=1024)
def sprite(subject: str, colour: str, size: int) -> np.ndarray:
    """A subject's drawing [size, size, 4], float32 RGBA in 0..1, premultiplied by alpha."""
    return _draw(subject, colour, size)


def place(frame: np.ndarray, subject: str, colour: str, x: float, y: float, radius: float):
    """Draw a subject onto `frame` [H,W,3] float32 in 0..1, in place, centred at pixel (x, y).

    Returns its alpha [H,W], so that a caller can say who hides whom. Sub-pixel positions and any
    radius: the drawing comes from the next larger stored size and is resampled bilinearly.
    """
    span = 2 * REACH * radius
    size = next((s for s in _SIZES if s >= span), _SIZES[-1])
    scale = span / size
    matrix = np.float32(
        [
            [scale, 0, x - span / 2 + scale / 2],
            [0, scale, y - span / 2 + scale / 2],
        ]
    )
    height, width = frame.shape[:2]
    rgba = cv2.warpAffine(sprite(subject, colour, size), matrix, (width, height))
    frame *= 1 - rgba[..., 3:]
    frame += rgba[..., :3]
    return rgba[..., 3]
