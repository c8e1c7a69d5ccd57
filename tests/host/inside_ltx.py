"""Core's own LTX VAE and MODEL, small and random, in our verbs, inside a real ComfyUI.

test_ltx.py runs this file by ComfyUI's own Python. A latent frame is eight pixel frames, a cell 32
pixels wide and high. B batch, C channels, T/H/W latent frames, rows, columns; frames_FHWC are RGB
in 0..1.
"""

from __future__ import annotations

import json

import comfy.sd
import pytest
import torch
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

import nodes as core
from patchdit.nodes import host
from patchdit.nodes.decode import DecodeVideo
from patchdit.nodes.denoise import FinishDenoising, StartDenoising
from patchdit.nodes.empty_latent import EmptyVideoLatent
from patchdit.nodes.encode import EncodeVideo
from patchdit.nodes.extend import ExtendVideo, PrepareExtend
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.footage import encode_clip, encode_ending, grid_of
from patchdit.nodes.host.duck import temporal_stride
from patchdit.nodes.host.facts import facts_of, stride_of
from patchdit.nodes.loop import LoopVideo
from patchdit.nodes.pin import PinFrames
from patchdit.nodes.remix import RemixVideo
from patchdit.nodes.stitch import StitchVideos

from .inside import inference
from .inside_fill import WIDTH as TEXT_WIDTH
from .inside_fill import make
from .inside_verbs import execute

__all__ = ["inference"]  # a fixture

CHANNELS, ROWS, COLUMNS = 128, 2, 3  # odd: no multiple of two cells
HEIGHT, WIDTH = 32 * ROWS, 32 * COLUMNS
WAYS = "forwards", "backwards"
VAE = {  # as the released ones, whose decoder adds noise, with few layers
    "dims": 3, "latent_channels": CHANNELS, "patch_size": 4, "norm_layer": "pixel_norm",
    "latent_log_var": "uniform", "causal_decoder": False, "timestep_conditioning": True,
    "encoder_base_channels": 8, "decoder_base_channels": 8,
    "encoder_blocks": [["res_x", 1], *[["compress_all", 1]] * 3, ["res_x", 1]],
    "decoder_blocks": [
        ["res_x", {"num_layers": 1, "inject_noise": True}],
        *[["compress_all", {"residual": True, "multiplier": 2}]] * 3,
        ["res_x", {"num_layers": 1, "inject_noise": True}],
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def case():
    """The inputs that verbs share; windows are 33 frames, five latents."""
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(6)
        weights = VideoVAE(config=VAE).state_dict()
        for name, weight in weights.items():
            weight.normal_(0, 0.1)
            if name.endswith("std-of-means"):
                weight.fill_(1)
        said = {"pooled_output": None, "attention_mask": torch.ones(1, 8, dtype=torch.long)}
        prompts = [[[torch.randn(1, 8, TEXT_WIDTH), dict(said)]] for _ in "+-"]
    told = {"config": json.dumps({"vae": VAE})}
    return {
        "model": make("ltxv"), "vae": comfy.sd.VAE(weights, dtype=torch.float32, metadata=told),
        "positive": prompts[0], "negative": prompts[1], "steps": 2, "cfg": 2.0, "fps": 8.0,
        "generate_fps": 8.0, "window": 33,
    }  # fmt: skip


def run(node, case, **given) -> tuple:
    """A node's outputs; lists of one opened."""
    ours = {socket.id for socket in node.GET_SCHEMA().inputs} & case.keys()
    outputs = execute(node, **{**{name: case[name] for name in ours}, **given})
    return tuple(out[0] if isinstance(out, list) else out for out in outputs)


def clip(frames: int, seed: int = 0, height: int = HEIGHT) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, height, WIDTH, 3, generator=generator)


def shown(video) -> torch.Tensor:
    return video.get_components().images


def decoded(case, samples_BCTHW):
    return torch.cat([*host.decode_frames(case["vae"], samples_BCTHW)])


def test_what_core_says_of_ltx(case):
    assert isinstance(case["vae"].first_stage_model, VideoVAE)
    assert temporal_stride(case["vae"]) == stride_of(case["model"]) == 8
    assert host.spatial_stride(case["vae"]) == grid_of(case["vae"]) == 32
    assert host.latent_channels(case["vae"]) == CHANNELS
    assert (facts_of(case["model"]).frames - 1) % 8 == 0


def test_a_latent_is_eight_frames_and_sees_none_after_them(case):
    own = clip(25)
    whole = encode_clip(case["vae"], own)
    assert whole.shape == (1, CHANNELS, 4, ROWS, COLUMNS) and whole.std() > 0.01
    assert (encode_clip(case["vae"], own[:17]) - whole[:, :, :3]).abs().max() < 1e-4
    for frame, latent in ((0, 0), (1, 1), (8, 1), (9, 2), (16, 2), (17, 3), (24, 3)):
        other = own.clone()
        other[frame] = 1 - other[frame]
        change_T = (encode_clip(case["vae"], other) - whole).abs().amax((0, 1, 3, 4))
        assert int((change_T > 1e-4).nonzero()[0]) == latent


def test_the_same_latent_gives_the_same_frames(case):
    """Core's decoder does not: it adds noise."""
    latent = encode_clip(case["vae"], clip(17))
    assert not torch.equal(case["vae"].decode(latent), case["vae"].decode(latent))
    before = torch.get_rng_state()
    assert torch.equal(decoded(case, latent), decoded(case, latent))
    assert torch.equal(torch.get_rng_state(), before) and len(decoded(case, latent)) == 17


@pytest.mark.parametrize(("fit", "latents", "back"), [("pad", 3, 12), ("trim", 2, 9)])
def test_encoding_and_decoding(case, fit, latents, back):
    latent, *_ = run(EncodeVideo, case, video=clip(12), fit=fit)
    assert latent["samples"].shape == (1, CHANNELS, latents, ROWS, COLUMNS)
    video, *_ = run(DecodeVideo, case, latent=latent, fps=0.0)
    assert torch.equal(shown(video), decoded(case, latent["samples"])[:back])
    assert video.get_frame_count() == back == len(shown(video))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("frames", "seconds", "new"), [(17, 1.0, 8), (12, 5.0, 40)])
