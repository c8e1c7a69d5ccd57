"""LoRA on a model of which next to nothing is loaded, in a real ComfyUI's process.

Core then puts a LoRA onto a weight only when a layer fetches it for use. test_wan.py runs this file
by ComfyUI's own Python.
"""

from __future__ import annotations

import comfy.model_management
import comfy.sd
import pytest
import torch

from patchdit.models.config import TransformerConfig
from patchdit.models.cost import prompt_values, text_flops
from patchdit.nodes.host.comfyui_wan import HELD
from patchdit.nodes.host.device_comfyui import describe

from .wan_pairs import CONFIGS, apart, folder, inference, noise, pair, prompts_of, straight

__all__ = ["folder", "inference", "pair"]  # fixtures

FEW_BYTES = 64
LAYERS = {  # by kind of model: what a LoRA is put on, apart from all the rest
    "t2v": ["patch_embedding", "text_embedding.0", "blocks.1.self_attn.q", "head.head"],
    "vace": ["vace_patch_embedding", "vace_blocks.0.before_proj"],
    "flf2v": ["img_emb.proj.1", "blocks.0.cross_attn.k_img"],
}


def with_lora(model, layer):
    """The model with a LoRA on one layer, its bias too, big enough to be seen."""
    weight = model.model.diffusion_model.get_submodule(layer).weight
    out, into = weight.shape[0], weight.shape[1:]
    tensors = {
        "lora_up.weight": noise(out, 4, seed=1).reshape(out, 4, *(1,) * (len(into) - 1)),
        "lora_down.weight": 0.1 * noise(4, *into, seed=2),
        "diff_b": noise(out, seed=3),
    }
    lora = {f"diffusion_model.{layer}.{name}": tensor for name, tensor in tensors.items()}
    patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 0.5, 0.0)
    assert len(patched.patches) == 2
    return patched


def made(model, kind, budget):
    """The clean latent with all weights loaded, or only as many bytes of them."""
    device = comfy.model_management.get_torch_device()
    model = model.clone()
    model.load(device, lowvram_model_memory=budget or 0, full_load=budget is None)
    assert model.model.model_lowvram == (budget is not None)
    out = straight(model, kind, prompts_of(kind)[0]).clone()
    model.unpatch_model(device)
    return out


@pytest.mark.parametrize(
    ("kind", "layer"), [(kind, layer) for kind, layers in LAYERS.items() for layer in layers]
)
def test_a_lora_counts_however_little_is_loaded(pair, kind, layer):
    """And for as much as on core's own model."""
    mine, theirs = pair(kind)
    patched, bare = with_lora(mine, layer), made(mine, kind, FEW_BYTES)
    partly, whole = (made(patched, kind, budget) for budget in (FEW_BYTES, None))
    assert apart(partly, bare) > 1e-2
    assert apart(partly, whole) < 1e-4
    assert apart(partly, made(with_lora(theirs, layer), kind, FEW_BYTES)) < 1e-3
    assert torch.equal(made(mine, kind, FEW_BYTES), bare)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_prompts_that_are_held_count_as_memory(pair, kind):
    mine, theirs = (model.model for model in pair(kind))
    text, _ = mine.diffusion_model.held({}, *what_is_held(kind))
    held = sum(kv.k_BNSH.nbytes + kv.v_BNSH.nbytes for layer in text.layers for kv in layer)
    for clips in (1, 2):
        shape = [clips, 16, 3, 4, 6]
        more = mine.memory_required(shape) - theirs.memory_required(shape)
        assert abs(more - HELD * clips * held) < 1


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_prompt_costs_what_it_costs_in_cores_network(pair, kind):
    """Ours pads no text, core's encoder does: it counts all the same."""
    mine, theirs = (describe(model).config for model in pair(kind))
    assert prompt_values(mine) == prompt_values(theirs) > 0
    assert text_flops(mine) == text_flops(theirs) > 0


def what_is_held(kind):
    """Features of a prompt and of its image, as long as core's encoders make them."""
    tokens = CONFIGS[kind].image_positions or 257
    image = noise(1, tokens, 1280) if CONFIGS[kind].image_width else None
    return noise(1, 512, 4096), image


def test_the_prompts_of_a_14b_model_take_what_they_take():
    """Keys and values of 40 layers, 5120 wide, in 16 bits."""
    text = TransformerConfig(5120, 13824, 40, 40)
    assert 2 * prompt_values(text) == 2 * 2 * 40 * 512 * 5120 == 419430400
    image = TransformerConfig(5120, 13824, 40, 40, in_channels=36, image_width=1280)
    assert prompt_values(image) - prompt_values(text) == 2 * 40 * 257 * 5120
