"""Wan files as our MODEL beside core's own, in the process of a real ComfyUI.

test_wan.py runs this file by ComfyUI's own Python. B batch, C channels, T/H/W latent frames, rows,
columns, S text tokens, D width.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import comfy.context_windows
import comfy.latent_formats
import comfy.model_management
import comfy.patcher_extension
import comfy.sd
import folder_paths
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from comfy_extras.nodes_wan import WanImageToVideo
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

import nodes
from patchdit.models.config import VAE_PRESETS, TransformerConfig
from patchdit.models.families import find_video_model
from patchdit.models.flow import denoise, finish, start
from patchdit.models.solvers import shifted_sigmas
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import host
from patchdit.nodes.host import alone
from patchdit.nodes.host.duck import Statistics
from patchdit.nodes.load_video import LoadVideoModel, LoadVideoVAE

T2V = TransformerConfig(256, 512, 2, 4)
I2V = replace(T2V, in_channels=36, image_width=1280)
CONFIGS = {
    "t2v": T2V,
    "i2v": I2V,
    "flf2v": replace(I2V, image_positions=514),
    "i2v-a14b": replace(T2V, in_channels=36),
    "ti2v": replace(T2V, in_channels=48, out_channels=48, frame_timesteps=True),
    "vace": replace(T2V, vace_blocks=2, vace_channels=96),
}
T, H, W = 3, 4, 6
STEPS, FEW, CFG = 10, 4, 3.0
TOKENS = 32  # of a prompt; core's CLIP gives 512


@pytest.fixture(autouse=True)
def inference():
    """As ComfyUI runs its nodes."""
    with torch.inference_mode():
        yield


def weights_of(config):
    """Random weights, none of them at 0 or 1, under Wan's own names."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = PatchDiT(config).state_dict()
        return {name: w + 0.02 * torch.randn_like(w) for name, w in state.items()}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """One file of each kind, in a folder of ComfyUI's."""
    path = tmp_path_factory.mktemp("diffusion_models")
    folder_paths.add_model_folder_path("diffusion_models", str(path))
    for kind, config in CONFIGS.items():
        save_file(weights_of(config), path / f"{kind}.safetensors")
    return path


def ours(kind, dtype="auto"):
    return LoadVideoModel.execute(f"{kind}.safetensors", dtype).args[0]


def cores(kind, dtype="default"):
    return nodes.UNETLoader().load_unet(f"{kind}.safetensors", dtype)[0]


@pytest.fixture(scope="session")
def pair(folder):
    """Our MODEL of a kind and core's, each loaded once."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = ours(kind), cores(kind)
        return made[kind]

    return of


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prompts_of(kind, tokens=TOKENS):
    """Positive and negative prompt, with all that core's nodes would put beside them."""
    values = {}
    if CONFIGS[kind].in_channels == 36:
        values["concat_latent_image"] = noise(1, 16, T, H, W, seed=1)
        values["concat_mask"] = torch.ones(1, 1, T, H, W).index_fill(2, torch.tensor([0]), 0.0)
    if CONFIGS[kind].image_width:
        features = noise(1, CONFIGS[kind].image_positions or 257, 1280, seed=2)
        values["clip_vision_output"] = SimpleNamespace(penultimate_hidden_states=features)
    if kind == "vace":
        values["vace_frames"] = [noise(1, 32, T, H, W, seed=3 + i) for i in range(2)]
        values["vace_mask"] = [noise(1, 64, T, H, W, seed=5 + i).clamp(0, 1) for i in range(2)]
        values["vace_strength"] = [1.0, 0.4]
    return [[[noise(1, tokens, 4096, seed=seed), dict(values)]] for seed in (10, 11)]


def latent_of(kind, h=H, w=W):
    return torch.zeros(1, CONFIGS[kind].out_channels, T, h, w)


def predicted(model, kind, sigma=0.7, h=H, w=W):
    """The velocity of one step, by core's way from MODEL and prompts to the network."""
    x = noise(*latent_of(kind, h, w).shape, seed=7)
    state = start(torch.zeros_like(x), None, torch.tensor([sigma, 0.0]), 7)
    denoiser = host.as_denoiser(model, *prompts_of(kind), 1.0)
    x0 = denoiser.run(state, lambda denoiser: denoiser(x, torch.tensor([sigma])))
    return (x - x0) / sigma


def straight(model, kind, prompt):
    """The clean latent by the model as it is loaded now, of what core makes of a prompt."""
    x = noise(*latent_of(kind).shape, seed=7)
    given = {"noise": x, "device": x.device, "cross_attn": prompt[0][0], **prompt[0][1]}
    conds = {name: cond.cond for name, cond in model.model.extra_conds(**given).items()}
    return model.model.apply_model(x, torch.tensor([0.7]), **conds)


def sampled(model, kind, steps=STEPS, mask=None, frames=T):
    """What core's KSampler makes."""
    latent = {"samples": noise(1, CONFIGS[kind].out_channels, frames, H, W, seed=8)}
    if mask is not None:
        latent["noise_mask"] = mask
    run = nodes.KSampler().sample
    given = (*prompts_of(kind), latent)
    return run(model, 5, steps, CFG, "euler", "simple", *given, 1.0)[0]["samples"]


def ours_sampled(model, kind, steps=STEPS, tokens=TOKENS):
    """What our own sampler makes."""
    state = start(latent_of(kind), None, shifted_sigmas(steps, 5.0), 7)
    denoiser = host.as_denoiser(model, *prompts_of(kind, tokens), CFG)
    return finish(denoiser.run(state, lambda denoiser: denoise(state, denoiser)))


