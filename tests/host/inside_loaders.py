"""What core's own UNETLoader and VAELoader give, in our verbs, inside a real ComfyUI.

test_fill.py runs this file by ComfyUI's own Python. Files are small and random. B batch, C
channels, T/H/W latent frames, rows, columns.
"""

from __future__ import annotations

import json
from dataclasses import replace

import comfy.sd
import folder_paths
import pytest
import torch
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE as LTXVAE
from comfy_extras.nodes_hunyuan import HunyuanImageToVideo
from safetensors.torch import save_file

import nodes as core
from patchdit.models.config import VAE_PRESETS
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes.denoise import FinishDenoising
from patchdit.nodes.empty_latent import EmptyVideoLatent
from patchdit.nodes.extend import ExtendVideo
from patchdit.nodes.host.native import CONCAT
from patchdit.nodes.load_video import LoadVideoVAE
from patchdit.nodes.pin import PinFrames
from patchdit.nodes.stitch import StitchVideos

from . import inside_ltx
from .inside import inference
from .inside_fill import CANVAS, FAMILIES, FRAMES, HUNYUAN, Case, clip, fills, make
from .inside_verbs import execute

__all__ = ["fills", "inference"]  # fixtures

POOLED = 768  # without these, core takes a file for HunyuanImage
HUNYUAN_AS_TOLD = HUNYUAN | {"vec_in_dim": POOLED, "mlp_ratio": 4.0}  # which no file says
TOLD = {  # what core reads from a file's metadata, where the shapes of small weights say otherwise
    "wan": {"text_dim": 32, "freq_dim": 32},
    "ltxv": {"num_attention_heads": 4, "attention_head_dim": 8, "caption_channels": 32},
}
LOADED = [f for f, (*_, channels) in FAMILIES.items() if channels == 16]  # core's 2.2 VAE is large


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("loaders")
    for kind in ("diffusion_models", "vae"):
        folder_paths.add_model_folder_path(kind, str(path))
    return path


@pytest.fixture(scope="module")
def load(folder):
    """By a family's name, core's MODEL of a file of it; each loaded once."""
    made = {}

    def of(family):
        if family not in made:
            network = FAMILIES[family][1]
            if family.startswith("hunyuan"):
                network = HUNYUAN_AS_TOLD | {"in_channels": network["in_channels"]}
            built = make(family, network)
            told = TOLD.get(family.split()[0])
            config = {"config": json.dumps({"transformer": told})} if told else None
            state = built.model.diffusion_model.state_dict()
            save_file(state, folder / f"{family}.safetensors", config)
            loaded = core.UNETLoader().load_unet(f"{family}.safetensors", "default")[0]
            assert type(loaded.model) is type(built.model)
            made[family] = loaded
        return made[family]

    return of


@pytest.fixture(scope="module")
def vaes(folder):
    """Of one file of Wan 2.1's layout: what core's loader gives, and ours."""
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(4)
        small = replace(VAE_PRESETS["wan2.1"], encoder_width=8, decoder_width=8)
        save_file(VideoVAE(small).state_dict(), folder / "wan-vae.safetensors")
    theirs = core.VAELoader().load_vae("wan-vae.safetensors")[0]
    assert type(theirs) is comfy.sd.VAE
    return theirs, LoadVideoVAE.execute("wan-vae.safetensors").args[0]


@pytest.fixture(params=LOADED)
def cases(request, load, vaes, fills):
    """The case of a family with core's VAE; and with ours, where it is Wan's."""
    family = request.param
    return [case_of(family, load, vae, fills) for vae in vaes]


def case_of(family, load, vae, fills):
    *_, fill, channels = FAMILIES[family]
    case = Case(load(family), fill, channels, fills)
    case.vae = vae
    if family.startswith("hunyuan"):
        for ((_, values),) in case.prompts:
            values["pooled_output"] = torch.ones(1, POOLED)
    return case


def apart(a, b):
    assert a.isfinite().all() and a.std() > 1e-3
    return (a - b).abs().max()


def pinned(case):
    """An empty latent of a VAE with its first frame pinned."""
    size = {"aspect": "width x height", "width": 32, "height": 32}
    latent, *_ = execute(EmptyVideoLatent, **size, length_in="frames", frames=FRAMES, vae=case.vae)
    return execute(PinFrames, latent=latent, vae=case.vae, images=clip(1)[:1])[0]


