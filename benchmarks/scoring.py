"""Scores of readings against truths: shares with 95% intervals, and what chance would give."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from patchdit.benchmarks.prompts import ATTRIBUTES
from patchdit.benchmarks.reading import Reading


@dataclass(frozen=True)
class Score:
    """`hits` out of `n`."""

    hits: int
    n: int

    @property
    def share(self) -> float:
        return self.hits / self.n

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson's interval of the share (E. B. Wilson 1927): 95% for z = 1.96."""
        p, n = self.share, self.n
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)


def score(readings: list[Reading], truths: list[dict[str, str]]) -> dict[str, Score]:
    """A score per attribute that at least one truth names."""
    scores = {}
    for name in ATTRIBUTES:
        asked = [(r, t[name]) for r, t in zip(readings, truths, strict=True) if name in t]
        if asked:
            hits = sum(getattr(reading, name) == wanted for reading, wanted in asked)
            scores[name] = Score(hits, len(asked))
    return scores


def shuffled(truths: list[dict[str, str]], seed: int = 0) -> list[dict[str, str]]:
    """The same truths given to other clips: scores against these are chance."""
    order = np.random.default_rng(seed).permutation(len(truths))
    return [truths[i] for i in order]


def table(columns: dict[str, dict[str, Score]]) -> str:
    """Markdown: a row per attribute, a column per set of scores, each with its interval."""
    names = [n for n in ATTRIBUTES if any(n in scores for scores in columns.values())]
    lines = ["| attribute | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        cells = [_cell(scores.get(name)) for scores in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(score: Score | None) -> str:
    if score is None:
        return "-"
    low, high = score.interval()
    return f"{score.share:.1%} ({low:.1%} to {high:.1%})"
