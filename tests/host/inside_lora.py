"""LoRAs in the process of a real ComfyUI: our patches against core's own, weight by weight.

test_lora.py runs this file by ComfyUI's own Python.
"""

from __future__ import annotations

import comfy.sd
import pytest
import torch
from safetensors.torch import save_file

from patchdit.models.checkpoints import in_diffusers
from patchdit.nodes import host
from patchdit.nodes.host.lora_comfyui import add_lora

from ..nodes.conftest import parts
from .wan_pairs import folder, pair

__all__ = ["folder", "pair", "parts"]  # fixtures

PREFIX = "diffusion_model."
MODULES = ["blocks.0.self_attn.q", "blocks.1.ffn.2", "patch_embedding", "head.head"]


@pytest.fixture(params=["blockworld", "our wan", "core's wan"])
def model(request):
    """Our own model, a Wan file by our loader, and the same file by core's."""
    if request.param == "blockworld":
        parts = request.getfixturevalue("parts")
        return host.make_model(parts.transformer, parts.vae)
    mine, theirs = request.getfixturevalue("pair")("t2v")
    return mine if request.param == "our wan" else theirs


def random(*shape):
    return torch.randn(shape)


def factors(model, module):
    weight = model.model_state_dict()[f"{PREFIX}{module}.weight"]
    kernel = (1,) * (weight.ndim - 2)
    return random(len(weight), 2, *kernel), random(2, *weight.shape[1:])


def comfyui(module):
    return f"diffusion_model.{module}"


def kohya(module):
    return "lora_unet_" + module.replace(".", "_")


@pytest.fixture(params=[comfyui, kohya])
def tensors(request, model):
    torch.manual_seed(0)
    spell, held = request.param, {}
    for module in MODULES:
        up, down = factors(model, module)
        held |= {f"{spell(module)}.lora_up.weight": up, f"{spell(module)}.lora_down.weight": down}
        held[f"{spell(module)}.alpha"] = torch.tensor(3.0)
    bias = model.model_state_dict()[f"{PREFIX}{MODULES[0]}.bias"]
    norm = model.model_state_dict()[f"{PREFIX}blocks.0.norm3.weight"]
    held[f"{spell(MODULES[0])}.diff_b"] = random(*bias.shape)
    held[f"{spell('blocks.0.norm3')}.diff"] = random(*norm.shape)
    return held


def patched_weights(model):
    with torch.inference_mode():
        model.patch_model()
        weights = {n: w.clone() for n, w in model.model_state_dict(PREFIX).items()}
        model.unpatch_model()
    return weights


def test_the_merge_is_cores(model, tensors, tmp_path):
    path = tmp_path / "style.safetensors"
    save_file(tensors, str(path))
    before, uuid = patched_weights(model), model.patches_uuid
    ours = add_lora(model, path, -0.7)
    theirs, _ = comfy.sd.load_lora_for_models(model, None, dict(tensors), -0.7, 0)
    mine, cores = patched_weights(ours), patched_weights(theirs)
    for name, weight in cores.items():
        assert (mine[name] - weight).abs().max() < 1e-6, name
    changed = {name for name in before if not torch.equal(before[name], mine[name])}
    assert changed == set(ours.patches) == set(theirs.patches) and len(changed) == 6
    assert model.patches_uuid == uuid != ours.patches_uuid and not model.patches
    assert host.fingerprint(ours) != host.fingerprint(model)
    after = patched_weights(model)
    assert all(torch.equal(after[name], before[name]) for name in before)


