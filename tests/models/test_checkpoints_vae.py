"""Which video autoencoder a file holds, in every public layout; loading it."""

import os
from dataclasses import replace

import pytest
import torch

from patchdit.models.blockworld import FOLDER, NAMES
from patchdit.models.checkpoints import config_metadata, save_checkpoint
from patchdit.models.checkpoints_vae import diffusers_vae_names, find_video_vae, load_video_vae
from patchdit.models.config import VAE_PRESETS, VAEConfig
from patchdit.models.video_vae import VideoVAE

SMALL = {
    "wan2.1": replace(VAE_PRESETS["wan2.1"], encoder_width=8, decoder_width=16),
    "wan2.2": replace(VAE_PRESETS["wan2.2"], encoder_width=12, decoder_width=12),
}


@pytest.fixture(scope="module")
def vaes():
    torch.manual_seed(0)
    return {layout: VideoVAE(config).state_dict() for layout, config in SMALL.items()}


@pytest.mark.parametrize("layout", SMALL)
@pytest.mark.parametrize("flavour", ["original", "full", "diffusers", "pth", "folder"])
def test_every_layout_loads(vaes, layout, flavour, tmp_path):
    path, tensors = tmp_path / "vae.safetensors", vaes[layout]
    if flavour == "pth":
        path = tmp_path / "Wan_VAE.pth"
        torch.save(tensors, path)
    elif flavour == "full":
        beside = {"model.diffusion_model.head.modulation": torch.ones(1)}
        save_checkpoint(path, {f"vae.{k}": t for k, t in tensors.items()} | beside)
    elif flavour == "original":
        save_checkpoint(path, tensors)
    else:
        (tmp_path / "vae").mkdir()
        path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
        names = diffusers_vae_names(SMALL[layout])
        save_checkpoint(path, {names[k]: t for k, t in tensors.items()})
    found = find_video_vae(tmp_path if flavour == "folder" else path)
    assert (found.family, found.config) == (layout, SMALL[layout])
    naming = "diffusers" if flavour in ("diffusers", "folder") else "original"
    assert found.label == f"Wan {layout[3:]} VAE, fp32, {naming} names"
    assert found.bytes == sum(t.nbytes for t in tensors.values())
    for dtype in (None, torch.bfloat16):
        vae = load_video_vae(found, dtype)
        assert vae.config == SMALL[layout] and not vae.training
        for name, tensor in tensors.items():
            assert torch.equal(vae.state_dict()[name], tensor.to(dtype or tensor.dtype))
    os.replace(path, tmp_path / "moved")


@pytest.mark.parametrize("layout", SMALL)
def test_the_published_sizes_are_the_presets(layout, tmp_path):
    from .test_families import write_shapes

    path = tmp_path / "vae.safetensors"
    write_shapes(
        path, VideoVAE(VAE_PRESETS[layout], device=torch.device("meta")).state_dict(), "BF16"
    )
    found = find_video_vae(path)
    assert found.config == VAE_PRESETS[layout]
    assert found.label == f"Wan {layout[3:]} VAE, bf16, original names"


def test_our_own_files_say_what_they_are(tmp_path):
    found = find_video_vae(FOLDER / NAMES["vae"])
    assert found.family == "patchdit" and len(found.config.latent_mean) == 16
    assert next(load_video_vae(found, torch.float32).parameters()).dtype == torch.float32
    config = VAEConfig(4, 8, 8, layout="wan2.1")
    save_checkpoint(
        tmp_path / "own.safetensors", VideoVAE(config).state_dict(), config_metadata(vae=config)
    )
    assert find_video_vae(tmp_path / "own.safetensors").config == config
    with pytest.raises(ValueError, match=r"is our own transformer; need a VAE file"):
        find_video_vae(FOLDER / NAMES["transformer"])


@pytest.mark.parametrize(
    "name, family",
    [
        ("per_channel_statistics.mean-of-means", "LTX-Video autoencoder"),
        ("vae.per_channel_statistics.mean-of-means", "LTX-Video autoencoder"),
        ("decoder.conv_in.conv.weight", "HunyuanVideo"),
        ("decoder.mid.block_1.conv1.weight", "Stable Diffusion or Flux autoencoder"),
        ("decoder.22.bias", "TAEHV preview autoencoder"),
        ("head.modulation", "Wan transformer"),
        ("scale_shift_table", "Wan transformer"),
        ("encoder.block.0.layer.0.SelfAttention.k.weight", "T5 text encoder"),
    ],
)
def test_other_files_are_refused_by_name(name, family, tmp_path):
    path, prefix = tmp_path / "other.safetensors", name.partition(".")[0]
    fill = {f"{prefix}.fill.{i}": torch.ones(1) for i in range(9)}
    save_checkpoint(path, {name: torch.ones(1), **fill})
    with pytest.raises(ValueError, match=rf"other\.safetensors is a {family}.* not supported"):
        find_video_vae(path)


def test_what_does_not_fit_is_named(vaes, tmp_path):
    path, whole = tmp_path / "vae.safetensors", vaes["wan2.1"]
    channels = VideoVAE(replace(SMALL["wan2.1"], latent_channels=4, latent_mean=(), latent_std=()))
    for tensors, message in (
        ({k: t for k, t in whole.items() if "encoder" not in k}, "lacks encoder.conv1.weight"),
        (
            {k: t for k, t in whole.items() if "middle.2" not in k},
            "lacks 12 tensors: encoder.middl",
        ),
        ({**whole, "spare": torch.ones(1)}, r"unknown 1 tensors: spare\."),
        (channels.state_dict(), r"turns 3 channels into 4; a Wan 2\.1 VAE turns 3 into 16"),
        ({"something": torch.ones(1)}, "not a Wan autoencoder or one of ours"),
    ):
        save_checkpoint(path, tensors)
        with pytest.raises(ValueError, match=rf"^vae\.safetensors .*{message}"):
            find_video_vae(path)
