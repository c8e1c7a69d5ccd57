"""Rows of two benchmarks that stand alone too: resumed runs and sparse patches."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from patchdit.benchmarks import kill_and_resume, sparse_patches
from patchdit.benchmarks.verbs_rows import Row, foreign
from patchdit.benchmarks.verbs_world import Bench

KILLS, STEPS = 20, 12
REPEATS = 5


def resume_rows(bench: Bench) -> list[Row]:
    """A run killed at a random step and started again equals one left alone."""
    kills = min(KILLS, bench.clips)
    with TemporaryDirectory() as folder:
        outcomes = [
            kill_and_resume.kill_and_resume(number, STEPS, Path(folder)) for number in range(kills)
        ]
    seconds = kill_and_resume.fingerprint_seconds()
    rows = kill_and_resume.rows(outcomes, seconds)
    return [foreign(row, kills, at_most="identical" not in row["name"]) for row in rows]


def sparse_rows(bench: Bench) -> list[Row]:
    """Denoising a quarter of the patches, against all of them; n is the rounds of timing."""
    rows = sparse_patches.rows(repeats=REPEATS)
    return [foreign(row, REPEATS, at_most=row["name"].endswith("time")) for row in rows]
