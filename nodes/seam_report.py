"""SeamReport: is a seam to be seen, and has a clip drifted? As a table, a picture, and a stop.

F pixel frames, H rows, W columns. The picture is drawn at twice its size and scaled down.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..models.seams import SeamReport as Report
from ..models.seams import judge, measure
from .api import Input, InputImpl, Types, io
from .footage import frames_of
from .latent_dicts import DEFAULT_FPS
from .video import LazyVideo

WIDTH, HEIGHT, SCALE = 900, 600, 2
LEFT, RIGHT, TOP, BOTTOM, GAP = 64, 24, 62, 34, 34  # margins, and the room between two charts
BACKGROUND, PANEL, GRID, INK, FAINT = (22,) * 3, (31,) * 3, (52,) * 3, (222,) * 3, (140,) * 3
GOOD, BAD, BOUND = (96, 200, 130), (240, 96, 88), (240, 190, 80)
# Chart title, its lines (measure, colour, name in the legend), and the least height of its axis.
CHARTS = [
    ("Brightness", [("brightness", (236, 220, 150), "")], 0.02),
    (
        "Chroma",
        [
            ("cb", (98, 156, 255), "blue (Cb)"),
            ("cr", (255, 110, 110), "red (Cr)"),
            ("saturation", (190, 140, 240), "saturation"),
        ],
        0.02,
    ),
    ("Sharpness", [("sharpness", (112, 214, 204), "")], 0.004),
    ("Motion", [("step", (160, 196, 240), "")], 0.004),
]


class SeamReport(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_SeamReport",
            display_name="Seam Report",
            category="PatchDiT/measure",
            description="Measure whether seams show and how brightness and colour drift; stop a"
            " chain of extensions that drifts too far.",
            search_aliases=["measure seams", "color drift", "check loop", "video quality plot"],
            inputs=[
                io.MultiType.Input(
                    "video",
                    [io.Video, io.Image],
                    tooltip="A video, or images that are the frames of one clip.",
                ),
                io.String.Input(
                    "seams",
                    default="",
                    tooltip="The frames at which new segments begin, such as 17, 41; the first"
                    " frame of the clip is 0. Empty: none.",
                ),
                io.Boolean.Input(
                    "loop",
                    default=False,
                    tooltip="Judge the step from the last frame to the first one too.",
                ),
                io.Float.Input(
                    "drift_limit",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Stop with an error when a segment's mean brightness or colour drifts"
                    " by more than this share of the range; 0.02 is hard to see. 0: never stop.",
                ),
                io.Combo.Input(
                    "reference",
                    options=["first segment", "previous segment"],
                    default="first segment",
                    tooltip="The segment that drift is measured against.",
                ),
                io.Float.Input(
                    "fps",
                    default=DEFAULT_FPS,
                    min=1.0,
                    max=120.0,
                    step=1.0,
                    tooltip="Frames per second of images; a video brings its own.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The video as it came."),
                io.String.Output(display_name="report", tooltip="Tables of seams and segments."),
                io.Image.Output(display_name="plot", tooltip="The measures over time."),
                io.Boolean.Output(
                    display_name="passes",
                    tooltip="Whether no seam is larger than the clip's own steps are.",
                ),
            ],
        )

    @classmethod
    def execute(cls, video, seams, loop, drift_limit, reference, fps):
        chunks, video, fps = clip_of(video, fps)
        report = judge(measure(chunks), numbers(seams), loop, reference=reference.split()[0])
        stop_if_drifted(report, drift_limit)
        return io.NodeOutput(video, report.table(fps), plot(report, fps), report.passes)


def clip_of(video: Any, fps: float) -> tuple[Iterable[Tensor], Any, float]:
    """Chunks of frames_FHWC, the VIDEO itself (images become one), and its frames per second."""
    if isinstance(video, LazyVideo):
        return video.chunks(), video, float(video.get_frame_rate())
    frames_FHWC, _, fps = frames_of(video, fps)
    if not isinstance(video, Input.Video):
        rate = Fraction(fps).limit_denominator(1001)
        parts = Types.VideoComponents(images=frames_FHWC, audio=None, frame_rate=rate)
        video = InputImpl.VideoFromComponents(parts)
    return [frames_FHWC], video, fps


def numbers(seams: str) -> list[int]:
    """Frame numbers from text such as "17, 41"."""
    words = seams.replace(",", " ").split()
    if wrong := [word for word in words if not word.isdecimal()]:
        raise ValueError(
            f"seams holds {wrong[0]!r}; need frame numbers with commas between, such as 17, 41."
        )
    return [int(word) for word in words]


def stop_if_drifted(report: Report, limit: float) -> None:
    """ValueError if a segment drifted by more than `limit`, a share of the range; 0 never stops."""
    number, name, share = report.worst_drift()
    if limit and share > limit:
        logging.warning("Seam Report stops here.\n%s", report.table())
        segment = report.segments[number - 1]
        raise ValueError(
            f"Segment {number} (frames {segment.first} to {segment.last}) drifted by {share:.1%} of"
            f" the range in {name} from the {report.reference} segment; drift_limit stops at"
            f" {limit:.1%}: raise it, or 0 to go on regardless."
        )


def plot(report: Report, fps: float) -> Tensor:
    """The measures over time as an IMAGE [1,H,W,3]: four charts, seams upright, bound dashed."""
    canvas = np.full((HEIGHT * SCALE, WIDTH * SCALE, 3), BACKGROUND, np.uint8)
    passed = sum(seam.passes for seam in report.seams)
    verdict = f"{passed} of {len(report.seams)} seams pass" if report.seams else "no seams"
    colour = GOOD if report.passes else BAD
    _text(canvas, "Seam report", LEFT, 28, INK, 0.6)
    _text(canvas, verdict, LEFT + 130, 28, colour if report.seams else FAINT, 0.5)
    size = f"{len(report.measures)} frames at {fps:g} per second"
    _text(canvas, size, WIDTH - RIGHT, 28, FAINT, 0.42, align=1)
    height = (HEIGHT - TOP - BOTTOM - GAP * (len(CHARTS) - 1)) / len(CHARTS)
    for index, chart in enumerate(CHARTS):
        top = round(TOP + index * (height + GAP))
        _draw_chart(canvas, report, chart, top, round(top + height))
    _draw_times(canvas, len(report.measures), fps)
    small = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small.astype(np.float32) / 255)[None]


def _draw_chart(canvas: np.ndarray, report: Report, chart: tuple, top: int, bottom: int) -> None:
    title, lines, least = chart
    moving = title == "Motion"  # steps belong between frames, and the bound to this chart alone
    F, first = len(report.measures), 1 if moving else 0
    vectors = [getattr(report.measures, f"{name}_F")[first:].tolist() for name, _, _ in lines]
    also = [0.0, report.bound, *(seam.step for seam in report.seams)] if moving else []
    shown = [*also, *(value for vector in vectors for value in vector)]
    low, high, ticks = _axis(min(shown), max(shown), least)
    if not moving and len(report.segments) > 1:
        low -= 0.25 * (high - low)  # room for the drift of each segment

    def at(frame: float, value: float) -> tuple[float, float]:
        return _x(frame, F), bottom - (value - low) / (high - low) * (bottom - top)

    cv2.rectangle(canvas, _pixel(LEFT, top), _pixel(WIDTH - RIGHT, bottom), PANEL, -1)
    for tick in ticks:
        _line(canvas, [at(0, tick), at(F, tick)], GRID)
        _text(canvas, f"{tick:g}", LEFT - 8, at(0, tick)[1] + 4, FAINT, 0.36, align=1)
    _text(canvas, title, LEFT, top - 8, INK, 0.44)
    _draw_seams(canvas, report, top, bottom, named=title == CHARTS[0][0])
    right = WIDTH - RIGHT
    for (name, ink, label), vector in zip(reversed(lines), reversed(vectors), strict=True):
        right -= _text(canvas, label, right, top - 8, ink, 0.38, align=1) + 14
        for s in report.segments if not moving else ():
            mean = getattr(s, name)
            _line(canvas, [at(s.first, mean), at(s.last + 1, mean)], _dim(ink))
        points = [at(f + 0.5, value) for f, value in enumerate(vector, first)]
        _line(canvas, points, ink, 1.5)
    if moving:
        _dashed(canvas, at(0, report.bound), at(F, report.bound), BOUND)
        bound = f"bound {report.bound:.4f}"
        _text(canvas, bound, WIDTH - RIGHT, top - 8, BOUND, 0.38, align=1)
        for seam in report.seams:
            x, y = at(seam.frame + 0.5 if seam.frame else F, seam.step)
            ink = GOOD if seam.passes else BAD
            cv2.circle(canvas, _pixel(x, y), 8, ink, -1, cv2.LINE_AA)
            if seam.frame == 0:
                _text(canvas, "wrap", x - 10, y + (4 if y < bottom - 8 else -6), ink, 0.38, align=1)
        return
    for s in report.segments:
        room = _x(s.last + 1 - s.first, F) - LEFT
        drift = getattr(s.drift, title.lower()) if s.drift else math.nan
        if room > 50 and not math.isnan(drift):
            middle = _x((s.first + s.last + 1) / 2, F)
            _text(canvas, f"{drift:+.1%}", middle, bottom - 7, FAINT, 0.36, align=0.5)


def _draw_seams(canvas: np.ndarray, report: Report, top: int, bottom: int, named: bool) -> None:
    """Upright lines, with the frame numbers above where there is room."""
    free = LEFT + 90
    for seam in report.seams:
        x = _x(seam.frame, len(report.measures))
        ink = GOOD if seam.passes else BAD
        if seam.frame:
            _line(canvas, [(x, top), (x, bottom)], ink)
        if seam.frame and named and x > free:
            free = x + 20 + _text(canvas, f"{seam.frame}", x, top - 8, ink, 0.4, align=0.5)


def _draw_times(canvas: np.ndarray, F: int, fps: float) -> None:
    step = _nice(F / fps / 8)
    for index in range(int(F / fps / step + 1e-6) + 1):
        seconds = index * step
        x = _x(seconds * fps, F)
        _line(canvas, [(x, HEIGHT - BOTTOM), (x, HEIGHT - BOTTOM + 4)], FAINT)
        _text(canvas, f"{seconds:g} s", x, HEIGHT - BOTTOM + 18, FAINT, 0.38, align=0.5)


def _axis(low: float, high: float, least: float) -> tuple[float, float, list[float]]:
    """An axis that holds low..high with some air, and its two to four round ticks."""
    middle, half = (low + high) / 2, max(high - low, least) * 0.58
    low = 0.0 if low == 0 else middle - half
    high = max(middle + half, low + least)
    step = _nice((high - low) / 3)
    ticks = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return low, high, [round(tick, 6) + 0.0 for tick in ticks]


def _nice(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is no less than `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= step * 0.999)


def _x(frame: float, F: int) -> float:
    return LEFT + frame / F * (WIDTH - RIGHT - LEFT)


def _dim(colour: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((part + 2 * PANEL[0]) // 3 for part in colour)


def _pixel(x: float, y: float) -> tuple[int, int]:
    return round(x * SCALE), round(y * SCALE)


def _line(canvas: np.ndarray, points, colour, width: float = 1) -> None:
    if points:
        thick = round(width * SCALE)
        pixels = np.array([_pixel(*point) for point in points], np.int32)
        cv2.polylines(canvas, [pixels], False, colour, thick, cv2.LINE_AA)


def _dashed(canvas: np.ndarray, start, stop, colour) -> None:
    for x in np.arange(start[0], stop[0], 10):
        _line(canvas, [(x, start[1]), (min(x + 5, stop[0]), start[1])], colour)


def _text(canvas: np.ndarray, text: str, x: float, y: float, colour, size, align=0.0) -> float:
    """Write on the baseline y; align 0, 0.5, 1: x is left, middle, right. Gives the width."""
    font, thick = cv2.FONT_HERSHEY_DUPLEX, 1 + (size > 0.5)
    width = cv2.getTextSize(text, font, size * SCALE, thick)[0][0] / SCALE
    where = _pixel(x - align * width, y)
    cv2.putText(canvas, text, where, font, size * SCALE, colour, thick, cv2.LINE_AA)
    return width
