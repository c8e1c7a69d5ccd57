"""What a seam looks like in numbers: brightness, colour, sharpness and motion, frame by frame.

F pixel frames, H rows, W columns, C channels, N steps. Frames are RGB in 0..1. A seam is the number
of the frame that begins a new segment. It passes when its step, the mean absolute difference to the
frame before, is no larger than the clip's own steps are: their 95th percentile + 1/255.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import isnan, nan

import torch
from torch import Tensor

REFERENCES = ("first", "previous")
ONE_LEVEL = 1 / 255  # the smallest step that an 8-bit file can show
PERCENTILE = 0.95
SEAM = ("step", "bound")
DRIFT = ("brightness", "chroma", "sharpness", "motion")
SEGMENT = ("brightness", "cb", "cr", "saturation", "sharpness", "motion")
# R'G'B' to Y'CbCr of Rec. ITU-R BT.709, full range: Y 0..1, Cb and Cr -0.5..0.5.
REC709 = torch.tensor(
    [
        [0.2126, 0.7152, 0.0722],
        [-0.2126 / 1.8556, -0.7152 / 1.8556, 0.9278 / 1.8556],
        [0.7874 / 1.5748, -0.7152 / 1.5748, -0.0722 / 1.5748],
    ]
)


@dataclass(frozen=True)
class FrameMeasures:
    """One number per frame and measure, float32 on the CPU.

    Brightness is mean luma (0..1); cb and cr are mean colour differences (-0.5..0.5), saturation
    the mean length of that pair (0..0.7); sharpness is the root mean square difference of luma
    between neighbouring pixels (0..1). `step_F[f]` is the mean absolute RGB difference of frame f
    to frame f-1 (0..1), and `step_F[0]` that to the LAST frame: the step at a loop's wrap.
    """

    brightness_F: Tensor
    cb_F: Tensor
    cr_F: Tensor
    saturation_F: Tensor
    sharpness_F: Tensor
    step_F: Tensor

    def __len__(self) -> int:
        return len(self.step_F)


@dataclass(frozen=True)
class Drift:
    """How far a segment has moved from its reference.

    Brightness and chroma are shares of the range (1 = from black to white); chroma is the largest
    change among cb, cr and saturation, without sign. Sharpness and motion depend on picture size
    and subject, so they are shares of the reference's own (-0.5: half as sharp; NaN where it has
    none) and take no part in `worst`.
    """

    brightness: float
    chroma: float
    sharpness: float
    motion: float

    @property
    def worst(self) -> tuple[str, float]:
        """Brightness or chroma, whichever moved further, and how far (>= 0)."""
        brightness = abs(self.brightness)
        wins = brightness >= self.chroma
        return ("brightness", brightness) if wins else ("chroma", self.chroma)


@dataclass(frozen=True)
class Segment:
    """The frames first..last (inclusive) between two seams, and their mean measures.

    Motion is the mean step inside the segment: not that of its first frame, and NaN for one frame.
    """

    first: int
    last: int
    brightness: float
    cb: float
    cr: float
    saturation: float
    sharpness: float
    motion: float
    drift: Drift | None = None  # None: this segment is the reference


@dataclass(frozen=True)
class Seam:
    """The step into `frame` and whether it stays within `bound`; frame 0 is a loop's wrap."""

    frame: int
    step: float
    bound: float

    @property
    def passes(self) -> bool:
        return self.step <= self.bound


