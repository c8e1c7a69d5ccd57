"""Runs inside_wan.py by the Python of a real ComfyUI, with its modules importable as its own."""

from __future__ import annotations

import os
import subprocess

import pytest

from .conftest import ROOT, START, find_comfyui, python_of


def test_wan_files_inside_the_process_of_comfyui():
    folder = find_comfyui()
    if folder is None:
        pytest.skip("no real ComfyUI found; name one with COMFYUI_PATH")
    paths = ("-x", "-c", ROOT / "pyproject.toml", ROOT / "tests" / "host" / "inside_wan.py")
    done = subprocess.run(
        [python_of(folder), "-c", START, *map(str, paths)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if "no pytest" in done.stderr:
        pytest.skip(f"{python_of(folder)} has no pytest")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