def lokr(out, into):
    small = {"lokr_w1": random(2, 4), "lokr_w2_a": random(out // 2, 3)}
    return small | {"lokr_w2_b": random(3, into // 4), "alpha": torch.tensor(6.0)}


def loha(out, into):
    sides = {
        f"hada_w{i}_{side}": (out, 3) if side == "a" else (3, into) for i in "12" for side in "ab"
    }
    return {name: random(*shape) for name, shape in sides.items()} | {"alpha": torch.tensor(6.0)}


def dora(out, into):
    held = {"lora_up.weight": random(out, 3), "lora_down.weight": random(3, into)}
    return held | {"dora_scale": random(out, 1).abs(), "alpha": torch.tensor(6.0)}


@pytest.mark.parametrize("kind", [lokr, loha, dora])
def test_what_core_alone_merges_is_cores(model, kind, tmp_path):
    """By names that core knows, and by those of LyCORIS that it does not know for Wan."""
    torch.manual_seed(0)
    named, lycoris, before = {}, {}, patched_weights(model)
    for module in ("blocks.0.self_attn.q", "blocks.1.ffn.2"):
        held = kind(*before[f"{PREFIX}{module}.weight"].shape)
        named |= {f"{PREFIX}{module}.{end}": tensor for end, tensor in held.items()}
        stem = "lycoris_" + module.replace(".", "_")
        lycoris |= {f"{stem}.{end}": tensor.clone() for end, tensor in held.items()}
    theirs, _ = comfy.sd.load_lora_for_models(model, None, dict(named), 0.7, 0)
    cores = patched_weights(theirs)
    for name, tensors in (("named", named), ("lycoris", lycoris)):
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, str(path))
        ours = add_lora(model, path, 0.7)
        mine = patched_weights(ours)
        assert all((mine[name] - cores[name]).abs().max() < 1e-6 for name in cores)
        assert host.fingerprint(ours) != host.fingerprint(model)
    changed = {name for name in before if not torch.equal(before[name], mine[name])}
    assert changed == set(ours.patches) == set(theirs.patches) and len(changed) == 2


def test_diffusers_names_do_the_same(model, tmp_path):
    torch.manual_seed(0)
    plain, renamed = {}, {}
    for module in MODULES:
        for way, factor in zip("BA", factors(model, module), strict=True):
            theirs = in_diffusers(f"{module}.weight").removesuffix(".weight")
            plain[f"{module}.lora_{way}.weight"] = factor
            renamed[f"transformer.{theirs}.lora_{way}.weight"] = factor.clone()
    weights = []
    for name, held in (("plain", plain), ("renamed", renamed)):
        path = tmp_path / f"{name}.safetensors"
        save_file(held, str(path))
        weights.append(patched_weights(add_lora(model, path, 1.0)))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_of_a_file_for_both_halves_one_is_put_on(model, tmp_path):
    module, path = MODULES[0], tmp_path / "both.safetensors"
    weight = model.model_state_dict()[f"{PREFIX}{module}.weight"]
    parts = {half: torch.randn_like(weight) for half in ("transformer", "transformer_2")}
    save_file({f"{half}.{module}.diff": diff for half, diff in parts.items()}, str(path))
    for half, diff in zip(("high", "low"), parts.values(), strict=True):
        made = patched_weights(add_lora(model, path, 1.0, half))[f"{PREFIX}{module}.weight"]
        assert (made - weight - diff).abs().max() < 1e-5
    with pytest.raises(ValueError, match="holds both halves"):
        add_lora(model, path, 1.0)


def test_an_ups_bias_is_scaled_with_its_product(model, tmp_path):
    """Core reads none of Wan's; a bias that says itself how much it adds is the same to it."""
    torch.manual_seed(0)
    up, down = factors(model, MODULES[0])
    bias, stem = torch.randn(len(up)), PREFIX + MODULES[0]
    held = {f"{stem}.lora_B.weight": up, f"{stem}.lora_A.weight": down}
    held[f"{stem}.alpha"] = torch.tensor(6.0)
    path = tmp_path / "peft.safetensors"
    save_file(held | {f"{stem}.lora_B.bias": bias}, str(path))
    theirs = comfy.sd.load_lora_for_models(
        model, None, held | {f"{stem}.diff_b": 3 * bias}, 0.5, 0
    )[0]
    mine, cores = patched_weights(add_lora(model, path, 0.5)), patched_weights(theirs)
    assert all((mine[name] - weight).abs().max() < 1e-6 for name, weight in cores.items())


def test_nothing_of_a_file_for_another_model_is_put_on(model, tmp_path):
    path = tmp_path / "big.safetensors"
    names = "up", "down"
    pair = random(96, 2), random(2, 96)
    module = "blocks.0.self_attn.q"
    save_file({f"{module}.lora_{n}.weight": t for n, t in zip(names, pair, strict=True)}, str(path))
    width = len(model.model_state_dict()[f"{PREFIX}{module}.weight"])
    with pytest.raises(ValueError, match=f"a network 96 wide, the model is {width}"):
        add_lora(model, path, 1.0)
    assert not model.patches