@dataclass(frozen=True)
class SeamReport:
    """A clip's segments and seams; `compared` of its own steps have the percentile `p95`."""

    measures: FrameMeasures
    segments: tuple[Segment, ...]
    seams: tuple[Seam, ...]
    compared: int
    p95: float
    bound: float
    reference: str

    @property
    def passes(self) -> bool:
        """Whether every seam stays within the bound; true where there is none."""
        return all(seam.passes for seam in self.seams)

    def worst_drift(self) -> tuple[int, str, float]:
        """Number (from 1) of the segment that drifted most, in what, and how far (>= 0)."""
        drifts = [(i, *s.drift.worst) for i, s in enumerate(self.segments, 1) if s.drift]
        return max(drifts, key=lambda drift: drift[2], default=(1, "brightness", 0.0))

    def table(self, fps: float | None = None) -> str:
        """The report as aligned markdown, with seconds where `fps` is given."""
        passed = sum(seam.passes for seam in self.seams)
        verdict = f"{passed} of {len(self.seams)} seams pass." if self.seams else "No seams."
        own = f"the 95th percentile of {self.compared} own steps, {self.p95:.4f}, + 1/255"
        rate = f" at {fps:g} frames per second" if fps else ""
        parts = [f"Frames: {len(self.measures)}{rate}. {verdict} Bound {self.bound:.4f}: {own}."]
        if self.seams:
            rows = [_seam_row(seam, fps) for seam in self.seams]
            parts.append(_aligned(("seam", *SEAM, "result"), rows))
        rows = [[f"{s.first}-{s.last}", *_values(s, SEGMENT)] for s in self.segments]
        parts.append(_aligned(("frames", *SEGMENT), rows))
        moved = [(s, s.drift) for s in self.segments if s.drift]
        drifts = [[f"{s.first}-{s.last}", *_values(drift, DRIFT, "+.2%")] for s, drift in moved]
        if drifts:
            parts.append(_aligned((f"drift from the {self.reference}", *DRIFT), drifts))
        return "\n\n".join(parts)


def measure(frames: Tensor | Iterable[Tensor]) -> FrameMeasures:
    """Measures of a clip [F,H,W,C], C >= 3, or of its chunks in order; any chunking is bit-equal.

    Two frames are held at a time. ValueError for no frames, integer frames, frames of another
    size, and frames that are not numbers.
    """
    chunks = [frames] if isinstance(frames, Tensor) else frames
    measures: list[tuple[Tensor, ...]] = []
    steps: list[Tensor] = []
    first_HWC = before_HWC = None
    for frame in chain.from_iterable(chunks):
        now_HWC = _checked(frame, len(measures), before_HWC)
        measures.append(_measure_one(now_HWC))
        if before_HWC is not None:
            steps.append((now_HWC - before_HWC).abs().mean())
        first_HWC = now_HWC if first_HWC is None else first_HWC
        before_HWC = now_HWC
    if first_HWC is None or before_HWC is None:
        raise ValueError("The video has no frames; need at least one.")
    wrap = (first_HWC - before_HWC).abs().mean()
    columns = [*zip(*measures, strict=True), (wrap, *steps)]
    return FrameMeasures(*(torch.stack(column).cpu() for column in columns))


def judge(
    measures: FrameMeasures,
    seams: Sequence[int] = (),
    loop: bool = False,
    own: Sequence[tuple[int, int]] | None = None,
    reference: str = "first",
) -> SeamReport:
    """Cut a measured clip at its `seams`, and hold every seam's step against the clip's own steps.

    `own` are the known clips as (first, stop) frames, stop exclusive; None: everything. Own steps
    lie inside them and are no seams; where there is none the bound is 1/255. A loop's wrap is a
    seam too. Drift is taken from the "first" segment or from the "previous" one. ValueError for
    seams or own clips outside the video, a loop of one frame, and another reference.
    """
    F = len(measures)
    cuts = sorted(set(seams))
    if outside := [cut for cut in cuts if not 0 < cut < F]:
        raise ValueError(
            f"Seam {outside[0]} lies outside a video of {F} frames; seams must name frames that"
            f" begin a new segment, 1 to {F - 1}."
        )
    if loop and F < 2:
        raise ValueError("A loop has at least 2 frames, this video has 1; switch loop off.")
    if reference not in REFERENCES:
        raise ValueError(f"The reference is {reference!r}; need one of {', '.join(REFERENCES)}.")
    steps_N = _own_steps(measures, cuts, [(0, F)] if own is None else own)
    p95 = torch.quantile(steps_N.double(), PERCENTILE).item() if len(steps_N) else 0.0
    bound = p95 + ONE_LEVEL
    where = [*cuts, 0] if loop else cuts
    found = tuple(Seam(cut, measures.step_F[cut].item(), bound) for cut in where)
    segments = _cut(measures, [0, *cuts, F], reference)
    return SeamReport(measures, segments, found, len(steps_N), p95, bound, reference)


