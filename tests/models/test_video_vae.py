"""The video autoencoder: parity with diffusers, whole clip = stream, causality, errors."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from patchdit.models.checkpoints_vae import diffusers_vae_names
from patchdit.models.config import VAE_PRESETS, VAEConfig
from patchdit.models.vae_layers import Clip, fold_pixels, unfold_pixels
from patchdit.models.video_vae import VideoVAE

TINY = {
    "wan2.1": VAEConfig(latent_channels=4, encoder_width=8, decoder_width=8),
    "wan2.2": VAEConfig(
        latent_channels=6, encoder_width=8, decoder_width=12, pixel_patch=2, layout="wan2.2"
    ),
    "mini": replace(VAE_PRESETS["blockworld-mini"], encoder_width=16, decoder_width=16),
}
LAYOUTS = pytest.mark.parametrize("layout", TINY)


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> None:
    """Weights that keep activations near one, so that every branch shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "gamma" in name:
            parameter.copy_(1 + 0.3 * noise)
        else:
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
            parameter.copy_(noise * fan_in**-0.5)


def make_vae(layout: str) -> VideoVAE:
    vae = VideoVAE(TINY[layout]).requires_grad_(False)
    randomise(vae)
    return vae


def random_video(frames: int, height: int = 32, width: int = 48, batch: int = 1) -> torch.Tensor:
    shape = (batch, 3, frames, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def diffusers_twin(vae: VideoVAE):
    """AutoencoderKLWan of the same configuration with the same weights."""
    diffusers = pytest.importorskip("diffusers")
    config = vae.config
    extra = {}
    if config.layout == "wan2.2":
        pixels = 3 * config.pixel_patch**2
        extra = {"is_residual": True, "patch_size": 2, "in_channels": pixels}
        extra |= {"out_channels": pixels, "decoder_base_dim": config.decoder_width}
        extra |= {"scale_factor_spatial": 16}
    twin = diffusers.AutoencoderKLWan(
        base_dim=config.encoder_width, z_dim=config.latent_channels, **extra
    ).requires_grad_(False)
    names = diffusers_vae_names(config)
    twin.load_state_dict({names[key]: value for key, value in vae.state_dict().items()})
    return twin


@pytest.mark.parametrize("layout", ["wan2.1", "wan2.2"])
@pytest.mark.parametrize("frames", [1, 5, 13])
def test_matches_diffusers(layout, frames):
    vae = make_vae(layout)
    twin = diffusers_twin(vae)
    video = random_video(frames, batch=2)
    latent = twin.encode(video).latent_dist.mode()
    assert latent.std() > 0.1
    torch.testing.assert_close(vae.encode(video), latent, atol=1e-4, rtol=0)
    decoded = twin.decode(latent).sample
    assert 0.1 < decoded.std() < 0.95  # neither empty nor all clamped
    torch.testing.assert_close(vae.decode(latent), decoded, atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", ["wan2.1", "wan2.2"])
def test_diffusers_names_lead_there_and_back(layout):
    names = diffusers_vae_names(TINY[layout])
    back = {theirs: ours for ours, theirs in names.items()}
    assert len(back) == len(names)
    twin = diffusers_twin(make_vae(layout))
    assert set(back) == set(twin.state_dict())


@pytest.mark.parametrize(
    ("preset", "tensors", "parameters", "stride"),
    [("wan2.1", 194, 126_892_531, 8), ("wan2.2", 196, 704_688_668, 16)],
)
def test_presets_have_wans_tensors(preset, tensors, parameters, stride):
    vae = VideoVAE(VAE_PRESETS[preset], device=torch.device("meta"))
    state = vae.state_dict()
    assert len(state) == tensors
    assert sum(value.numel() for value in state.values()) == parameters
    assert (vae.spatial_stride, vae.temporal_stride) == (stride, 4)


@pytest.mark.parametrize(
    ("preset", "name", "shape"),
    [
        ("wan2.1", "encoder.downsamples.5.time_conv.weight", (192, 192, 3, 1, 1)),
        ("wan2.1", "encoder.downsamples.6.shortcut.weight", (384, 192, 1, 1, 1)),
        ("wan2.1", "encoder.middle.1.norm.gamma", (384, 1, 1)),
        ("wan2.1", "decoder.upsamples.7.resample.1.weight", (192, 384, 3, 3)),
        ("wan2.1", "decoder.upsamples.14.residual.3.gamma", (96, 1, 1, 1)),
        ("wan2.1", "conv1.weight", (32, 32, 1, 1, 1)),
        ("wan2.2", "encoder.downsamples.1.downsamples.2.time_conv.weight", (320, 320, 3, 1, 1)),
        ("wan2.2", "decoder.upsamples.3.upsamples.0.shortcut.weight", (256, 512, 1, 1, 1)),
        ("wan2.2", "decoder.upsamples.2.upsamples.3.resample.1.weight", (512, 512, 3, 3)),
        ("wan2.2", "decoder.head.2.weight", (12, 256, 3, 3, 3)),
    ],
)
def test_presets_have_wans_shapes(preset, name, shape):
    state = VideoVAE(VAE_PRESETS[preset], device=torch.device("meta")).state_dict()
    assert tuple(state[name].shape) == shape


@LAYOUTS
@pytest.mark.parametrize("chunk", [1, 3, 17])
def test_streaming_equals_whole_clip(layout, chunk):
    vae = make_vae(layout)
    video = random_video(17, batch=2)
    latent = vae.encode(video)
    pieces = list(vae.encode_stream(video.split(chunk, dim=2)))
    assert [piece.shape[2] for piece in pieces] == [1] * 5
    torch.testing.assert_close(torch.cat(pieces, 2), latent, atol=1e-5, rtol=0)

    frames = list(vae.decode_stream(latent))
    assert [piece.shape[2] for piece in frames] == [1, 4, 4, 4, 4]
    torch.testing.assert_close(torch.cat(frames, 2), vae.decode(latent), atol=1e-5, rtol=0)
    from_pieces = torch.cat(list(vae.decode_stream(pieces)), 2)
    torch.testing.assert_close(from_pieces, torch.cat(frames, 2), atol=1e-5, rtol=0)


@LAYOUTS
def test_nothing_depends_on_the_future(layout):
    vae = make_vae(layout)
    video = random_video(13)
    latent = vae.encode(video)
    torch.testing.assert_close(vae.encode(video[:, :, :5]), latent[:, :, :2], atol=1e-5, rtol=0)
    changed = latent.clone()
    changed[:, :, 2] += 1
    difference = (vae.decode(changed, clamp=False) - vae.decode(latent, clamp=False)).abs()
    per_frame = difference.amax((0, 1, 3, 4))
    assert per_frame[:5].max() < 1e-5  # latent 2 is frames 5..8
    assert per_frame[5:].min() > 1e-3


@LAYOUTS
def test_stream_state_does_not_grow(layout, monkeypatch):
    clips = []
    vae = make_vae(layout)
    monkeypatch.setattr(
        vae, "new_clip", lambda **kind: clips.append(VideoVAE.new_clip(vae, **kind)) or clips[-1]
    )
    sizes = []
    for _ in vae.decode_stream(torch.zeros(1, TINY[layout].latent_channels, 12, 2, 2)):
        held = {
            past.untyped_storage().data_ptr(): past.untyped_storage() for past in past_of(clips)
        }
        sizes.append(sum(storage.nbytes() for storage in held.values()))
        assert sizes[-1] == sum(past.nbytes for past in past_of(clips))  # and no chunk with it
    assert sizes[2] > 0
    assert sizes[11] == sizes[2]


def past_of(clips: list[Clip]) -> list[torch.Tensor]:
    return [tensor for clip in clips for tensor in clip.past.values()]


def test_a_whole_clip_remembers_nothing():
    vae = make_vae("wan2.1")
    clip = vae.new_clip()
    vae.encode_chunk(random_video(5), clip)
    assert not clip.past


@LAYOUTS
def test_training_reaches_every_weight(layout):
    vae = VideoVAE(TINY[layout])
    video = random_video(5)
    mean, logvar = vae.posterior(video)
    sample = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
    (vae.decode(sample, clamp=False) - video).square().mean().backward()
    without = [n for n, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@LAYOUTS
def test_runs_on_the_hosts_layers_and_dtype(layout):
    class HostConv2d(nn.Conv2d):
        pass

    class HostConv3d(nn.Conv3d):
        pass

    host = SimpleNamespace(Conv2d=HostConv2d, Conv3d=HostConv3d)
    vae = VideoVAE(TINY[layout], operations=host, dtype=torch.bfloat16).requires_grad_(False)
    randomise(vae)
    convolutions = [m for m in vae.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    assert {type(m) for m in convolutions} == {HostConv2d, HostConv3d}
    video, exact = random_video(5), make_vae(layout)
    latent = vae.encode(video.bfloat16())
    assert latent.dtype == vae.decode(latent).dtype == torch.bfloat16
    expected = exact.encode(video)
    assert (latent - expected).abs().mean() < 0.05 * expected.std()


def test_a_sampled_latent_is_spread_by_the_variance():
    vae = make_vae("mini")
    video = random_video(9)
    mean, logvar = vae.posterior(video)
    torch.manual_seed(0)
    deviations = (vae.encode(video, sample=True) - mean) / (0.5 * logvar).exp()
    assert deviations.mean().abs() < 0.1
    assert deviations.std().sub(1).abs() < 0.1


def test_mini_treats_a_still_clip_as_still():
    """What came before frame 0 is frame 0 again: a still picture has one latent, at every time."""
    vae = make_vae("mini")
    video = random_video(1).expand(-1, -1, 9, -1, -1)
    latent = vae.encode(video)
    torch.testing.assert_close(latent[:, :, 1:], latent[:, :, :1].expand(-1, -1, 2, -1, -1))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_fold_pixels_is_inverted(patch):
    video = random_video(2, 8, 12)
    assert torch.equal(unfold_pixels(fold_pixels(video, patch), patch), video)


def test_normalise_is_inverted_and_keeps_out_of_the_state_dict():
    config = replace(TINY["wan2.1"], latent_mean=(0, 1, 2, 3), latent_std=(1, 2, 3, 4))
    vae = VideoVAE(config)
    latent = torch.randn(1, 4, 2, 3, 3)
    normal = vae.normalise(latent)
    torch.testing.assert_close(normal[:, 3], (latent[:, 3] - 3) / 4)
    torch.testing.assert_close(vae.denormalise(normal), latent)
    assert vae.state_dict().keys() == VideoVAE(TINY["wan2.1"]).state_dict().keys()


@pytest.mark.parametrize(
    ("frames", "nearest"), [(0, "nearest 1"), (2, "1 or 5"), (7, "5 or 9"), (16, "13 or 17")]
)
def test_frame_counts_off_the_stride_name_the_nearest(frames, nearest):
    vae = make_vae("mini")
    with pytest.raises(ValueError, match=nearest):
        vae.encode(random_video(frames))
    with pytest.raises(ValueError, match=nearest):
        list(vae.encode_stream(random_video(frames).split(3, dim=2)))


@pytest.mark.parametrize(
    ("layout", "size", "nearest"),
    [("mini", 30, "24 or 32"), ("wan2.2", 40, "32 or 48"), ("mini", 0, "nearest 8")],
)
def test_sizes_off_the_stride_name_the_nearest(layout, size, nearest):
    vae = make_vae(layout)
    for encode in (vae.encode, lambda video: next(vae.encode_stream([video]))):
        with pytest.raises(ValueError, match=f"height is {size}.*{nearest}"):
            encode(random_video(1, height=size))
        with pytest.raises(ValueError, match=f"width is {size}.*{nearest}"):
            encode(random_video(1, width=size))


def test_foreign_latents_and_videos_are_errors():
    vae = make_vae("mini")
    foreign = torch.zeros(1, 48, 2, 4, 4)
    for take in (vae.decode, vae.normalise, vae.denormalise, lambda z: next(vae.decode_stream(z))):
        with pytest.raises(ValueError, match=r"\(1, 48, 2, 4, 4\).*16"):
            take(foreign)
    with pytest.raises(ValueError, match=r"\(1, 4, 1, 32, 32\).*3"):
        vae.encode(torch.zeros(1, 4, 1, 32, 32))


def test_diffusers_knows_no_mini_layout():
    with pytest.raises(ValueError, match="mini"):
        diffusers_vae_names(TINY["mini"])
