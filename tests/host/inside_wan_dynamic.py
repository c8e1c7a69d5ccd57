"""Loading where core manages memory dynamically (Windows with NVIDIA), in a real ComfyUI's process.

There core's linear layers hold nothing until they are given weights, and what reaches the device
is cast to the type that core noted for it. test_wan.py runs this file by ComfyUI's own Python.
"""

from __future__ import annotations

import comfy.memory_management
import comfy.model_management
import comfy.ops
import pytest
import torch
from safetensors.torch import save_file

from patchdit.models import blockworld
from patchdit.nodes import host

from .inside_wan_formats import SCHEMES, in_8_bits
from .wan_pairs import CONFIGS, apart, cores, folder, inference, ours, predicted, weights_of

__all__ = ["folder", "inference"]  # fixtures


@pytest.fixture
def dynamic(monkeypatch):
    """As on Windows with dynamic VRAM, as far as a CPU can be."""
    monkeypatch.setattr(comfy.model_management, "WINDOWS", True)
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    assert comfy.ops.disable_weight_init.Linear(2, 3).weight is None  # which is what is tested


@pytest.fixture(scope="session")
def files(folder):
    """Beside the plain files, those of 8 bits."""
    for scheme in SCHEMES:
        CONFIGS.setdefault(f"dynamic-{scheme}", CONFIGS["t2v"])
        state = in_8_bits(weights_of(CONFIGS["t2v"]), scheme)
        save_file(state, folder / f"dynamic-{scheme}.safetensors")
    return folder


KINDS = ["t2v", "flf2v", "ti2v", "vace", *(f"dynamic-{scheme}" for scheme in SCHEMES)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["auto", "fp8_e4m3fn", "bf16"])
def test_the_weights_are_those_of_any_other_loading(files, monkeypatch, request, kind, dtype):
    """Also once they are on the device: that is, of the types that core noted."""
    usual = ours(kind, dtype).model.diffusion_model
    request.getfixturevalue("dynamic")
    model = ours(kind, dtype)
    network = model.model.diffusion_model
    model._load_list(for_dynamic=True, default_device=torch.device("cpu"))  # core's own casts
    weights, expected = dict(network.named_parameters()), dict(usual.named_parameters())
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        path, _, leaf = name.rpartition(".")
        noted = getattr(network.get_submodule(path), f"{leaf}_comfy_model_dtype", None)
        assert weight.dtype == expected[name].dtype
        assert noted in (None, weight.dtype), name
        assert torch.equal(weight.float(), expected[name].float()), name


@pytest.mark.parametrize("kind", ["t2v", "vace"])
def test_a_step_is_cores(files, request, kind):
    theirs = cores(kind)  # before: it would ask the device for its memory
    request.getfixturevalue("dynamic")
    assert apart(predicted(ours(kind), kind), predicted(theirs, kind)) < 1e-4


def test_our_own_weights_load_too(dynamic):
    parts = blockworld.load()
    model = host.make_model(parts.transformer, parts.vae)
    for name, weight in parts.transformer.named_parameters():
        assert torch.equal(model.model.diffusion_model.get_parameter(name), weight)
