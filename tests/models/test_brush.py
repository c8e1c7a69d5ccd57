"""Painted patches as text: every painting comes back, and nothing else is taken for one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchdit.models.brush import read_brush
from patchdit.models.config import PatchSize
from patchdit.models.patches import Grid

GRID = Grid(3, 2, 4, PatchSize(1, 2, 2))


@given(st.lists(st.booleans(), min_size=24, max_size=24))
def test_every_painting_can_be_written(cells):
    rows = []
    for time in range(3):
        row = [str(place) for place in range(8) if cells[8 * time + place]]
        if row:
            rows.append(f"{time}:{','.join(row)}")
    assert read_brush(" ".join(["3x2x4", *rows]), GRID).tolist() == cells


def test_spans_are_the_patches_between_both_ends():
    spans = read_brush("3x2x4 0:0-2,5 2:7", GRID)
    assert spans.nonzero().flatten().tolist() == [0, 1, 2, 5, 23]
    assert torch.equal(spans, read_brush(" 3x2x4  0:0,1,2,5\n2:7 ", GRID))


@pytest.mark.parametrize("text", ["", "  \n", "3x2x4"])
def test_nothing_painted(text):
    assert read_brush(text, GRID).shape == (24,) and not read_brush(text, GRID).any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0:1", "begins with '0:1'; need a grid such as 3x2x4"),
        ("3x2x5 0:1", "on a grid of 3x2x5 .* these are 3x2x4"),
        ("3x2x4 3:1", "row for time 3; need rising times below 3"),
        ("3x2x4 1:1 1:2", "row for time 1; need rising"),
        ("3x2x4 0:8", "patches 8 to 8; need rising ones below 8"),
        ("3x2x4 0:3-1", "patches 3 to 1; need rising"),
        ("3x2x4 0:1,1", "patches 1 to 1; need rising"),
        ("3x2x4 0:", "has '0:'; need a time and its patches"),
        ("3x2x4 0:-1", "has '0:-1'"),
        ("3x2x4 0:٣", "has '0:٣'"),  # digits, but not ours
        ("3x2x4 0:" + "9" * 5000, "need a time and its patches"),
        ("9" * 5000 + "x2x4", "need a grid such as"),
    ],
)
def test_what_is_no_painting_is_said_in_one_sentence(text, said):
    with pytest.raises(ValueError, match=said) as caught:
        read_brush(text, GRID)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
