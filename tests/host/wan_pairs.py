"""Small Wan files of every kind, each as our MODEL and as core's: what inside_wan*.py compare.

In the process of a real ComfyUI only. B batch, C channels, T/H/W latent frames, rows, columns.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import folder_paths
import pytest
import torch
from safetensors.torch import save_file

import nodes
from patchdit.models.config import TransformerConfig
from patchdit.models.flow import denoise, finish, start
from patchdit.models.solvers import shifted_sigmas
from patchdit.models.transformer import PatchDiT
from patchdit.nodes import host
from patchdit.nodes.load_video import LoadVideoModel

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
