"""Number formats of Wan files, what loading them takes and how it is stopped, in a real ComfyUI.

test_wan.py runs this file by ComfyUI's own Python.
"""

from __future__ import annotations

from dataclasses import replace

import comfy.model_base
import comfy.model_management
import comfy.ops
import comfy.utils
import folder_paths
import pytest
import torch
from safetensors.torch import save_file

from patchdit.models import weight_sets
from patchdit.models.config import VAE_PRESETS
from patchdit.models.quantised import dequantise
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes.load_video import LoadVideoModel, LoadVideoVAE

from .inside_wan_memory import fp8
from .wan_pairs import CONFIGS, apart, cores, folder, inference, ours, predicted, weights_of

__all__ = ["folder", "inference"]  # fixtures

SCHEMES = ["plain", "old", "new", "bare"]
FORMATS = {"fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}


def in_8_bits(weights, scheme):
    """The matrices of blocks as 8-bit floats; "bare" ones have a scale a row that nothing tells."""
    if scheme != "bare":
        return fp8(weights, scheme != "plain", scheme == "new")
    out = dict(weights)
    for name, weight in weights.items():
        if name.startswith("blocks.") and name.endswith(".weight") and weight.ndim == 2:
            scale = weight.abs().amax(1, keepdim=True) / 448
            out[name] = (weight / scale).to(torch.float8_e4m3fn)
            out[name.replace(".weight", ".weight_scale")] = scale
    return out


def saved(folder, name, tensors):
    CONFIGS.setdefault(name, CONFIGS["t2v"])
    save_file(tensors, folder / f"{name}.safetensors")
    return tensors


def network_of(model):
    return model.model.diffusion_model


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("kind", ["t2v", "flf2v"])
def test_only_matrices_are_narrowed_and_as_core_narrows(folder, kind, dtype):
    network, stored = network_of(ours(kind, dtype)), weights_of(CONFIGS[kind])
    theirs = dict(network_of(cores(kind, dtype)).named_parameters())
    matrices = {f"{n}.weight" for n, m in network.named_modules() if type(m).__name__ == "Linear"}
    assert len(matrices) > 20
    for name, weight in network.named_parameters():
        same = theirs[name] if name in matrices else stored[name]
        assert weight.dtype == (FORMATS[dtype] if name in matrices else torch.float32), name
        assert torch.equal(weight.float(), same.float()), name


def test_a_narrowed_file_stays_as_it_is(folder, monkeypatch):
    """Core too keeps the types of the file, where it takes the tensors of the file themselves."""
    stored = saved(folder, "formats-plain", in_8_bits(weights_of(CONFIGS["t2v"]), "plain"))
    mine = ours("formats-plain", "fp8_e4m3fn")
    for name, weight in network_of(mine).named_parameters():
        assert weight.dtype == stored[name].dtype
        assert torch.equal(weight.float(), stored[name].float()), name
    load = comfy.model_base.BaseModel.load_model_weights
    monkeypatch.setattr(
        comfy.model_base.BaseModel,
        "load_model_weights",
        lambda self, state, prefix, assign: load(self, state, prefix, assign=True),
    )
    theirs = cores("formats-plain", "fp8_e4m3fn")
    assert apart(predicted(mine, "t2v"), predicted(theirs, "t2v")) < 1e-4


def test_scales_that_nothing_tells_are_multiplied_in(folder):
    stored = saved(folder, "formats-bare", in_8_bits(weights_of(CONFIGS["t2v"]), "bare"))
    spelled_out = {name: tensor for name, tensor in stored.items() if "weight_scale" not in name}
    for name, tensor in stored.items():
        if name.endswith(".weight_scale"):
            weight = name.removesuffix("_scale")
            spelled_out[weight] = dequantise(stored[weight], tensor, torch.float32)
    saved(folder, "formats-spelled-out", spelled_out)
    model, info = LoadVideoModel.execute("formats-bare.safetensors", "fp32").args
    assert ", fp8 scaled, " in info
    assert apart(predicted(model, "t2v"), predicted(cores("formats-spelled-out"), "t2v")) < 1e-4


def test_room_is_asked_for_what_the_weights_become(folder, monkeypatch):
    """Half as much for a file of 32 bits as 16; twice as much for one of 16 bits on a CPU."""
    weights = weights_of(CONFIGS["t2v"])
    whole = sum(weight.nbytes for weight in weights.values())
    saved(folder, "formats-half", {name: weight.half() for name, weight in weights.items()})
    monkeypatch.setattr(weight_sets, "free_memory", lambda: int(0.75 * whole))
    assert network_of(ours("t2v", "bf16")).head.head.weight.dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"formats-half.safetensors as float32 needs 0\.0 GB"):
        ours("formats-half", "fp32")


def test_the_node_says_what_the_weights_take(folder):
    for dtype, bytes_each in (("fp32", 4), ("bf16", 2)):
        model, info = LoadVideoModel.execute("t2v.safetensors", dtype).args
        count = sum(weight.numel() for weight in weights_of(CONFIGS["t2v"]).values())
        assert f"; {model.model_size() / 2**30:.1f} GB in memory; " in info
        assert model.model_size() == pytest.approx(bytes_each * count, rel=0.02)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_loading_shows_how_far_it_is_and_stops(folder, monkeypatch, scheme):
    name = f"formats-stop-{scheme}"
    state = saved(folder, name, in_8_bits(weights_of(CONFIGS["t2v"]), scheme))
    seen, show = [], comfy.utils.ProgressBar.update_absolute

    def update(bar, value, total=None, preview=None):
        seen.append((value, total))
        show(bar, value, total, preview)
        if value == stop:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", update)
    stop = None
    ours(name)
    total = len(state)
    assert {each for _, each in seen} == {total} and len(seen) >= len(weights_of(CONFIGS["t2v"]))
    seen.clear()
    stop = 5
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        ours(name)
    assert [value for value, _ in seen] == [1, 2, 3, 4, 5]


def test_the_vae_convolves_as_cores_does(tmp_path, monkeypatch):
    """So with core's way round a cuDNN version's use of memory, no less exactly."""
    torch.manual_seed(0)
    folder_paths.add_model_folder_path("vae", str(tmp_path))
    vae = VideoVAE(replace(VAE_PRESETS["wan2.1"], encoder_width=8, decoder_width=8))
    save_file(vae.state_dict(), tmp_path / "formats-vae.safetensors")
    mine = LoadVideoVAE.execute("formats-vae.safetensors").args[0].first_stage_model.bfloat16()
    calls = []

    def convolve(x, weight, padding, stride, dilation, groups, **_options):
        calls.append(weight.shape)
        return torch.conv3d(x, weight, None, stride, padding, dilation, groups)

    monkeypatch.setattr(torch, "cudnn_convolution", convolve)
    latent_BCTHW = torch.randn(1, 16, 2, 4, 4).bfloat16()
    plain = mine.decode(latent_BCTHW)
    assert not calls
    monkeypatch.setattr(comfy.ops, "NVIDIA_MEMORY_CONV_BUG_WORKAROUND", True)
    round_about = mine.decode(latent_BCTHW)
    exact = mine.float().decode(latent_BCTHW.float())
    assert apart(round_about.float(), exact) < 2 * apart(plain.float(), exact)
    convolutions = [m for m in mine.decoder.modules() if isinstance(m, torch.nn.Conv3d)]
    assert len(calls) >= len(convolutions) > 10
