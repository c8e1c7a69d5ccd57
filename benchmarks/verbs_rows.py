"""The rows of the verbs' table: a number with its 95% interval, its target, and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from patchdit.benchmarks.scoring import Score

CONTROLS = ("truth", "vae")


@dataclass(frozen=True)
class Row:
    """One number; `controls` has what the same measure says of the world itself ("truth") and of
    the world after the autoencoder ("vae"), where that can be said."""

    name: str
    value: float
    target: float | None  # None: shown, nothing is asked of it
    n: int
    low: float
    high: float
    at_most: bool = False
    controls: dict[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def record(self) -> dict[str, Any]:
        """The row for JSON."""
        numbers = {name: round(getattr(self, name), 4) for name in ("value", "low", "high")}
        controls = {name: round(value, 4) for name, value in self.controls.items()}
        named = {"name": self.name, **numbers, "target": self.target, "met": self.met, "n": self.n}
        return named | ({"controls": controls} if controls else {})


def share(
    name: str, hits: Sequence[bool], target: float | None = None, **controls: Sequence[bool]
) -> Row:
    """The share of clips for which something holds, with Wilson's interval."""
    score = Score(sum(map(bool, hits)), len(hits))
    others = {name: fmean(map(bool, values)) for name, values in controls.items() if values}
    return Row(name, score.share, target, score.n, *score.interval(), controls=others)


def mean(
    name: str,
    values: Sequence[float],
    target: float | None = None,
    at_most: bool = True,
    **controls: Sequence[float],
) -> Row:
    """The mean over clips, with the normal interval of a mean."""
    middle = fmean(values)
    half = 1.96 * stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    others = {name: fmean(numbers) for name, numbers in controls.items() if numbers}
    return Row(
        name, middle, target, len(values), middle - half, middle + half, at_most, controls=others
    )


def foreign(row: dict[str, Any], n: int, at_most: bool) -> Row:
    """A row of another benchmark, {"name", "value", "target", "met"}, which has no interval."""
    value = float(row["value"])
    return Row(row["name"], value, float(row["target"]), n, value, value, at_most)


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    head = ("row", "value", "95% interval", "target", "met", "n", *CONTROLS)
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        target = "-" if row.target is None else f"{'<=' if row.at_most else '>='} {row.target:g}"
        met = {None: "-", True: "yes", False: "no"}[row.met]
        others = [f"{row.controls[c]:.3f}" if c in row.controls else "-" for c in CONTROLS]
        interval = f"{row.low:.3f} to {row.high:.3f}"
        cells = [row.name, f"{row.value:.3f}", interval, target, met, str(row.n), *others]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
