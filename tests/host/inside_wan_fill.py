"""Wan files by our loader in the verbs, and two halves of a pair, inside a real ComfyUI.

test_fill.py runs this file by ComfyUI's own Python. Weights are random and few.
"""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch
from safetensors.torch import save_file

from patchdit.models.config import VAE_PRESETS, TransformerConfig
from patchdit.models.families import find_video_model
from patchdit.models.solvers import shifted_sigmas
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import host
from patchdit.nodes.denoise import FinishDenoising
from patchdit.nodes.empty_latent import EmptyVideoLatent
from patchdit.nodes.extend import ExtendVideo, PrepareExtend
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.stitch import StitchVideos
from patchdit.nodes.tell_known import TellKnown

from .inside import inference
from .inside_fill import (
    FRAMES,
    STEPS,
    Case,
    Seen,
    case_of,
    clip,
    encoded,
    fills,
    mask_of,
    test_extending_both_ways,
    test_remixing_a_region,
    test_steps_one_by_one_from_a_pinned_image,
    test_stitching,
)
from .inside_verbs import execute

__all__ = [  # fixtures, and tests that run here on other models
    "fills",
    "inference",
    "test_extending_both_ways",
    "test_remixing_a_region",
    "test_steps_one_by_one_from_a_pinned_image",
    "test_stitching",
]

T2V = TransformerConfig(128, 64, 1, 1)
I2V = replace(T2V, in_channels=36)
KINDS = {  # config, way of filling
    "t2v": (T2V, "replace"),
    "i2v": (replace(I2V, image_width=1280), "native"),
    "vace": (replace(T2V, vace_blocks=1, vace_channels=96), "native"),
    "ti2v": (replace(T2V, in_channels=48, out_channels=48, frame_timesteps=True), "frames"),
}
BOUNDARY = 0.9  # between the two steps of the verbs here


def load(path, config, seed=2):
    """Our MODEL of a file with random weights."""
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(seed)
        state = PatchDiT(config).state_dict()
        save_file({name: torch.randn_like(weight) / 20 for name, weight in state.items()}, path)
    return host.load_video(find_video_model(path))


@pytest.fixture(params=KINDS)
def case(request, fills, tmp_path):
    config, fill = KINDS[request.param]
    model = load(tmp_path / "wan.safetensors", config)
    return Case(model, fill, config.out_channels, fills, config.text_width)


@pytest.mark.parametrize(("kind", "version"), [("t2v", "wan2.1"), ("ti2v", "wan2.2")])
def test_an_empty_latent_of_its_vae_is_one_of_the_model(tmp_path, kind, version):
    """Core scales empty latents of another size to the model's: here it has nothing to do."""
    config = replace(VAE_PRESETS[version], encoder_width=8, decoder_width=8)
    vae, model = host.make_vae(VideoVAE(config)), load(tmp_path / "wan.safetensors", KINDS[kind][0])
    size = {"aspect": "width x height", "width": 96, "height": 64}
    length = {"length_in": "frames", "frames": 5}
    latent, *_ = execute(EmptyVideoLatent, **size, **length, vae=vae)
    form = model.model.latent_format
    assert latent["downscale_ratio_spacial"] == form.spacial_downscale_ratio
    assert host.prepare_latent(model, latent).shape == latent["samples"].shape
    assert latent["samples"].shape[1] == form.latent_channels


def test_cores_sampler_between_prepare_and_finish(case, fills):
    """Told what is known, a native MODEL makes by core's euler what it makes by ours."""
    latent, plan = case.verb(PrepareExtend, video=clip(1), direction="forwards", seconds=0.5)
    *told, rest = TellKnown.execute(case.model, case.vae, *case.prompts, latent).args
    noise = comfy.sample.prepare_noise(rest["samples"], 1)
    made = comfy.sample.sample_custom(
        case.model, noise, 2.0, comfy.samplers.sampler_object("euler"), shifted_sigmas(STEPS, 3.0),
        *told, rest["samples"], noise_mask=rest.get("noise_mask"), seed=1,
    )  # fmt: skip
    whole, video, *_ = FinishVideo.execute({"samples": made}, plan).args
    assert torch.equal(video.get_components().images[:FRAMES], clip(1))
    assert ("noise_mask" in rest) == (case.fill != "native")
    if case.fill == "native":
        ours = FinishDenoising.execute(case.run(latent, seed=1)).args[0]
        assert (whole["samples"] - ours["samples"]).abs().max() < 1e-4


class Halves:
    """Two MODELs that share a run; which of them was loaded and at what level, at each step."""

    def __init__(self, folder, device):
        self.models, self.steps = {}, []
        for seed, half in enumerate(("high", "low")):
            path = folder / f"wan2.2_i2v_{half}_noise_14B.safetensors"
            self.models[half] = load(path, I2V, seed)
            self.models[half].load_device = device
            network = self.models[half].model.diffusion_model
            network.register_forward_pre_hook(
                lambda _, args, half=half: self.steps.append(
                    (half, args[1].max() / 1000, self.loaded)
                )
            )

    @property
    def loaded(self) -> list[str]:
        patchers = [loaded.model for loaded in comfy.model_management.current_loaded_models]
        inner = [patcher.model for patcher in patchers if patcher is not None]
        return [half for half, m in self.models.items() if any(m.model is one for one in inner)]


@pytest.fixture
def halves(tmp_path, monkeypatch):
    """On a device without a byte to spare: the CPU, by a name that core frees before it loads."""
    free = {False: 0, True: (0, 0)}
    monkeypatch.setattr(
        comfy.model_management,
        "get_free_memory",
        lambda dev=None, torch_free_too=False: free[torch_free_too],
    )
    return Halves(tmp_path, torch.device("cpu:0"))


@pytest.mark.parametrize("verb", ["extend", "bridge", "transform"])
def test_only_the_half_that_computes_is_loaded(halves, fills, verb):
    high, low = halves.models["high"], halves.models["low"]
    case = Case(high, "native", 16, fills, I2V.text_width)
    pair = {"model_low": low, "boundary": BOUNDARY, "seconds": 0.5}
    if verb == "extend":
        (latent,), *_ = case.verb(ExtendVideo, video=clip(1), **pair)
    else:
        latent, *_ = case.verb(StitchVideos, video_a=clip(1), video_b=clip(2), mode=verb, **pair)
    assert latent["samples"].isfinite().all() and set(fills) == {"native"}
    assert {half for half, *_ in halves.steps} == {"high", "low"}
    for half, level, loaded in halves.steps:
        assert loaded == [half] and (half == "high") == (level >= BOUNDARY)


def test_a_half_without_the_other_is_refused(halves, fills):
    case = Case(halves.models["high"], "native", 16, fills, I2V.text_width)
    with pytest.raises(ValueError, match="connect its low-noise half to model_low"):
        case.verb(ExtendVideo, video=clip(1), seconds=0.5)
    assert not halves.steps


def test_two_models_share_a_run_and_give_no_way_of_their_own(fills):
    high, low = case_of("wan i2v", fills), case_of("wan i2v", fills)
    latent = {"samples": encoded(high, clip(1)), "noise_mask": mask_of(0)}
    whole = FinishDenoising.execute(high.run(latent, 4)).args[0]["samples"]
    run = replace(high.run(latent, 4), model_low=low.model, boundary=0.8)
    with Seen(high.model) as above, Seen(low.model) as below:
        shared = FinishDenoising.execute(run).args[0]["samples"]
    assert torch.equal(shared, whole)
    assert len(above.timesteps) == len(below.timesteps) == 4
    assert min(above.timesteps) >= 800 > max(below.timesteps)
