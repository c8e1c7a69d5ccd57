"""Runs inside_fill.py by the Python of a real ComfyUI, with its modules importable as its own."""

from __future__ import annotations

import os
import subprocess

import pytest

from .conftest import ROOT, START, find_comfyui, python_of


def test_every_way_of_filling_with_cores_models():
    folder = find_comfyui()
    if folder is None:
        pytest.skip("no real ComfyUI found; name one with COMFYUI_PATH")
    tests = ROOT / "tests" / "host" / "inside_fill.py"
    done = subprocess.run(
        [python_of(folder), "-c", START, "-x", "-c", str(ROOT / "pyproject.toml"), str(tests)],
        cwd=folder,  # where `import comfy` finds it
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "no pytest" in done.stderr:
        pytest.skip(f"{python_of(folder)} has no pytest")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
