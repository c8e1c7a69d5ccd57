"""Patches painted by hand, as a line of text that a workflow can carry.

`5x4x4 0:5-6,9 2:0-15` is a grid of 5 times, 4 rows and 4 columns; at time 0 patches 5, 6 and 9 are
painted, at time 2 all sixteen. Patches of one time are numbered from 0, row by row; times and
patches rise. Nothing painted is the empty text, or a grid alone. web/js/brush_text.js writes it.

L tokens.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from .patches import Grid

HEADER = re.compile(r"(\d{1,6})x(\d{1,6})x(\d{1,6})", re.ASCII)
ROW = re.compile(r"(\d{1,6}):(\d{1,9}(?:-\d{1,9})?(?:,\d{1,9}(?:-\d{1,9})?)*)", re.ASCII)


def read_brush(text: str, grid: Grid) -> Tensor:
    """The painted patches (L) of a grid, bool; ValueError for a text of another grid or of none."""
    chosen_L = torch.zeros(grid.tokens, dtype=torch.bool)
    words = text.split()
    if not words:
        return chosen_L
    size = f"{grid.t}x{grid.h}x{grid.w}"
    if HEADER.fullmatch(words[0]) is None:
        raise ValueError(
            f"The brush begins with {words[0][:40]!r}; need a grid such as {size} (time, rows,"
            " columns): paint again, or empty the setting brush."
        )
    if words[0] != size:
        raise ValueError(
            f"The brush was painted on a grid of {words[0]} patches (time, rows, columns), these"
            f" are {size}: paint again, or empty the setting brush."
        )
    chosen_TS = chosen_L.view(grid.t, grid.h * grid.w)
    before = -1
    for word in words[1:]:
        time, spans = read_row(word)
        if not before < time < grid.t:
            raise ValueError(
                f"The brush has a row for time {time}; need rising times below {grid.t}: paint"
                " again, or empty the setting brush."
            )
        fill_row(chosen_TS[time], spans, word)
        before = time
    return chosen_L


def read_row(word: str) -> tuple[int, list[tuple[int, int]]]:
    """The time of `2:0-3,9` and its spans of patches, both ends included."""
    row = ROW.fullmatch(word)
    if row is None:
        raise ValueError(
            f"The brush has {word[:40]!r}; need a time and its patches such as 2:0-3,9: paint"
            " again, or empty the setting brush."
        )
    ends = [span.split("-") for span in row[2].split(",")]
    return int(row[1]), [(int(span[0]), int(span[-1])) for span in ends]


def fill_row(chosen_S: Tensor, spans: list[tuple[int, int]], word: str) -> None:
    """Set the patches (S) of one time; ValueError unless they rise and are there."""
    before = -1
    for first, last in spans:
        if not before < first <= last < len(chosen_S):
            raise ValueError(
                f"The brush has {word[:40]!r} with patches {first} to {last}; need rising ones"
                f" below {len(chosen_S)}: paint again, or empty the setting brush."
            )
        chosen_S[first : last + 1] = True
        before = last
