"""The most memory that loading a Wan file takes, by format, in a real ComfyUI's process.

test_wan.py runs this file by ComfyUI's own Python. What is measured is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from patchdit.models.config import TransformerConfig
from patchdit.models.transformer import PatchDiT

from .inside_wan_memory import HAS_GGUF, fp8, needs_gguf, write_gguf
from .wan_pairs import CONFIGS

FORMATS = ["fp16", "fp8", "fp8-old", "fp8-new", pytest.param("gguf", marks=needs_gguf), "pt"]
LONGER = ["fp8-old", "fp8-new", "gguf", "pt"]  # whose largest tensor is much beside few blocks
SUFFIXES = {"gguf": "gguf", "pt": "pt"}

PEAK = """
import gc, sys
from pathlib import Path
(path, tests, *names), sys.argv = sys.argv[1:], ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import comfy.cli_args
import folder_paths
import utils.extra_config
sys.path.append(tests)
import conftest  # which loads the pack as patchdit
from patchdit.nodes.load_video import LoadVideoModel

def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))

folder_paths.add_model_folder_path("diffusion_models", path)
for name in names:
    LoadVideoModel.execute(f"tiny-{name}", "auto")  # what the first load starts up stays for good
for name in names:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = memory("VmRSS")
    model = LoadVideoModel.execute(f"peak-{name}", "auto").args[0]
    weights = sum(p.nbytes for p in model.model.diffusion_model.parameters())
    print("PEAK", name, memory("VmHWM") - before, weights)
    del model
"""


# glibc keeps freed buffers of up to 32 MB in the heap, with holes between: with this it gives them
# back at once, so that the peak is what loading asked for.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}


def write(folder, size, form):
    """One file, stored as the public ones are: matrices of blocks narrow, the rest in 16 bits."""
    large = TransformerConfig(1024, 4096, 8, layers=6 if form in LONGER else 2)
    network = PatchDiT(large if size == "peak" else CONFIGS["t2v"])
    state = {name: weight.half() for name, weight in network.state_dict().items()}
    path = folder / f"{size}-{form}.{SUFFIXES.get(form, 'safetensors')}"
    if form == "gguf":
        write_gguf(path, {name: weight.float() for name, weight in state.items()})
    elif form == "pt":
        torch.save(state, path)
    elif form == "fp16":
        save_file(state, path)
    else:
        save_file(fp8(state, form != "fp8", form == "fp8-new"), path)
    return path.name


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """By format: the most that a process held while it loaded, and the bytes of the weights."""
    folder = tmp_path_factory.mktemp("peaks")
    forms = ["fp16", "fp8", "fp8-old", "fp8-new", *(["gguf"] if HAS_GGUF else []), "pt"]
    names = {write(folder, "peak", form): form for form in forms}
    for form in forms:
        write(folder, "tiny", form)
    endings = [name.removeprefix("peak-") for name in names]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder), str(Path(__file__).parents[1]), *endings],
        env={**os.environ, **GIVE_BACK},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("PEAK")]
    return {names[f"peak-{name}"]: (int(peak), int(weights)) for name, peak, weights in lines}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux counts the peak")
@pytest.mark.parametrize("form", FORMATS)
def test_loading_takes_the_memory_of_the_weights(peaks, form):
    """Beyond what the process held before: the weights, and of what is converted one tensor."""
    peak, weights = peaks[form]
    assert weights > 150e6 and 0.9 * weights < peak < 1.1 * weights
