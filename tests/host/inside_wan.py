"""Wan files as our MODEL beside core's own, in the process of a real ComfyUI.

test_wan.py runs this file by ComfyUI's own Python. B batch, C channels, T/H/W latent frames, rows,
columns, L tokens, N heads.
"""

from __future__ import annotations

import comfy.context_windows
import comfy.model_management
import comfy.patcher_extension
import comfy.sd
import comfy_extras.nodes_custom_sampler as custom
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from safetensors.torch import save_file

from patchdit.models.families import find_video_model
from patchdit.models.flow import denoise, finish, start
from patchdit.models.solvers import shifted_sigmas
from patchdit.nodes.host import alone
from patchdit.nodes.load_video import LoadVideoModel

from .wan_pairs import (
    CFG,
    CONFIGS,
    FEW,
    STEPS,
    T2V,
    H,
    T,
    W,
    apart,
    folder,
    inference,
    latent_of,
    noise,
    ours_sampled,
    pair,
    predicted,
    prompts_of,
    sampled,
    straight,
    weights_of,
)

__all__ = ["folder", "inference", "pair"]  # fixtures


@pytest.mark.parametrize("kind", CONFIGS)
def test_velocity_as_cores(pair, kind):
    mine, theirs = (predicted(model, kind) for model in pair(kind))
    assert apart(mine, theirs) < 1e-4


@pytest.mark.parametrize("kind", CONFIGS)
def test_cores_sampler_makes_the_same_of_both(pair, kind):
    mine, theirs = (sampled(model, kind) for model in pair(kind))
    assert apart(mine, theirs) < 1e-3


@pytest.mark.parametrize("kind", ["t2v", "i2v", "vace", "ti2v"])
def test_cores_sampler_in_parts_makes_the_same_of_both(pair, kind):
    """SamplerCustomAdvanced and the nodes that feed it; another sampler than KSampler above."""
    made = []
    for model in pair(kind):
        guider = custom.CFGGuider.execute(model, *prompts_of(kind), CFG)[0]
        sigmas = custom.BasicScheduler.execute(model, "simple", STEPS, 1.0)[0]
        sampler = custom.KSamplerSelect.execute("dpmpp_2m")[0]
        given = guider, sampler, sigmas, {"samples": latent_of(kind)}
        random = custom.RandomNoise.execute(5)[0]
        made.append(custom.SamplerCustomAdvanced.execute(random, *given)[0]["samples"])
    assert apart(*made) < 1e-3


@pytest.mark.parametrize("kind", CONFIGS)
def test_our_sampler_makes_the_same_of_both(pair, kind):
    mine, theirs = (ours_sampled(model, kind) for model in pair(kind))
    assert apart(mine, theirs) < 1e-3


@pytest.mark.parametrize("kind", CONFIGS)
def test_without_comfyui_the_same(pair, folder, kind):
    file = find_video_model(folder / f"{kind}.safetensors")
    state = start(latent_of(kind), None, shifted_sigmas(2, 5.0), 7)
    denoiser = alone.as_denoiser(alone.load_video(file), *prompts_of(kind, 512), CFG)
    outside = finish(denoiser.run(state, lambda denoiser: denoise(state, denoiser)))
    assert apart(ours_sampled(pair(kind)[0], kind, 2, 512), outside) < 1e-3


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("i2v", "clip_vision_output"),
        ("i2v", "concat_latent_image"),
        ("vace", "vace_frames"),
        ("vace", "vace_strength"),
    ],
)
def test_what_a_prompt_says_beside_its_text_counts(pair, kind, key):
    """Else the comparisons above would hold for a loader that drops it."""
    model, prompt = pair(kind)[0], prompts_of(kind)[0]
    whole = straight(model, kind, prompt)
    del prompt[0][1][key]
    assert apart(whole, straight(model, kind, prompt)) > 1e-3


@pytest.mark.parametrize("kind", ["t2v", "ti2v"])
def test_odd_sizes_as_core_pads_them(pair, kind):
    mine, theirs = (predicted(model, kind, h=5, w=7) for model in pair(kind))
    assert mine.shape[-2:] == (5, 7) and apart(mine, theirs) < 1e-4


def test_a_known_first_frame_as_core_holds_it(pair):
    mask = torch.ones(1, 1, T, H, W).index_fill(2, torch.tensor([0]), 0.0)
    mine, theirs = (sampled(model, "ti2v", FEW, mask) for model in pair("ti2v"))
    assert apart(mine, theirs) < 1e-3
    assert apart(mine, sampled(pair("ti2v")[0], "ti2v", FEW)) > 1e-2


def test_info_and_noise_half(folder):
    weights = weights_of(T2V)
    save_file(weights, folder / "wan2.2_t2v_high_noise_14B.safetensors")
    model, info = LoadVideoModel.execute("wan2.2_t2v_high_noise_14B.safetensors").args
    assert model.model.noise_half == "high" and "low-noise half" in info
    assert "Wan 2.2 T2V" in info


