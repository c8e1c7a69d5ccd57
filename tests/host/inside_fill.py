"""Core's own Wan, HunyuanVideo and LTXV MODELs in our verbs, inside a real ComfyUI.

test_fill.py runs this file by ComfyUI's own Python. Weights are random and few. B batch, C
channels, T/H/W latent frames, rows, columns; frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

from dataclasses import replace

import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from comfy_extras.nodes_wan import WanImageToVideo, WanVaceToVideo

from patchdit.models.solvers import shifted_sigmas
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import host, sampling
from patchdit.nodes.denoise import DenoiseStep, FinishDenoising, StartDenoising
from patchdit.nodes.empty_latent import EmptyVideoLatent
from patchdit.nodes.extend import ExtendVideo
from patchdit.nodes.host.native import CONCAT, VACE, with_known
from patchdit.nodes.pin import PinFrames
from patchdit.nodes.remix import RemixVideo
from patchdit.nodes.stitch import StitchVideos

from ..nodes.conftest import VAE
from .inside import inference
from .inside_verbs import execute

__all__ = ["inference"]  # a fixture

WIDTH = 32  # of text features
STEPS = 2
FRAMES = 9
WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 128, "ffn_dim": 64, "num_heads": 1,
    "num_layers": 1, "text_dim": WIDTH, "in_dim": 16, "out_dim": 16, "freq_dim": 32,
    "patch_size": (1, 2, 2), "eps": 1e-6,
}  # fmt: skip
HUNYUAN = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "vec_in_dim": None,
    "context_in_dim": WIDTH, "hidden_size": 128, "mlp_ratio": 1.0, "num_heads": 1, "depth": 1,
    "depth_single_blocks": 1, "axes_dim": [16, 56, 56], "theta": 256, "patch_size": [1, 2, 2],
    "qkv_bias": True, "guidance_embed": False, "byt5": False, "meanflow": False,
    "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
LTXV = {
    "image_model": "ltxv", "in_channels": 128, "num_layers": 1, "attention_head_dim": 8,
    "num_attention_heads": 4, "cross_attention_dim": 32, "caption_channels": WIDTH,
}  # fmt: skip
VACE_CONFIG = {"model_type": "vace", "vace_layers": 1, "vace_in_dim": 96}
TI2V = {"in_dim": 48, "out_dim": 48}
FAMILIES = {  # core's settings, network, way of filling, latent channels
    "wan t2v": ("WAN21_T2V", WAN, "replace", 16),
    "wan i2v": ("WAN21_T2V", WAN | {"in_dim": 36}, "native", 16),
    "wan vace": ("WAN21_Vace", WAN | VACE_CONFIG, "native", 16),
    "wan ti2v": ("WAN22_T2V", WAN | TI2V, "frames", 48),
    "hunyuan t2v": ("HunyuanVideo", HUNYUAN, "replace", 16),
    "hunyuan i2v": ("HunyuanVideoI2V", HUNYUAN | {"in_channels": 33}, "native", 16),
    "ltxv": ("LTXV", LTXV, "frames", 128),
}


def make(family: str, network: dict | None = None):
    """A MODEL of core's own class with random weights, its network as the family's if not given."""
    name, usual, *_ = FAMILIES[family]
    settings = getattr(comfy.supported_models, name)(dict(network or usual))
    settings.set_inference_dtype(torch.float32, None)
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(2)
        inner = settings.get_model({}, "")
        for weight in inner.diffusion_model.parameters():
            weight.requires_grad_(False).normal_(0, 0.05)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(inner, load_device=cpu, offload_device=cpu)


class Case:
    """A MODEL, a VAE of its channels and prompts; and the fills of its runs.

    `region` is the way of filling where part of a frame is known, if it is another.
    """

    def __init__(self, model, fill: str, channels: int, fills: list[str], width=WIDTH, region=""):
        self.model, self.fill, self.channels, self.fills = model, fill, channels, fills
        self.region = region or fill
        mean, std = (0.0,) * channels, (1.0,) * channels
        config = replace(VAE, latent_channels=channels, latent_mean=mean, latent_std=std)
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.vae = host.make_vae(VideoVAE(config).eval())
            said = {"pooled_output": None}
            if channels == 128:  # LTXV, whose text encoder always says so
                said["attention_mask"] = torch.ones(1, 8)
            self.prompts = [[[torch.randn(1, 8, width), dict(said)]] for _ in "+-"]

    def verb(self, node, **given) -> tuple:
        positive, negative = self.prompts
        common = {"model": self.model, "vae": self.vae, "positive": positive, "negative": negative}
        settings = {"steps": STEPS, "cfg": 2.0, "fps": 8.0, "generate_fps": 8.0, "window": 17}
        wanted = {socket.id for socket in node.GET_SCHEMA().inputs}
        ours = {k: v for k, v in (common | settings).items() if k in wanted}
        return execute(node, **ours, **given)

    def run(self, latent, steps=STEPS, seed=0):
        sigmas = shifted_sigmas(steps, 3.0)
        given = {"model": self.model, "vae": self.vae, "latent": latent, "sigmas": sigmas}
        positive, negative = self.prompts
        start = execute(
            StartDenoising, positive=positive, negative=negative, cfg=2.0, seed=seed, **given
        )
        return start[0]


def case_of(family: str, fills: list[str]) -> Case:
    """One of core's own; its WAN22 averages over a frame, so a region is held the other way."""
    *_, fill, channels = FAMILIES[family]
    region = "replace" if family == "wan ti2v" else ""
    return Case(make(family), fill, channels, fills, region=region)