def _checked(frame: Tensor, number: int, before_HWC: Tensor | None) -> Tensor:
    """One frame as float RGB."""
    if frame.ndim != 3 or frame.shape[-1] < 3 or not frame.is_floating_point():
        raise ValueError(
            f"Frame {number} is {tuple(frame.shape)} of {frame.dtype}; need (height, width, 3)"
            " of floating point in 0..1."
        )
    rgb_HWC = frame[..., :3].detach().float()
    if before_HWC is not None and rgb_HWC.shape != before_HWC.shape:
        sizes = [f"{width}x{height}" for height, width, _ in (rgb_HWC.shape, before_HWC.shape)]
        raise ValueError(f"Frame {number} is {sizes[0]} pixels, the one before {sizes[1]}.")
    if not torch.isfinite(rgb_HWC).all():
        raise ValueError(
            f"Frame {number} holds values that are not numbers (NaN or infinite); the node that"
            " made the video went wrong."
        )
    return rgb_HWC


def _measure_one(rgb_HWC: Tensor) -> tuple[Tensor, ...]:
    """Brightness, cb, cr, saturation and sharpness of one frame."""
    luma_HW, cb_HW, cr_HW = (rgb_HWC @ REC709.to(rgb_HWC.device).T).unbind(-1)
    changes = torch.cat([luma_HW.diff(dim=0).flatten(), luma_HW.diff(dim=1).flatten()])
    sharpness = changes.square().mean().sqrt() if len(changes) else luma_HW.new_zeros(())
    saturation = torch.hypot(cb_HW, cr_HW).mean()
    return luma_HW.mean(), cb_HW.mean(), cr_HW.mean(), saturation, sharpness


def _own_steps(measures: FrameMeasures, cuts: list[int], own: Sequence[tuple[int, int]]) -> Tensor:
    F = len(measures)
    inside_F = torch.zeros(F, dtype=torch.bool)
    for first, stop in own:
        if not 0 <= first < stop <= F:
            raise ValueError(f"Own frames {first} to {stop} lie outside a video of {F} frames.")
        inside_F[first + 1 : stop] = True
    inside_F[cuts] = False
    return measures.step_F[inside_F]


def _cut(measures: FrameMeasures, edges: list[int], reference: str) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for first, stop in pairwise(edges):
        inside = slice(first, stop)
        means = [_mean(getattr(measures, f"{name}_F")[inside]) for name in SEGMENT[:-1]]
        now = Segment(first, stop - 1, *means, motion=_mean(measures.step_F[first + 1 : stop]))
        if segments:
            now = replace(now, drift=_drift(now, segments[0 if reference == "first" else -1]))
        segments.append(now)
    return tuple(segments)


def _mean(vector_F: Tensor) -> float:
    return vector_F.double().mean().item()


def _drift(now: Segment, other: Segment) -> Drift:
    chroma = max(abs(getattr(now, n) - getattr(other, n)) for n in ("cb", "cr", "saturation"))
    sharpness = _change(now.sharpness, other.sharpness)
    motion = _change(now.motion, other.motion)
    return Drift(now.brightness - other.brightness, chroma, sharpness, motion)


def _change(now: float, other: float) -> float:
    return now / other - 1 if other else nan


def _seam_row(seam: Seam, fps: float | None) -> list[str]:
    time = f" ({seam.frame / fps:.2f} s)" if fps else ""
    place = f"frame {seam.frame}{time}" if seam.frame else "wrap"
    return [place, *_values(seam, SEAM), "passes" if seam.passes else "visible"]


def _values(thing: Seam | Segment | Drift, names: Sequence[str], style: str = ".4f") -> list[str]:
    values = (getattr(thing, name) for name in names)
    return ["-" if isnan(value) else format(value, style) for value in values]


def _aligned(head: Sequence[str], rows: list[list[str]]) -> str:
    """A markdown table whose columns also line up as plain text: words left, numbers right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        padded[0] = cells[0].ljust(widths[0])
        return f"| {' | '.join(padded)} |"

    rule = [f":{'-' * (widths[0] - 1)}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(head), f"| {' | '.join(rule)} |", *map(line, rows)])
