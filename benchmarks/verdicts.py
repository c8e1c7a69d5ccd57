"""The eval's contact sheet: clips and what was asked for, wrong words in red with what was read."""

from __future__ import annotations

from pathlib import Path

from patchdit.benchmarks.prompts import Prompt
from patchdit.benchmarks.reading import Reading
from patchdit.benchmarks.scoring import Score
from patchdit.training.page import BAD, FAINT, GOOD, Page, spread, strip_size

_FRAMES, _COLUMNS, _MARGIN = 5, 2, 28


def draw_verdicts(
    path: str | Path,
    clips: list,
    prompts: list[Prompt],
    readings: list[Reading],
    scores: dict[str, Score],
    most: int = 24,
) -> None:
    """Write a PNG of the first `most` clips, five frames each."""
    clips = clips[:most]
    height, width = clips[0].shape[1:3]
    strip_width, strip_height = strip_size(_FRAMES, width, height)
    cell_height = strip_height + 44
    rows = -(-len(clips) // _COLUMNS)
    page = Page(
        _MARGIN + _COLUMNS * (strip_width + _MARGIN), 76 + rows * cell_height + _MARGIN // 2
    )
    page.text(_MARGIN, 22, "World eval: prompts never seen in training", 18)
    shares = "   ".join(f"{name} {s.share:.1%}" for name, s in scores.items())
    page.text(_MARGIN, 48, shares, 13, FAINT)
    for i, clip in enumerate(clips):
        row, column = divmod(i, _COLUMNS)
        left, top = _MARGIN + column * (strip_width + _MARGIN), 76 + row * cell_height
        page.strip(left, top, spread(clip, _FRAMES))
        _verdict(page, left, top + strip_height + 7, prompts[i], readings[i])
    page.save(path)


def _verdict(page: Page, x: int, y: int, prompt: Prompt, reading: Reading) -> None:
    if prompt.chinese:
        x = page.text(x, y, "(zh)", 13, FAINT) + 8
    for name, wanted in prompt.truth.items():
        got = getattr(reading, name)
        right = got == wanted
        words = wanted if right else f"{wanted} [{got}]"
        x = page.text(x, y, words, 13, GOOD if right else BAD) + 12