def test_extending(cases):
    made = [case.verb(ExtendVideo, video=clip(1), seconds=0.5) for case in cases]
    latents, videos = ([each[i][0] for each in made] for i in (0, 1))
    assert apart(*(latent["samples"] for latent in latents)) < 1e-4
    frames = [video.get_components().images for video in videos]
    assert apart(*frames) < 1e-4 and len(frames[0]) == FRAMES + 4
    assert torch.equal(frames[0][:FRAMES], clip(1))
    assert set(cases[0].fills) == {cases[0].fill}


@pytest.mark.parametrize("mode", ["bridge", "transform"])
def test_stitching(cases, mode):
    given = {"video_a": clip(1), "video_b": clip(2), "seconds": 0.5, "mode": mode}
    made = [case.verb(StitchVideos, **given) for case in cases]
    assert apart(*(latent["samples"] for latent, *_ in made)) < 1e-4
    frames = made[0][1].get_components().images
    assert torch.equal(frames[0], clip(1)[0]) and torch.equal(frames[-1], clip(2)[-1])
    assert set(cases[0].fills) == {cases[0].fill}


def test_a_pinned_image(cases):
    latents = [pinned(case) for case in cases]
    assert apart(*(latent["samples"][:, :, :1] for latent in latents)) < 1e-4
    runs = [case.run(latent) for case, latent in zip(cases, latents, strict=True)]
    made = [FinishDenoising.execute(run).args[0]["samples"] for run in runs]
    assert apart(*made) < 1e-4
    assert apart(made[0][:, :, :1], latents[0]["samples"][:, :, :1]) < 1e-5
    assert (made[0] - latents[0]["samples"])[:, :, 1:].abs().max() > 0.1


def test_hunyuan_is_told_of_an_image_as_cores_node_tells_it(load, vaes, fills):
    """The kind "v1 (concat)"; core's node leaves the negative prompt without it."""
    case = case_of("hunyuan i2v", load, vaes[0], fills)
    said = case.run(pinned(case)).positive[0][1]
    given = {**CANVAS, "guidance_type": "v1 (concat)", "start_image": clip(1)[:1]}
    theirs, latent = HunyuanImageToVideo.execute(case.prompts[0], case.vae, **given).args
    told = theirs[0][1]
    assert set(CONCAT) <= told.keys() and "noise_mask" not in latent
    assert torch.equal(said[CONCAT[1]], told[CONCAT[1]])
    assert apart(said[CONCAT[0]][:, :, :1], told[CONCAT[0]]) < 1e-5
    assert not said[CONCAT[0]][:, :, 1:].any()
    noise = torch.zeros(1, 16, 3, 4, 4)
    seen = [case.model.model.concat_cond(noise=noise, device="cpu", **v) for v in (said, told)]
    assert seen[0].shape == (1, 17, 3, 4, 4) and apart(*seen) < 1e-5


def test_ltx_by_cores_loaders(load, folder):
    """With its VAE, whose latents are eight frames: what was given stays, and time is added."""
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(6)
        weights = LTXVAE(config=inside_ltx.VAE).state_dict()
        for name, weight in weights.items():
            weight.normal_(0, 0.1)
            if name.endswith("std-of-means"):
                weight.fill_(1)
    told = {"config": json.dumps({"vae": inside_ltx.VAE})}
    save_file(weights, folder / "ltx-vae.safetensors", told)
    vae = core.VAELoader().load_vae("ltx-vae.safetensors")[0]
    assert isinstance(vae.first_stage_model, LTXVAE)
    prompts = Case(load("ltxv"), "frames", 128, []).prompts
    case = {
        "model": load("ltxv"), "vae": vae, "positive": prompts[0], "negative": prompts[1],
        "steps": 2, "cfg": 2.0, "fps": 8.0, "generate_fps": 8.0, "window": 33,
    }  # fmt: skip
    own = inside_ltx.clip(17)
    latent, video, *_ = inside_ltx.run(ExtendVideo, case, video=own, seconds=1.0)
    frames = inside_ltx.shown(video)
    assert len(frames) == 25 and torch.equal(frames[:17], own)
    assert latent["samples"].isfinite().all() and latent["samples"].shape[2] == 4
    given = {"video_a": own, "video_b": inside_ltx.clip(17, 1), "seconds": 1.0, "mode": "bridge"}
    _, video, *_ = inside_ltx.run(StitchVideos, case, **given)
    frames = inside_ltx.shown(video)
    assert torch.equal(frames[0], own[0]) and torch.equal(frames[-1], given["video_b"][-1])
