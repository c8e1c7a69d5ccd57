"""8-bit files: plain and scaled in both schemes, loaded and handed on as stored."""

import json

import pytest
import torch

from patchdit.models.checkpoints import in_diffusers, save_checkpoint
from patchdit.models.config import TransformerConfig
from patchdit.models.families import (
    counted,
    find_video_model,
    load_video_model,
    read_state,
    read_weights,
)
from patchdit.models.quantised import dequantise, names_scheme
from patchdit.models.transformer import PatchDiT

CONFIG = TransformerConfig(128, 64, 1, 2, text_width=24)
FLOATS8 = [torch.float8_e4m3fn, torch.float8_e5m2]
PREFIX = "model.diffusion_model."


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    return PatchDiT(CONFIG).state_dict()


def is_linear(name, tensor):
    return name.startswith("blocks.") and name.endswith(".weight") and tensor.ndim == 2


def quantise(whole, scheme, dtype=torch.float8_e4m3fn):
    """(tensors of a file, what its weights stand for)."""
    stored, means = {}, {}
    for name, tensor in whole.items():
        layer = name.removesuffix(".weight")
        if not is_linear(name, tensor):
            stored[name] = means[name] = tensor.half() if tensor.ndim > 1 else tensor
            continue
        scale = torch.tensor(1.0) if scheme == "plain" else tensor.abs().max() / 100
        stored[name] = (tensor / scale).to(dtype)
        means[name] = stored[name].float() * scale
        if scheme == "old":
            stored[f"{layer}.scale_weight"] = scale
            stored[f"{layer}.scale_input"] = torch.tensor(1.0)
        if scheme in ("new", "metadata"):
            stored[f"{layer}.weight_scale"] = scale
        if scheme == "new":
            stored[f"{layer}.comfy_quant"] = note("float8_e4m3fn")
    if scheme == "old":
        stored["scaled_fp8"] = torch.zeros(2, dtype=dtype)
    return stored, means


def note(kind):
    return torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)


def metadata_of(stored, kind="float8_e4m3fn"):
    layers = {name[:-13]: {"format": kind} for name in stored if name.endswith(".weight_scale")}
    return {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}


def rename(stored, flavour):
    if flavour == "comfyui":
        return {PREFIX + name: tensor for name, tensor in stored.items()}
    if flavour == "diffusers":
        return {in_scheme(name): tensor for name, tensor in stored.items()}
    return stored


def in_scheme(name):
    layer, _, end = name.rpartition(".")
    if end in ("weight", "bias", "modulation", "gamma") or not layer:
        return name if name == "scaled_fp8" else in_diffusers(name)
    return in_diffusers(f"{layer}.weight").removesuffix(".weight") + f".{end}"


@pytest.mark.parametrize("dtype", FLOATS8)
@pytest.mark.parametrize("flavour", ["original", "comfyui", "diffusers"])
@pytest.mark.parametrize(
    "scheme, word",
    [
        ("plain", "fp8"),
        ("old", "fp8 scaled (old)"),
        ("new", "fp8 scaled"),
        ("metadata", "fp8 scaled"),
    ],
)
def test_every_scheme_loads_as_what_it_stands_for(whole, scheme, word, flavour, dtype, tmp_path):
    path = tmp_path / "wan.safetensors"
    stored, means = quantise(whole, scheme, dtype)
    named = rename(stored, flavour)
    save_checkpoint(path, named, metadata_of(named) if scheme == "metadata" else None)
    found = find_video_model(path)
    assert str(found.quantisation) == word and f", {word}, " in found.label
    assert set(found.weights) == set(whole)
    for wanted in (None, torch.bfloat16):  # None: float32 on a CPU
        model = load_video_model(found, wanted).state_dict()
        for name, tensor in means.items():
            assert torch.equal(model[name], tensor.to(wanted or torch.float32)), name
    assert found.default_dtype("cuda") == torch.bfloat16

    state = dict(read_state(found))
    if scheme == "metadata":
        layers = [name.removesuffix(".weight_scale") for name in stored if "_scale" in name]
        stored = stored | {f"{layer}.comfy_quant": note("float8_e4m3fn") for layer in layers}
    assert set(state) == set(stored)
    for name, tensor in stored.items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name].float(), tensor.float())


def test_metadata_of_models_that_lie_beside_is_left_out(whole, tmp_path):
    path = tmp_path / "full.safetensors"
    named = rename(quantise(whole, "metadata")[0], "comfyui")
    beside = {"text_encoders.umt5xxl.q.weight_scale": torch.ones(())}
    save_checkpoint(path, named | beside, metadata_of(named | beside))
    assert not [name for name, _ in read_state(find_video_model(path)) if "umt5" in name]