@pytest.fixture
def fills(monkeypatch):
    """The way of filling of every run that is begun."""
    begun, start = [], sampling.start
    monkeypatch.setattr(
        sampling, "start", lambda *a, **k: begun.append(k["fill"]) or start(*a, **k)
    )
    return begun


@pytest.fixture(params=FAMILIES)
def case(request, fills):
    return case_of(request.param, fills)


def clip(seed: int) -> torch.Tensor:
    return torch.rand(FRAMES, 32, 32, 3, generator=torch.Generator().manual_seed(seed))


def encoded(case, frames_FHWC):
    return host.encode_frames(case.vae, frames_FHWC, lambda done: None)


def test_steps_one_by_one_from_a_pinned_image(case):
    size = {"aspect": "width x height", "width": 32, "height": 32}
    length = {"length_in": "frames", "frames": FRAMES}
    canvas, *_ = execute(EmptyVideoLatent, **size, **length, vae=case.vae)
    assert canvas["samples"].shape == (1, case.channels, 3, 4, 4)
    latent, *_ = execute(PinFrames, latent=canvas, vae=case.vae, images=clip(1)[:1])
    run = case.run(latent)
    assert case.fills == [case.fill]
    with Seen(case.model) as seen:
        (whole,) = FinishDenoising.execute(run).args
    check_levels(case, seen.timesteps)
    assert whole["samples"].isfinite().all()
    assert (whole["samples"] - latent["samples"])[:, :, 0].abs().max() < 1e-5
    assert (whole["samples"] - latent["samples"])[:, :, 1:].abs().max() > 0.1
    for _ in range(STEPS):
        run = DenoiseStep.execute(run, 1).args[0]
    assert torch.equal(FinishDenoising.execute(run).args[0]["samples"], whole["samples"])


class Seen:
    """The timesteps that the network is given."""

    def __init__(self, model):
        self.timesteps = []
        self.network = model.model.diffusion_model

    def __enter__(self):
        self.hook = self.network.register_forward_pre_hook(
            lambda _, args: self.timesteps.append(args[1].clone())
        )
        return self

    def __exit__(self, *_):
        self.hook.remove()


def check_levels(case, timesteps):
    """One level for all; or none at the 3 frames' first and the step's at the others."""
    assert len(timesteps) == 2 * STEPS
    for timestep in timesteps:
        by_frame = timestep.flatten(1) if timestep.ndim > 1 else timestep[:, None]
        if case.fill != "frames":
            assert by_frame.shape == (1, 1)
            continue
        cells = by_frame.shape[1] // 3
        assert not by_frame[:, :cells].any()
        assert (by_frame[:, cells:] == by_frame.max()).all() and by_frame.max() > 0


def test_extending_both_ways(case):
    for way in ("forwards", "backwards"):
        (latent,), (video,), *_ = case.verb(ExtendVideo, video=clip(1), seconds=0.5, direction=way)
        frames, samples = video.get_components().images, latent["samples"]
        own = frames[:FRAMES] if way == "forwards" else frames[-FRAMES:]
        assert torch.equal(own, clip(1)) and samples.isfinite().all()
        if way == "forwards":
            assert torch.equal(samples[:, :, :3], encoded(case, clip(1)))
    assert set(case.fills) == {case.fill}


