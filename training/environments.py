"""The places of the world: backgrounds painted once per clip and filmed by a moving camera."""

from __future__ import annotations

import cv2
import numpy as np

ENVIRONMENTS = ("meadow", "sunset", "night", "snow", "underwater", "city")
HORIZON = 0.1  # world height of the horizon; y grows downwards and 0 is the middle of the view
_SHIFT = 4  # OpenCV draws at sub-pixel positions given in 1/16 pixel


class Canvas:
    """A picture of the world that is drawn on in world units.

    `left`, `top`, `right`, `bottom` are world coordinates; `scale` is pixels per world unit.
    """

    def __init__(self, left: float, top: float, right: float, bottom: float, scale: float):
        self.left, self.top, self.right, self.bottom, self.scale = left, top, right, bottom, scale
        size = (int(np.ceil((bottom - top) * scale)), int(np.ceil((right - left) * scale)))
        self.pixels = np.zeros((*size, 3), np.uint8)

    def _fixed(self, points) -> np.ndarray:
        points = (np.asarray(points, np.float64) - (self.left, self.top)) * self.scale - 0.5
        return np.round(points * (1 << _SHIFT)).astype(np.int32)

    def gradient(self, stops) -> None:
        """Fill with horizontal bands: `stops` are (y, colour), blended in between."""
        y = self.top + (np.arange(self.pixels.shape[0]) + 0.5) / self.scale
        heights, colours = zip(*stops, strict=True)
        rows = np.stack(
            [np.interp(y, heights, channel) for channel in zip(*colours, strict=True)], -1
        )
        self.pixels[:] = rows[:, None].astype(np.uint8)

    def polygon(self, points, colour) -> None:
        cv2.fillPoly(self.pixels, [self._fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def ellipse(self, x, y, rx, ry, colour, angle=0.0) -> None:
        axes = (int(rx * self.scale * 16), int(ry * self.scale * 16))
        centre = tuple(int(v) for v in self._fixed((x, y)))
        cv2.ellipse(self.pixels, centre, axes, angle, 0, 360, colour, -1, cv2.LINE_AA, _SHIFT)

    def line(self, a, b, colour, width) -> None:
        a, b = (tuple(int(v) for v in self._fixed(p)) for p in (a, b))
        thickness = max(1, round(width * self.scale))
        cv2.line(self.pixels, a, b, colour, thickness, cv2.LINE_AA, _SHIFT)

    def columns(self, rng, step: float, jitter: float = 0.35):
        """World x positions about `step` apart across the whole canvas."""
        xs = np.arange(self.left, self.right + step, step)
        return xs + rng.uniform(-jitter, jitter, len(xs)) * step

    def hills(self, rng, y, height, step, colour) -> None:
        xs = np.linspace(self.left, self.right, 60)
        phase = rng.uniform(0, 2 * np.pi, 2)
        ys = y - height * (
            0.5
            + 0.35 * np.sin(xs * 2 * np.pi / step + phase[0])
            + 0.15 * np.sin(xs * 4.9 * np.pi / step + phase[1])
        )
        edge = list(zip(xs, ys, strict=True))
        self.polygon([*edge, (self.right, self.bottom), (self.left, self.bottom)], colour)


def _clouds(canvas, rng, colour, low, high) -> None:
    for x in canvas.columns(rng, 0.55):
        y = rng.uniform(low, high)
        for dx, size in ((-0.09, 0.05), (0.0, 0.075), (0.09, 0.05)):
            canvas.ellipse(x + dx, y - (size - 0.05) * 0.6, size * 1.35, size * 0.75, colour)


def _meadow(canvas, rng) -> None:
    canvas.gradient([(-0.9, (120, 180, 232)), (HORIZON, (206, 232, 246))])
    _clouds(canvas, rng, (246, 250, 252), -0.42, -0.14)
    canvas.hills(rng, HORIZON + 0.03, 0.14, 0.9, (150, 190, 140))
    canvas.polygon(_ground(canvas, HORIZON + 0.05), (172, 206, 124))
    for x in canvas.columns(rng, 0.16):
        y = rng.uniform(HORIZON + 0.12, min(canvas.bottom, 0.75))
        for lean in (-0.025, 0.0, 0.025):
            canvas.line((x + lean * 0.4, y), (x + lean, y - 0.06), (128, 172, 88), 0.016)
    for x in canvas.columns(rng, 0.3):
        y = rng.uniform(HORIZON + 0.12, min(canvas.bottom, 0.7))
        canvas.ellipse(x, y, 0.022, 0.022, (250, 236, 190))


def _ground(canvas, y):
    return [
        (canvas.left - 1, y),
        (canvas.right + 1, y),
        (canvas.right + 1, canvas.bottom + 1),
        (canvas.left - 1, canvas.bottom + 1),
    ]


def _sunset(canvas, rng) -> None:
    canvas.gradient([(-0.8, (96, 64, 120)), (-0.3, (198, 106, 120)), (HORIZON, (250, 190, 140))])
    x = rng.uniform(-0.4, 0.4)
    canvas.ellipse(x, HORIZON - 0.1, 0.17, 0.17, (252, 208, 150))
    canvas.ellipse(x, HORIZON - 0.1, 0.13, 0.13, (255, 232, 186))
    for c in canvas.columns(rng, 0.6):
        y = rng.uniform(-0.4, -0.1)
        canvas.ellipse(c, y, 0.18, 0.022, (226, 142, 136))
        canvas.ellipse(c + 0.08, y + 0.03, 0.12, 0.016, (240, 170, 146))
    canvas.hills(rng, HORIZON + 0.04, 0.16, 0.7, (112, 66, 92))
    canvas.polygon(_ground(canvas, HORIZON + 0.07), (150, 92, 88))
    for c in canvas.columns(rng, 0.2):
        y = rng.uniform(HORIZON + 0.13, min(canvas.bottom, 0.75))
        canvas.ellipse(c, y, rng.uniform(0.05, 0.09), 0.012, (178, 114, 98))
        canvas.ellipse(c + 0.1, y + 0.05, 0.05, 0.01, (124, 74, 80))


def _night(canvas, rng) -> None:
    canvas.gradient([(-0.8, (16, 20, 48)), (HORIZON, (44, 56, 100))])
    for _ in range(int((canvas.right - canvas.left) * 26)):
        x, y = (
            rng.uniform(canvas.left, canvas.right),
            rng.uniform(max(canvas.top, -0.8), HORIZON - 0.08),
        )
        size = rng.uniform(0.008, 0.015)
        canvas.ellipse(x, y, size, size, (214, 220, 240))
    x = rng.uniform(-0.45, 0.45)
    canvas.ellipse(x, -0.3, 0.09, 0.09, (236, 236, 214))
    canvas.ellipse(x + 0.045, -0.32, 0.075, 0.075, (30, 38, 74))
    canvas.hills(rng, HORIZON + 0.04, 0.18, 0.8, (28, 38, 70))
    canvas.polygon(_ground(canvas, HORIZON + 0.07), (46, 58, 84))
    for c in canvas.columns(rng, 0.2):
        y = rng.uniform(HORIZON + 0.13, min(canvas.bottom, 0.75))
        canvas.ellipse(c, y, rng.uniform(0.04, 0.08), 0.014, (64, 78, 106))


def _snow(canvas, rng) -> None:
    canvas.gradient([(-0.8, (164, 184, 206)), (HORIZON, (218, 228, 238))])
    canvas.hills(rng, HORIZON + 0.04, 0.2, 0.75, (192, 206, 222))
    for x in canvas.columns(rng, 0.34):
        h, y = rng.uniform(0.14, 0.24), HORIZON + rng.uniform(0.04, 0.08)
        canvas.polygon([(x - h * 0.33, y), (x, y - h), (x + h * 0.33, y)], (96, 124, 124))
        canvas.polygon(
            [(x - h * 0.14, y - h * 0.58), (x, y - h), (x + h * 0.14, y - h * 0.58)],
            (236, 240, 244),
        )
    canvas.polygon(_ground(canvas, HORIZON + 0.07), (226, 232, 240))
    for c in canvas.columns(rng, 0.18):
        y = rng.uniform(HORIZON + 0.12, min(canvas.bottom, 0.75))
        canvas.ellipse(c, y, rng.uniform(0.06, 0.1), 0.016, (196, 208, 224))


def _underwater(canvas, rng) -> None:
    canvas.gradient([(-0.8, (96, 186, 190)), (0.3, (30, 104, 128)), (0.8, (20, 76, 100))])
    for x in canvas.columns(rng, 0.36):
        w = rng.uniform(0.04, 0.09)
        canvas.polygon(
            [(x, -1.2), (x + w, -1.2), (x - 0.2 + 2 * w, 0.2), (x - 0.2 - w, 0.2)], (84, 160, 170)
        )
    canvas.hills(rng, HORIZON + 0.14, 0.1, 0.8, (166, 158, 126))
    canvas.polygon(_ground(canvas, HORIZON + 0.16), (186, 176, 138))
    for x in canvas.columns(rng, 0.26):
        y, h = rng.uniform(HORIZON + 0.12, HORIZON + 0.22), rng.uniform(0.12, 0.26)
        sway = rng.uniform(-0.04, 0.04)
        canvas.line((x, y), (x + sway, y - h * 0.5), (40, 106, 88), 0.032)
        canvas.line((x + sway, y - h * 0.5), (x - sway, y - h), (52, 124, 98), 0.024)
    for x in canvas.columns(rng, 0.3):
        y, r = rng.uniform(-0.45, 0.05), rng.uniform(0.014, 0.026)
        canvas.ellipse(x, y, r, r, (176, 220, 224))
    for x in canvas.columns(rng, 0.22):
        canvas.ellipse(x, rng.uniform(HORIZON + 0.24, 0.75), 0.05, 0.012, (160, 148, 112))


def _city(canvas, rng) -> None:
    canvas.gradient([(-0.8, (150, 164, 184)), (HORIZON, (208, 204, 200))])
    x = canvas.left - 0.1
    while x < canvas.right:
        w, h = rng.uniform(0.16, 0.28), rng.uniform(0.22, 0.52)
        shade = rng.uniform(0.85, 1.15)
        wall = tuple(int(c * shade) for c in (118, 116, 128))
        top, bottom = HORIZON + 0.08 - h, HORIZON + 0.1
        canvas.polygon([(x, top), (x + w, top), (x + w, bottom), (x, bottom)], wall)
        columns, rows = max(2, int(w / 0.075)), int(h / 0.095)
        for i in range(columns):
            for j in range(rows):
                wx, wy = x + w * (i + 0.5) / columns, top + 0.06 + j * 0.095
                lit = rng.uniform() < 0.6
                pane = (228, 214, 166) if lit else (88, 92, 106)
                canvas.polygon(
                    [
                        (wx - 0.018, wy - 0.024),
                        (wx + 0.018, wy - 0.024),
                        (wx + 0.018, wy + 0.024),
                        (wx - 0.018, wy + 0.024),
                    ],
                    pane,
                )
        x += w + rng.uniform(0.0, 0.05)
    canvas.polygon(_ground(canvas, HORIZON + 0.09), (168, 166, 164))
    canvas.polygon(_ground(canvas, HORIZON + 0.13), (102, 104, 110))
    start = canvas.left + rng.uniform(0, 0.3)
    for x in np.arange(start, canvas.right, 0.3):
        canvas.polygon([(x, 0.33), (x + 0.14, 0.33), (x + 0.14, 0.36), (x, 0.36)], (206, 204, 196))
    if canvas.bottom > 0.6:
        canvas.polygon(_ground(canvas, 0.56), (150, 148, 146))


_PAINTERS = {
    "meadow": _meadow,
    "sunset": _sunset,
    "night": _night,
    "snow": _snow,
    "underwater": _underwater,
    "city": _city,
}


def paint(environment: str, rng: np.random.Generator, bounds, scale: float) -> Canvas:
    """Paint an environment over world `bounds` (left, top, right, bottom), `scale` pixels a unit.

    Returns a canvas whose pixels are uint8 RGB, drawn at twice the scale and averaged down.
    """
    canvas = Canvas(*bounds, scale * 2)
    _PAINTERS[environment](canvas, rng)
    height, width = canvas.pixels.shape[:2]
    canvas.pixels = cv2.resize(
        canvas.pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA
    )
    canvas.scale = scale
    return canvas