def test_a_marker_outside_the_prefix_counts(whole, tmp_path):
    path = tmp_path / "wan.safetensors"
    stored, _ = quantise(whole, "old")
    named = {name if name == "scaled_fp8" else PREFIX + name: t for name, t in stored.items()}
    save_checkpoint(path, named)
    assert "scaled_fp8" in dict(read_state(find_video_model(path)))


@pytest.mark.parametrize(
    "extra, kind",
    [
        ({"blocks.0.ffn.0.weight_scale_2": torch.ones(1)}, "nvfp4"),
        ({"blocks.0.ffn.0.comfy_quant": note("mxfp8")}, "mxfp8"),
        ({"blocks.0.ffn.0.comfy_quant": note("nvfp4")}, "nvfp4"),
        ({"blocks.0.ffn.0.weight": torch.ones(64, 128, dtype=torch.int8)}, "I8"),
        ({"blocks.0.ffn.0.weight.quant_state.bitsandbytes__nf4": torch.ones(1)}, "bitsandbytes"),
    ],
)
def test_other_formats_are_refused_by_name(whole, extra, kind, tmp_path):
    path = tmp_path / "wan.safetensors"
    save_checkpoint(path, {**whole, **extra})
    with pytest.raises(ValueError, match=rf"wan\.safetensors is quantised as {kind}.* not support"):
        find_video_model(path)


@pytest.mark.parametrize("text, message", [("{", "unreadable"), ('{"layers": 3}', "unreadable")])
def test_unreadable_metadata_is_refused(whole, text, message, tmp_path):
    path = tmp_path / "wan.safetensors"
    save_checkpoint(path, whole, {"_quantization_metadata": text})
    with pytest.raises(ValueError, match=message):
        find_video_model(path)
    save_checkpoint(path, whole, metadata_of({"blocks.0.ffn.0.weight_scale": 1}, "nvfp4"))
    with pytest.raises(ValueError, match="quantised as nvfp4"):
        find_video_model(path)


def test_scales_are_one_number_or_one_for_each_row():
    weight = torch.randn(4, 3).to(torch.float8_e4m3fn)
    rows = torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = weight.float() * rows[:, None]
    assert torch.equal(dequantise(weight, rows, torch.float32), expected)
    assert torch.equal(dequantise(weight, rows[:, None], torch.float32), expected)
    assert torch.equal(dequantise(weight, rows[1:2], torch.float32), weight.float() * 2)
    with pytest.raises(ValueError, match=r"scales of shape \(3,\) for a weight of \(4, 3\)"):
        dequantise(weight, rows[:3], torch.float32)


@pytest.mark.parametrize(
    ("end", "word", "named"),
    [
        (None, "", False),  # no scales at all
        (".scale_weight", "scaled_fp8", True),
        (".scale_weight", "", False),
        (".weight_scale", "comfy_quant", True),
        (".weight_scale", "metadata", True),
        (".weight_scale", "", False),
        (".weight_scale", "scaled_fp8", False),  # which tells of the other name only
    ],
)
def test_a_scheme_is_named_for_every_layer_or_not(end, word, named):
    layers = ["blocks.0.ffn.0", "blocks.1.ffn.0"]
    names = {f"{layer}.weight" for layer in layers}
    names |= {layer + end for layer in layers if end}
    names |= {"scaled_fp8"} if word == "scaled_fp8" else set()
    names |= {f"{layer}.comfy_quant" for layer in layers} if word == "comfy_quant" else set()
    told = layers if word == "metadata" else []
    assert names_scheme(names, told) == named
    if named and word != "scaled_fp8":
        assert not names_scheme(names - {f"{layers[0]}.comfy_quant"}, told[1:])


@pytest.mark.parametrize("scheme", ["plain", "old", "new", "metadata"])
def test_weights_are_read_as_each_its_own_type(whole, scheme, tmp_path):
    path = tmp_path / "wan.safetensors"
    stored, means = quantise(whole, scheme)
    save_checkpoint(path, stored, metadata_of(stored) if scheme == "metadata" else None)
    found = find_video_model(path)
    assert found.scheme_named == (scheme != "plain")
    types = {name: torch.float16 if "ffn" in name else torch.float32 for name in found.weights}
    seen = []
    read = dict(counted(read_weights(found, types, torch.bfloat16), seen.append))
    assert read.keys() == means.keys() and seen == list(range(1, len(means) + 1))
    for name, weight in read.items():
        assert weight.dtype == types[name]
        assert torch.equal(weight, means[name].to(types[name]))