@pytest.mark.parametrize("mode", ["bridge", "transform"])
def test_stitching(case, mode):
    latent, video, *_ = case.verb(
        StitchVideos, video_a=clip(1), video_b=clip(2), seconds=0.5, mode=mode
    )
    frames = video.get_components().images
    assert latent["samples"].isfinite().all() and set(case.fills) == {case.fill}
    assert torch.equal(frames[0], clip(1)[0]) and torch.equal(frames[-1], clip(2)[-1])
    if mode == "bridge":
        assert torch.equal(latent["samples"][:, :, :3], encoded(case, clip(1)))


@pytest.mark.parametrize("method", ["noise", "flow edit"])
def test_remixing_a_region(case, method):
    mask = torch.zeros(1, 32, 32)
    mask[..., 16:] = 1
    with Seen(case.model) as seen:
        latent, video, *_ = case.verb(
            RemixVideo, video=clip(1), mask=mask, method=method, source=case.prompts[1]
        )
    assert set(case.fills) == {case.region}
    assert all(t.ndim == 1 for t in seen.timesteps) == (case.region != "frames")
    samples, frames = latent["samples"], video.get_components().images
    assert samples.isfinite().all()
    assert torch.equal(samples[..., :2], encoded(case, clip(1))[..., :2])
    assert torch.equal(frames[:, :, :16], clip(1)[:, :, :16])


def mask_of(*known):
    mask = torch.ones(1, 1, 3, 4, 4)
    mask[:, :, list(known)] = 0
    return mask


def decoded(case, latent):
    return torch.cat([*host.decode_frames(case.vae, latent)])


CANVAS = {"width": 32, "height": 32, "length": FRAMES, "batch_size": 1}


def test_an_image_is_told_as_cores_node_tells_it(fills):
    case = case_of("wan i2v", fills)
    latent, mask = encoded(case, clip(1)), mask_of(0)
    ours, _ = with_known(case.model, case.vae, latent, mask, *case.prompts)
    image = decoded(case, latent[:, :, :1])
    theirs = WanImageToVideo.execute(*case.prompts, case.vae, **CANVAS, start_image=image).args[0]
    (_, said), (_, core) = ours[0], theirs[0]
    assert torch.equal(said[CONCAT[0]][:, :, 1:], core[CONCAT[0]][:, :, 1:])
    assert torch.equal(said[CONCAT[0]][:, :, :1], latent[:, :, :1])
    assert torch.equal(said[CONCAT[1]], core[CONCAT[1]].expand(-1, 4, -1, -1, -1))
    noise = torch.zeros_like(latent)
    channels = [
        case.model.model.concat_cond(noise=noise, device="cpu", **values)[:, :, 1:]
        for values in (said, core)
    ]
    assert channels[0].shape == (1, 20, 2, 4, 4) and torch.equal(*channels)


def test_control_is_told_as_cores_node_tells_it(fills):
    case = case_of("wan vace", fills)
    latent, mask = encoded(case, clip(1)), mask_of(0, 1)
    ours, _ = with_known(case.model, case.vae, latent, mask, *case.prompts)
    pixels = torch.ones(FRAMES, 32, 32)
    pixels[:5] = 0
    given = {"control_video": decoded(case, latent[:, :, :2]), "control_masks": pixels}
    theirs = WanVaceToVideo.execute(*case.prompts, case.vae, **CANVAS, strength=1.0, **given)
    (_, said), (_, core) = ours[0], theirs.args[0][0]
    assert torch.equal(said[VACE[1]][0], core[VACE[1]][0]) and said[VACE[2]] == core[VACE[2]]
    mine, other = said[VACE[0]][0], core[VACE[0]][0]
    assert torch.equal(mine[:, :16, :2], latent[:, :, :2])
    assert (mine[:, :16, 2:] - other[:, :16, 2:]).abs().max() < 1e-5
    assert (mine[:, 16:] - other[:, 16:]).abs().max() < 1e-5


def test_cores_own_entries_are_left_alone(fills):
    case = case_of("wan i2v", fills)
    *prompts, _ = WanImageToVideo.execute(
        *case.prompts, case.vae, **CANVAS, start_image=clip(1)[:1]
    ).args
    latent = {"samples": encoded(case, clip(2)), "noise_mask": mask_of(0)}
    run = execute(
        StartDenoising,
        model=case.model,
        positive=prompts[0],
        negative=prompts[1],
        latent=latent,
        sigmas=shifted_sigmas(STEPS, 3.0),
    )[0]
    assert run.positive == prompts[0] and run.state.fill == "native"