def doubled(model):
    """With a patch on block 1 that doubles what the block adds."""

    def patch(args, extra):
        assert args["transformer_options"]["block_index"] == 1
        out = extra["original_block"](args)["img"]
        return {"img": 2 * out - args["img"]}

    patched = model.clone()
    patched.set_model_patch_replace(patch, "dit", "double_block", 1)
    return patched


def with_lora(model):
    down, up = noise(4, 256, seed=20), noise(256, 4, seed=21)
    lora = {
        "diffusion_model.blocks.1.self_attn.q.lora_A.weight": down,
        "diffusion_model.blocks.1.self_attn.q.lora_B.weight": up,
        "diffusion_model.blocks.0.cross_attn.k.lora_down.weight": down,
        "diffusion_model.blocks.0.cross_attn.k.lora_up.weight": up,
        "diffusion_model.blocks.0.cross_attn.k.alpha": torch.tensor(2.0),
        "diffusion_model.head.head.diff_b": noise(64, seed=22),
    }
    patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 0.7, 0.0)
    assert len(patched.patches) == 3
    return patched


def turned(model):
    patched = model.clone()
    patched.set_model_rope_options(1.5, 0.5, 1.0, 2.0, 0.5, 1.0)
    return patched


def windowed(model):
    """Windows of two latent frames over three."""
    windows = comfy.context_windows
    patched = model.clone()
    patched.model_options["context_handler"] = windows.IndexListContextHandler(
        windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        windows.get_matching_fuse_method(windows.ContextFuseMethods.PYRAMID),
        context_length=2,
        context_overlap=1,
        dim=2,
        causal_window_fix=False,
    )
    return patched


def cached(model):
    return EasyCacheNode.execute(model, 3.0, 0.0, 1.0, False).args[0]


def shifted(model):
    return ModelSamplingSD3().patch(model, 3.0)[0]


def attended(model):
    """With patches on both attentions that use all they are given."""

    def among_tokens(args):
        assert args["q"].shape == args["k"].shape == (*args["x"].shape[:2], 2, 128)
        turned = args["q"] - 0.5 * args["k"]
        return 0.8 * args["x"] + 0.05 * turned.flatten(2)

    def after_text(args):
        return args["x"] * (1 + 0.1 * args["transformer_options"]["block_index"])

    patched = model.clone()
    patched.set_model_attn1_patch(among_tokens)
    patched.set_model_attn2_patch(after_text)
    return patched


CHANGES = [doubled, with_lora, turned, windowed, cached, shifted, attended]


@pytest.mark.parametrize("change", CHANGES)
def test_what_packs_do_to_a_model_does_the_same_to_ours(pair, change):
    mine, theirs = (sampled(change(model), "t2v", FEW) for model in pair("t2v"))
    assert apart(mine, theirs) < 1e-3
    assert apart(mine, sampled(pair("t2v")[0], "t2v", FEW)) > 1e-3


def test_windows_cut_a_control_too(pair):
    mine, theirs = (sampled(windowed(model), "vace", FEW) for model in pair("vace"))
    assert apart(mine, theirs) < 1e-3


@pytest.mark.parametrize("kind", ["vace", "flf2v", "ti2v"])
def test_attention_patches_reach_every_block(pair, kind):
    """Those of a control too, and where a block also sees an image."""
    mine, theirs = (predicted(attended(model), kind) for model in pair(kind))
    assert apart(mine, theirs) < 1e-4
    assert apart(mine, predicted(pair(kind)[0], kind)) > 1e-3


def test_a_patched_block_gets_its_hint(pair):
    mine, theirs = (sampled(doubled(model), "vace", FEW) for model in pair("vace"))
    assert apart(mine, theirs) < 1e-3


def test_attention_overrides_are_called(pair):
    calls = []

    def override(original, *args, **kwargs):
        calls.append(kwargs["transformer_options"]["block_index"])
        return original(*args, **kwargs)

    patched = pair("t2v")[0].clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = override
    assert apart(predicted(patched, "t2v"), predicted(pair("t2v")[0], "t2v")) < 1e-4
    assert calls == [0, 0, 1, 1, 2, 2, 3, 3]  # self and cross


def test_compiled(pair):
    """By core's own wrapper, on the eager backend: the graph is captured, the digits stay."""
    model = pair("t2v")[0].clone()
    set_torch_compile_wrapper(model, backend="eager")
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    mine, plain = (sampled(each, "t2v", 2) for each in (model, pair("t2v")[0]))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    assert apart(mine, plain) < 1e-4


def test_interrupted_between_steps(pair):
    model = pair("t2v")[0]
    calls = []

    def count(executor, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            comfy.model_management.interrupt_current_processing()
        return executor(*args, **kwargs)

    watched = model.clone()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    watched.add_wrapper_with_key(kind, "count", count)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sampled(watched, "t2v")
    assert len(calls) < 2 * STEPS