def apart(a, b):
    assert a.isfinite().all() and a.std() > 1e-3
    return (a - b).abs().max()


@pytest.mark.parametrize("kind", CONFIGS)
def test_velocity_as_cores(pair, kind):
    mine, theirs = (predicted(model, kind) for model in pair(kind))
    assert apart(mine, theirs) < 1e-4


@pytest.mark.parametrize("kind", CONFIGS)
def test_cores_sampler_makes_the_same_of_both(pair, kind):
    mine, theirs = (sampled(model, kind) for model in pair(kind))
    assert apart(mine, theirs) < 1e-3


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


@pytest.mark.parametrize("change", [doubled, with_lora, turned, windowed, cached, shifted])
def test_what_packs_do_to_a_model_does_the_same_to_ours(pair, change):
    mine, theirs = (sampled(change(model), "t2v", FEW) for model in pair("t2v"))
    assert apart(mine, theirs) < 1e-3
    assert apart(mine, sampled(pair("t2v")[0], "t2v", FEW)) > 1e-3


def test_windows_cut_a_control_too(pair):
    mine, theirs = (sampled(windowed(model), "vace", FEW) for model in pair("vace"))
    assert apart(mine, theirs) < 1e-3


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


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_narrowed_as_core_narrows(folder, dtype):
    mine, theirs = ours("t2v", dtype), cores("t2v", dtype)
    states = [model.model_state_dict() for model in (mine, theirs)]
    assert {k: w.dtype for k, w in states[0].items()} == {k: w.dtype for k, w in states[1].items()}
    assert states[0]["diffusion_model.blocks.0.ffn.0.weight"].dtype.itemsize == 1
    assert apart(predicted(mine, "t2v"), predicted(theirs, "t2v")) < 1e-3


class OnlyCasts(TorchFunctionMode):
    """Fails where a weight is computed with as it lies there, not as a cast of it."""

    CASTS = ("to", "empty_like", "copy_", "__get__", "size", "numel", "is_pinned", "detach")

    def __init__(self, network):
        super().__init__()
        self.weights = {id(p): name for name, p in network.named_parameters()}
        self.cast, self.bare = set(), set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat = [*args, *kwargs.values()]
        names = {self.weights[id(a)] for a in flat if id(a) in self.weights}
        known = getattr(func, "__name__", "") in self.CASTS
        (self.cast if known else self.bare).update(names)
        return func(*args, **kwargs)


@pytest.mark.parametrize("kind", ["flf2v", "vace", "ti2v"])
def test_with_next_to_no_memory_every_weight_is_cast_on_use(folder, pair, kind):
    """fp8 weights, so that a cast is a copy; a budget of a few bytes, so that none is loaded."""
    model, prompt = ours(kind, "fp8_e4m3fn"), prompts_of(kind)[0]
    network = model.model.diffusion_model
    for name, module in network.named_children():
        if name.endswith("patch_embedding"):  # which alone is kept in float32
            module.half()
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


@pytest.fixture(scope="session")
def vaes(tmp_path_factory):
    """Our VAE and core's, of one small random file in the layout of Wan 2.1's."""
    folder = tmp_path_factory.mktemp("vae")
    folder_paths.add_model_folder_path("vae", str(folder))
    with torch.random.fork_rng():
        torch.manual_seed(4)
        vae = VideoVAE(replace(VAE_PRESETS["wan2.1"], encoder_width=8, decoder_width=8))
        save_file(vae.state_dict(), folder / "tiny-wan-vae.safetensors")
    theirs = nodes.VAELoader().load_vae("tiny-wan-vae.safetensors")[0]
    return LoadVideoVAE.execute("tiny-wan-vae.safetensors").args[0], theirs


def test_cores_vae_nodes_make_the_same_of_both(vaes):
    frames = torch.rand(9, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    mine, theirs = (nodes.VAEEncode().encode(vae, frames)[0] for vae in vaes)
    assert apart(mine["samples"], theirs["samples"]) < 1e-4
    mine, theirs = (nodes.VAEDecode().decode(vae, theirs)[0] for vae in vaes)
    assert mine.shape == (9, 32, 48, 3) and apart(mine, theirs) < 1e-4


def test_cores_image_to_video_takes_our_vae(vaes):
    image = torch.rand(1, 32, 48, 3, generator=torch.Generator().manual_seed(2))
    made = [
        WanImageToVideo.execute(*prompts_of("t2v"), vae, 48, 32, 9, 1, start_image=image).args
        for vae in vaes
    ]
    mine, theirs = (positive[0][1] for positive, _, _ in made)
    assert torch.equal(mine["concat_mask"], theirs["concat_mask"])
    assert apart(mine["concat_latent_image"], theirs["concat_latent_image"]) < 1e-4


@pytest.mark.parametrize("channels", [16, 48])
def test_latent_statistics_are_cores(channels):
    known = comfy.latent_formats.Wan21() if channels == 16 else comfy.latent_formats.Wan22()
    latent, ours = noise(1, channels, 2, 3, 3), Statistics.of_channels(channels)
    assert apart(ours.normalise(latent), known.process_in(latent)) < 1e-5
    assert apart(ours.denormalise(latent), known.process_out(latent)) < 1e-5


def test_latents_of_another_vae_are_refused(pair):
    with pytest.raises(ValueError, match=r"48 channels.*has 16: both must belong"):
        host.prepare_latent(pair("t2v")[0], {"samples": torch.ones(1, 48, T, H, W)})
