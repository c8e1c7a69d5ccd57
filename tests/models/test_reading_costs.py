"""What reading a file takes in time and memory, each in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from patchdit.models.checkpoints import in_diffusers, save_checkpoint
from patchdit.models.config import TRANSFORMER_PRESETS
from patchdit.models.transformer import PatchDiT

from .test_families import SMALL, write_shapes

FORMS = ["one file", "28 shards", "gguf"]


def run_alone(script, *arguments):
    """Run a script in a process of its own: its memory is nobody else's."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", MEASURE + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MEASURE = """
import json, sys, time
from pathlib import Path
from patchdit.models.families import find_video_model, load_video_model
def memory(which):
    status = Path("/proc/self/status").read_text()
    return int(status.split(which + ":")[1].split()[0]) * 1024
"""
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is measured through /proc"
)


def write_gguf_shapes(path, tensors):
    """A Q8_0 file of these shapes, whose data are not written."""
    gguf, np = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    writer, end = gguf.GGUFWriter(path, "wan"), 0
    for name, tensor in tensors.items():
        shape, kind, size = list(tensor.shape), None, tensor.numel() * 4
        if tensor.ndim == 2 and name.startswith("blocks."):
            kind, size = gguf.GGMLQuantizationType.Q8_0, tensor.numel() // 32 * 34
            shape[-1] = shape[-1] // 32 * 34  # the package wants them in bytes
        elif tensor.ndim == 5:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", shape)
            shape = [shape[0], tensor[0].numel()]
        stored = np.dtype(np.uint8 if kind else np.float32)
        writer.add_tensor_info(name, shape, stored, size, kind)
        end += gguf.GGUFWriter.ggml_pad(size, 32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + end + 32)  # sparse: takes no room


def write_large(folder, form):
    """A 14B file with nothing but a header, in one of FORMS; its path, and the bytes of all."""
    tensors = PatchDiT(TRANSFORMER_PRESETS["wan2.1-14b"], device="meta").state_dict()
    if form == "gguf":
        write_gguf_shapes(folder / "wan.gguf", tensors)
    elif form == "one file":
        write_shapes(folder / "wan.safetensors", tensors, "BF16")
    else:
        names = [in_diffusers(name) for name in tensors]
        stored = dict(zip(names, tensors.values(), strict=True))
        for i in range(28):
            own = {name: stored[name] for name in names[i::28]}
            shard = f"diffusion_pytorch_model-{i + 1:05}-of-00028.safetensors"
            write_shapes(folder / shard, own, "BF16")
    files = sorted(folder.iterdir())
    return files[0], sum(file.stat().st_size for file in files)


@needs_proc
@pytest.mark.parametrize("form", FORMS)
def test_a_14b_file_is_recognised_at_once_and_in_little_memory(form, tmp_path):
    """By the clock on the wall, less what the process waited for a processor that others had."""
    path, size = write_large(tmp_path, form)
    assert size > (14e9 if form == "gguf" else 28e9)
    seconds, grown, label = run_alone(
        """
import torch
torch.ones(2, 2, device="meta") @ torch.ones(2, 2, device="meta")  # torch's own start
def clock():
    waited = int(Path("/proc/self/schedstat").read_text().split()[1])
    return time.perf_counter() - waited / 1e9
before, start = memory("VmRSS"), clock()
found = find_video_model(sys.argv[1])
print(json.dumps([clock() - start, memory("VmHWM") - before, found.label]))
""",
        path,
    )
    print(form, seconds, grown, label)
    assert seconds < 2 and grown < 200e6
    assert label.startswith("Wan 2.1 T2V 14B, " + ("GGUF Q8_0" if form == "gguf" else "bf16"))


@needs_proc
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_loading_takes_the_weights_and_little_more(kind, tmp_path):
    config = replace(SMALL, width=1024, heads=8, mlp_width=4096, layers=4, text_width=512)
    tensors = {name: t.bfloat16() for name, t in PatchDiT(config).state_dict().items()}
    path, size = tmp_path / f"model.{kind}", sum(t.nbytes for t in tensors.values())
    if kind == "pt":
        torch.save({"generator_ema": {f"model.{name}": t for name, t in tensors.items()}}, path)
    else:
        save_checkpoint(path, tensors)
    assert size > 120e6
    del tensors
    grown, open_still = run_alone(
        """
file, before = find_video_model(sys.argv[1]), memory("VmRSS")
model = load_video_model(file)
mapped = sys.argv[1] in Path("/proc/self/maps").read_text()
print(json.dumps([memory("VmHWM") - before, mapped]))
""",
        path,
    )
    assert not open_still
    assert 0.95 * size <= grown <= 1.1 * size + 12e6  # the code that runs for the first time
