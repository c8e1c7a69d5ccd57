"""Our VAE beside core's own, in the process of a real ComfyUI.

test_wan.py runs this file by ComfyUI's own Python. B batch, C channels, T/H/W latent frames, rows,
columns, F pixel frames; latents are raw means.
"""

from __future__ import annotations

from dataclasses import replace

import comfy.latent_formats
import comfy.ldm.wan.vae
import comfy.ldm.wan.vae2_2
import folder_paths
import pytest
import torch
from comfy_extras.nodes_wan import WanImageToVideo
from safetensors.torch import save_file

import nodes
from patchdit.models.checkpoints_vae import find_video_vae, load_video_vae
from patchdit.models.config import VAE_PRESETS
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import host
from patchdit.nodes.host.duck import Statistics
from patchdit.nodes.load_video import LoadVideoVAE

from .wan_pairs import H, T, W, apart, folder, inference, noise, pair, prompts_of

__all__ = ["folder", "inference", "pair"]  # fixtures


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


CORES = {  # core's class with the same widths; its loader knows the published ones only
    "wan2.1": lambda z: comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=z, temperal_downsample=DOWN),
    "wan2.2": lambda z: comfy.ldm.wan.vae2_2.WanVAE(
        dim=8, dec_dim=12, z_dim=z, temperal_downsample=DOWN
    ),
}
DOWN = [False, True, True]


@pytest.mark.parametrize("layout", CORES)
def test_layers_are_cores(layout, tmp_path):
    """Both layouts through our file and loader: three latent frames, so that memory counts."""
    decoder = 12 if layout == "wan2.2" else 8
    config = replace(VAE_PRESETS[layout], encoder_width=8, decoder_width=decoder)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        state = VideoVAE(config).state_dict()
        state = {name: w + 0.02 * torch.randn_like(w) for name, w in state.items()}
    theirs = CORES[layout](config.latent_channels)
    theirs.load_state_dict(state)
    save_file(state, tmp_path / "vae.safetensors")
    mine = load_video_vae(find_video_vae(tmp_path / "vae.safetensors"))
    video_BCFHW = torch.rand(1, 3, 9, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latent_BCTHW = theirs.encode(video_BCFHW)
    assert latent_BCTHW.shape[:3] == (1, config.latent_channels, 3)
    assert apart(mine.encode(video_BCFHW), latent_BCTHW) < 1e-4
    assert apart(mine.decode(latent_BCTHW, clamp=False), theirs.decode(latent_BCTHW)) < 1e-4
