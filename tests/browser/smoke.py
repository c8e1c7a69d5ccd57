"""What `make smoke` runs: each thing that a canvas is for, once, on our own canvas alone.

A test by its name, with the parameters that it is run with: by default USUAL and all of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

USUAL = {"address": "own", "session_canvas": "classic"}
SMOKE: dict[str, list[dict[str, Any]]] = {
    "test_a_template_opens_and_means_what_run_py_says": [{}],
    "test_a_template_runs_and_shows_its_video": [{}, {"name": "extend", "session_canvas": "vue"}],
    "test_a_video_from_an_empty_canvas": [{}],
    "test_dragging_the_end_of_the_new_part": [{}],
    "test_an_edit_is_still_there_after_a_reload": [{}],
    "test_stop_here_goes_on_with_the_prediction_and_is_not_kept": [{}],
    "test_what_cannot_run_is_told_at_its_nodes": [{}],
    "test_a_saved_video_brings_its_graph_back": [{}],
    "test_the_canvas_speaks_a_language_and_runs_in_it": [{"language": "zh"}],
    "test_every_text_has_a_chinese_one_with_the_same_values_and_none_is_left_over": [{}],
}


def chosen(items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests of SMOKE and the others; UsageError where SMOKE names one that is not there."""
    missing = [(name, choice) for name, choices in SMOKE.items() for choice in choices]
    parts: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    for item in items:
        choices = [choice for choice in SMOKE.get(item.originalname, []) if fits(item, choice)]
        missing = [(n, c) for n, c in missing if n != item.originalname or c not in choices]
        parts[not choices].append(item)
    if missing:
        raise pytest.UsageError(f"tests/browser/smoke.py names tests that are not there: {missing}")
    return parts


def fits(item: pytest.Item, choice: dict[str, Any]) -> bool:
    """Whether a test is run with these parameters, of those that it has."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return all(params.get(name, value) == value for name, value in (USUAL | choice).items())
