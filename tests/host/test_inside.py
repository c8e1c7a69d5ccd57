"""Runs inside.py by the Python of a real ComfyUI, with its modules importable as its own."""

from __future__ import annotations

import os
import subprocess

import pytest

from .conftest import ROOT, find_comfyui, python_of

START = """
import sys
paths, sys.argv = sys.argv[1:], ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import comfy.cli_args
try:
    import pytest
except ImportError:
    sys.exit("no pytest")
sys.exit(pytest.main(paths))
"""


def test_inside_the_process_of_comfyui():
    folder = find_comfyui()
    if folder is None:
        pytest.skip("no real ComfyUI found; name one with COMFYUI_PATH")
    tests = ["-x", "-c", ROOT / "pyproject.toml", ROOT / "tests" / "host" / "inside.py"]
    done = subprocess.run(
        [python_of(folder), "-c", START, *map(str, tests)],
        cwd=folder,  # where `import comfy` finds it
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if "no pytest" in done.stderr:
        pytest.skip(f"{python_of(folder)} has no pytest")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