def test_extending(case, way, frames, seconds, new):
    """40 frames take more windows than one."""
    own = clip(frames)
    latent, video, _, report = run(ExtendVideo, case, video=own, direction=way, seconds=seconds)
    result, samples = shown(video), latent["samples"]
    assert len(result) == frames + new and f"by {new} frames" in report
    assert torch.equal(result[:frames] if way == "forwards" else result[new:], own)
    assert samples.isfinite().all() and (result[frames:] != own[-1]).any()
    if way == "forwards" and frames == 17:
        assert torch.equal(samples[:, :, :3], encode_clip(case["vae"], own))
    assert ("1 window" in report) == (new == 8)


@pytest.mark.parametrize("way", WAYS)
def test_extending_a_latent(case, way):
    own, *_ = run(EncodeVideo, case, video=clip(17))
    latent, video, *_ = run(ExtendVideo, case, video=own, direction=way, seconds=1.0)
    result, kept = shown(video), decoded(case, own["samples"])
    assert len(result) == 25
    assert torch.equal(result[:17] if way == "forwards" else result[8:], kept)
    known = latent["samples"][:, :, :3] if way == "forwards" else latent["samples"][:, :, 2:]
    assert torch.equal(known, own["samples"][:, :, 0 if way == "forwards" else 1 :])


@pytest.mark.parametrize("height", [HEIGHT, 40])
@pytest.mark.parametrize("mode", ["bridge", "transform"])
def test_stitching(case, mode, height):
    """Also clips whose sides are no multiples of a cell."""
    a, b = clip(17, 1, height), clip(25, 2, height)
    latent, video, _, report = run(StitchVideos, case, video_a=a, video_b=b, mode=mode, seconds=2.0)
    result = shown(video)
    assert latent["samples"].isfinite().all()
    if mode == "bridge":
        assert len(result) == 17 + 16 + 25
        assert torch.equal(result[:17], a) and torch.equal(result[-25:], b)
    else:
        assert len(result) == 9 + 16 + 17 and "last 8 frames of A and the first 8 of B" in report
        assert torch.equal(result[:9], a[:9]) and torch.equal(result[-17:], b[-17:])


def test_looping(case):
    own = clip(17)
    _, video, seams, _ = run(LoopVideo, case, video=own, seconds=1.0)
    assert len(shown(video)) == 25 and torch.equal(shown(video)[:17], own) and seams == "17"


def test_pins(case):
    size = {"width": WIDTH, "height": HEIGHT, "length_in": "frames", "frames": 25}
    canvas, *_ = run(EmptyVideoLatent, case, **size)
    assert canvas["samples"].shape == (1, CHANNELS, 4, ROWS, COLUMNS)
    images = clip(2)
    first, *_ = run(PinFrames, case, latent=canvas, images=images[:1])
    both, report, _ = run(PinFrames, case, latent=first, images=images[1:], frame=-1)
    assert "Eight frames are one latent frame: frames 17 to 24 are pinned together" in report
    assert both["noise_mask"].mean((0, 1, 3, 4)).tolist() == [0, 1, 1, 0]
    still = encode_ending(case["vae"], images[1:].expand(8, -1, -1, -1))
    assert torch.equal(both["samples"][:, :, 3:], still)
    start, *_ = run(StartDenoising, case, latent=both, sigmas=torch.tensor([1.0, 0.5, 0.0]))
    assert start.state.fill == "frames"
    made = FinishDenoising.execute(start).args[0]["samples"]
    change_T = (made - both["samples"]).abs().amax((0, 1, 3, 4))
    assert change_T[[0, 3]].max() < 1e-5 and change_T[1:3].min() > 0.1


def test_cores_sampler_between_the_halves_of_a_verb(case):
    own = clip(17)
    latent, plan = run(PrepareExtend, case, video=own, seconds=1.0)
    prompts = case["positive"], case["negative"]
    settings = 3, 2, 2.0, "euler", "simple"
    done = core.common_ksampler(case["model"], *settings, *prompts, latent)[0]
    _, video, *_ = execute(FinishVideo, latent=done, plan=plan)
    assert len(shown(video)) == 25 and torch.equal(shown(video)[:17], own)


def test_remixing_a_region(case):
    own, mask = clip(12), torch.zeros(1, HEIGHT, WIDTH)
    mask[..., 64:] = 1
    latent, video, *_ = run(RemixVideo, case, video=own, method="noise", mask=mask)
    assert latent["samples"].shape[2] == 3 and latent["video_frames"] == 12
    assert torch.equal(shown(video)[:, :, :64], own[:, :, :64]) and len(shown(video)) == 12


def test_lengths_are_1_and_8k(case):
    with pytest.raises(ValueError, match=r"Setting window: A clip has 1 \+ 8k frames; got 21"):
        run(ExtendVideo, case, video=clip(9), window=21)
