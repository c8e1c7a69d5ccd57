"""A denoising step beside ComfyUI's own Wan, on the same random weights, in ComfyUI's environment.

COMFYUI_PATH is the folder of a ComfyUI, COMFYUI_PYTHON its Python (by default that of a venv beside
it or in it). Both models run there in turns, in one process (speed_inside.py), so that the version
of torch is the same for both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from patchdit.benchmarks.speed_rows import MOST_RATIO, STEPS, Row
from patchdit.models.config import TransformerConfig

INSIDE = Path(__file__).with_name("speed_inside.py")


def find_comfyui() -> Path | None:
    """The folder that COMFYUI_PATH names, if a ComfyUI is there."""
    named = os.environ.get("COMFYUI_PATH")
    folder = Path(named).resolve() if named else None
    return folder if folder and (folder / "comfy" / "ldm" / "wan").is_dir() else None


def python_of(comfyui: Path) -> str:
    """The Python that has what ComfyUI needs."""
    named = os.environ.get("COMFYUI_PYTHON")
    folders = (comfyui.parent / "venv", comfyui / "venv", comfyui / ".venv")
    beside = (folder / "bin" / "python" for folder in folders)
    return named or next((str(python) for python in beside if python.exists()), sys.executable)


def beside_comfyui(
    comfyui: Path, config: TransformerConfig, shape: tuple[int, int, int, int], repeats: int
) -> dict[str, float]:
    """Seconds `ours` and `theirs`, and megabytes `theirs_mb`, of a step on a latent B, T, H, W.

    RuntimeError with ComfyUI's last words where it cannot be run or computes something else.
    """
    task = {
        "config": asdict(config),
        "shape": shape,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
    }
    done = subprocess.run(
        [python_of(comfyui), str(INSIDE), str(comfyui), json.dumps(task)],
        cwd=comfyui,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def host_row(name: str, repeats: int, ours_peak_mb: float) -> Row | None:
    """A step's row against ComfyUI; None, and the reason on the screen, where that cannot be."""
    comfyui = find_comfyui()
    if comfyui is None:
        print(f"{name}/comfyui: skipped, COMFYUI_PATH is not the folder of a ComfyUI.")
        return None
    try:
        took = beside_comfyui(comfyui, *STEPS[name], repeats)
    except RuntimeError as error:
        print(f"{name}/comfyui: skipped, ComfyUI's Wan did not run: {error}")
        return None
    ours, theirs = took["ours"], took["theirs"]
    peaks = ours_peak_mb, took["theirs_mb"]
    return Row(f"{name}/comfyui", "comfyui", ours * 1e3, theirs * 1e3, ours / theirs, None, *peaks)


def fastest_row(first: Row, *others: Row) -> Row:
    """A step's row against the fastest of the others: the one with the greatest ratio.

    Each ratio is of times taken in turns in one process, so ratios compare where times do not. What
    part of the floor it is, is known from the first.
    """
    hardest = max(first, *others, key=lambda row: row.ratio)
    name, most = f"{first.name}/fastest", MOST_RATIO.get(first.name)
    return replace(
        hardest, name=name, of_floor=first.of_floor, target=first.target, most_ratio=most
    )
