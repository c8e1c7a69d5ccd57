"""Wan files of 8 bits and of GGUF, and MODELs without memory, in a real ComfyUI's process.

test_wan.py runs this file by ComfyUI's own Python.
"""

from __future__ import annotations

import importlib.util
import json

import comfy.model_management
import pytest
import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

from patchdit.models import weight_sets
from patchdit.models.config import TransformerConfig
from patchdit.models.transformer import PatchDiT
from patchdit.nodes import host
from patchdit.nodes.load_video import LoadVideoModel

from .wan_pairs import (
    CONFIGS,
    apart,
    cores,
    folder,
    inference,
    ours,
    pair,
    predicted,
    prompts_of,
    straight,
    weights_of,
)

__all__ = ["folder", "inference", "pair"]  # fixtures


def fp8(weights, scaled, new):
    """The weights of Linears as 8-bit floats, with scales of the old or the new scheme."""
    out = {}
    for name, weight in weights.items():
        layer = name.removesuffix(".weight")
        if not name.endswith(".weight") or weight.ndim != 2 or not name.startswith("blocks."):
            out[name] = weight
            continue
        scale = weight.abs().max() / 448 if scaled else torch.tensor(1.0)
        out[name] = (weight / scale).to(torch.float8_e4m3fn)
        if scaled and new:
            out[f"{layer}.weight_scale"] = scale
            text = json.dumps({"format": "float8_e4m3fn"}).encode()
            out[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
        elif scaled:
            out[f"{layer}.scale_weight"] = scale
    if scaled and not new:
        out["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    return out


@pytest.mark.parametrize("scheme", ["plain", "old", "new"])
@pytest.mark.parametrize("kind", ["t2v", "vace"])
def test_fp8_files_as_core_runs_them(folder, scheme, kind):
    name = f"{kind}-fp8-{scheme}"
    CONFIGS.setdefault(name, CONFIGS[kind])
    stored = fp8(weights_of(CONFIGS[kind]), scheme != "plain", scheme == "new")
    save_file(stored, folder / f"{name}.safetensors")
    models = ours(name), cores(name)
    mine, theirs = (predicted(model, kind) for model in models)
    assert apart(mine, theirs) < 1e-3
    assert host.fingerprint(models[0]) == host.fingerprint(ours(name))
    for model in models:
        layer = model.model.diffusion_model.blocks[0].self_attn.q
        assert (type(layer.weight).__name__ == "QuantizedTensor") == (scheme != "plain")


class OnlyCasts(TorchFunctionMode):
    """Fails where a weight is computed with as it lies there, not as a cast of it."""

    CASTS = ("to", "empty_like", "copy_", "__get__", "size", "numel", "is_pinned", "detach")

    def __init__(self, network):
        super().__init__()
        self.weights = {id(p): name for name, p in network.named_parameters()}
        self.slices = []  # kept, so that no other tensor gets the id of one
        self.cast, self.bare = set(), set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat = [*args, *kwargs.values()]
        names = {self.weights[id(a)] for a in flat if id(a) in self.weights}
        name = getattr(func, "__name__", "")
        out = func(*args, **kwargs)
        if name == "__getitem__" and names:  # a slice is to be cast as the whole would be
            self.slices.append(out)
            self.weights[id(out)] = names.pop()
        (self.cast if name in self.CASTS else self.bare).update(names)
        return out


@pytest.mark.parametrize("kind", ["flf2v", "vace", "ti2v"])
def test_with_next_to_no_memory_every_weight_is_cast_on_use(folder, pair, kind):
    """Narrow weights, so that a cast is a copy; a budget of a few bytes, so that none is loaded."""
    model, prompt = ours(kind, "fp8_e4m3fn"), prompts_of(kind)[0]
    network = model.model.diffusion_model
    for weight in network.parameters():
        if weight.dtype == torch.float32:  # all but the matrices
            weight.data = weight.data.half()
    whole = straight(model, kind, prompt)
    model.load(comfy.model_management.get_torch_device(), lowvram_model_memory=64)
    assert model.model.model_lowvram and model.model.model_loaded_weight_memory < 64
    layers = [m for m in network.modules() if hasattr(m, "comfy_cast_weights")]
    assert layers and all(layer.comfy_cast_weights for layer in layers)
    seen = OnlyCasts(network)
    with seen:
        partly = straight(model, kind, prompt)
    assert not seen.bare
    assert seen.cast == set(seen.weights.values())
    assert apart(partly, whole) < 1e-5


HAS_GGUF = importlib.util.find_spec("gguf") is not None  # one that is there but broken is a failure
needs_gguf = pytest.mark.skipif(not HAS_GGUF, reason="gguf is not installed")


def write_gguf(path, weights):
    """A Q8_0 file of these weights; the numbers that its blocks stand for, as ours reads them."""
    import gguf

    kind = gguf.GGMLQuantizationType.Q8_0
    writer, spelled_out = gguf.GGUFWriter(path, "wan"), {}
    for name, weight in weights.items():
        values = weight.numpy()
        if values.ndim == 2 and name.startswith("blocks."):
            blocks = gguf.quants.quantize(values, kind)
            writer.add_tensor(name, blocks, raw_dtype=kind)
            values = gguf.quants.dequantize(blocks, kind)
            values = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
        elif values.ndim == 5:  # more than fit
            writer.add_tensor(name, values.reshape(len(values), -1))
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(values.shape))
        else:
            writer.add_tensor(name, values)
        spelled_out[name] = torch.from_numpy(values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return spelled_out


@needs_gguf
def test_gguf_as_core_runs_what_it_spells_out(folder):
    """A Q8_0 file by our loader, against its numbers in a plain file by core's."""
    spelled_out = write_gguf(folder / "t2v-gguf.gguf", weights_of(CONFIGS["t2v"]))
    CONFIGS.setdefault("t2v-spelled-out", CONFIGS["t2v"])
    save_file(spelled_out, folder / "t2v-spelled-out.safetensors")
    mine = LoadVideoModel.execute("t2v-gguf.gguf", "fp32").args[0]
    assert "t2v-gguf.gguf" in host.model_files("diffusion_models")
    theirs = cores("t2v-spelled-out")
    assert apart(predicted(mine, "t2v"), predicted(theirs, "t2v")) < 1e-3


def test_a_file_bigger_than_the_memory_is_refused_before_it_is_read(folder, monkeypatch):
    """A whole header over a sparse file of 3 GB, of which no tensor may be read."""
    config = TransformerConfig(2048, 8192, 16, 12)
    header, end = {}, 0
    for name, weight in PatchDiT(config, device="meta").state_dict().items():
        data = [end, end + 4 * weight.numel()]
        header[name] = {"dtype": "F32", "shape": list(weight.shape), "data_offsets": data}
        end = data[1]
    text = json.dumps(header).encode()
    with (folder / "huge.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    monkeypatch.setattr(weight_sets, "free_memory", lambda: 2**30)
    monkeypatch.setattr(weight_sets, "read_tensor", lambda stored: pytest.fail(stored.name))
    needs = f"needs {end / 2**30:.1f} GB of memory and 1.0 GB are free; choose a smaller file"
    with pytest.raises(ValueError, match=needs):
        LoadVideoModel.execute("huge.safetensors", "auto")
