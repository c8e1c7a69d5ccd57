"""CLIP and VAE values over our own modules, with the methods that core's nodes call.

Also any VAE, core's too, frame by frame. B batch, C channels, T/H/W latent frames/rows/columns, F
pixel frames, S text tokens, D width. Frames are RGB in 0..1, latents raw means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...models.config import VAE_PRESETS
from ...models.text import TextEncoder, Tokenizer
from ...models.timeline import STRIDE, latent_frames, pixel_frames
from ...models.transformer import PatchDiT
from ...models.video_vae import VideoVAE, nearest_valid
from ..latent_dicts import samples_of


class LatentSpace(Protocol):
    """Between raw VAE means and what a network denoises; a VideoVAE is one too."""

    def normalise(self, latent_BCTHW: Tensor, /) -> Tensor: ...

    def denormalise(self, latent_BCTHW: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Statistics:
    """The latent space of weights whose VAE is elsewhere: mean and deviation of each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_channels(cls, channels: int) -> Statistics:
        """Wan 2.1's for 16 channels, Wan 2.2's for 48."""
        config = VAE_PRESETS["wan2.2" if channels == 48 else "wan2.1"]
        return cls(config.latent_mean, config.latent_std)

    def normalise(self, latent_BCTHW: Tensor) -> Tensor:
        return (latent_BCTHW - self.like(self.mean, latent_BCTHW)) / self.like(
            self.std, latent_BCTHW
        )

    def denormalise(self, latent_BCTHW: Tensor) -> Tensor:
        return latent_BCTHW * self.like(self.std, latent_BCTHW) + self.like(self.mean, latent_BCTHW)

    @staticmethod
    def like(values: tuple[float, ...], latent_BCTHW: Tensor) -> Tensor:
        return latent_BCTHW.new_tensor(values).view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Model:
    """A MODEL where there is no ComfyUI: our network and the space of the latents it denoises.

    `family` is as families.VideoModelFile has it; `noise_half` says which half of a pair it is.
    """

    network: PatchDiT
    latents: LatentSpace
    family: str = "patchdit"
    noise_half: str = ""  # "high" or "low"


class Load(Protocol):
    """Puts a module on its device for computing, with room for `memory` bytes more; says which."""

    def __call__(self, memory: int = 0, /) -> torch.device: ...


class Clip:
    """A CLIP: prompts become conditioning through our own tokenizer and text encoder."""

    def __init__(self, encoder: TextEncoder, tokenizer: Tokenizer, load: Load):
        self.encoder = encoder
        self.tokenizer = tokenizer
        self._load = load

    def clone(self) -> Clip:
        return Clip(self.encoder, self.tokenizer, self._load)

    def tokenize(self, text: str, **_options: Any) -> Tensor:
        """Token numbers (1,S); ValueError for a prompt longer than the model reads."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The prompt has half a character (such as a cut emoji) at place {error.start + 1};"
                " type it again."
            ) from error
        return self.tokenizer.batch([text], self.encoder.config.length)

    @torch.no_grad()
    def encode_from_tokens(self, tokens_BS: Tensor, **_options: Any) -> Tensor:
        """Context (B,S,D) on the CPU."""
        return self.encoder(tokens_BS.to(self._load())).float().cpu()

    def encode_from_tokens_scheduled(self, tokens_BS: Tensor, **_options: Any) -> list:
        return [[self.encode_from_tokens(tokens_BS), {"pooled_output": None}]]


VALUES_PER_PIXEL = 2200  # that a Wan VAE's widest layers hold for one group of frames


class Vae:
    """A VAE for core's VAE Decode and VAE Encode too; a batch of images counts as one clip."""

    latent_dim = 3
    not_video = False

    def __init__(self, vae: VideoVAE, load: Load):
        self.first_stage_model = vae
        self.latent_channels = vae.config.latent_channels
        self._load = load

    @property
    def downscale_ratio(self) -> int:
        return self.first_stage_model.spatial_stride

    def spacial_compression_encode(self) -> int:
        return self.first_stage_model.spatial_stride

    def spacial_compression_decode(self) -> int:
        return self.first_stage_model.spatial_stride

    def temporal_compression_decode(self) -> int:
        return self.first_stage_model.temporal_stride

    def encode(self, frames: Tensor) -> Tensor:
        """The latent_BCTHW of clips (B,F,H,W,3), or of one clip (F,H,W,3)."""
        clips_BFHWC = frames[None] if frames.ndim == 4 else frames
        return torch.cat([self._encoded(clip_FHWC) for clip_FHWC in clips_BFHWC])

    def decode(self, latent_BCTHW: Tensor, **_options: Any) -> Tensor:
        """Clips (B,F,H,W,3); an image latent (B,C,H,W) counts as one frame."""
        latent = samples_of({"samples": latent_BCTHW}, self.latent_channels)
        return torch.stack([torch.cat([*self.decode_stream(clip)]) for clip in latent.split(1)])

    def encode_tiled(self, frames: Tensor, **_tiling: Any) -> Tensor:
        """As `encode`, which takes a few frames at a time: that bounds the memory in time."""
        return self.encode(frames)

    def decode_tiled(self, latent_BCTHW: Tensor, **_tiling: Any) -> Tensor:
        """As `decode`, which makes a few frames at a time: that bounds the memory in time."""
        return self.decode(latent_BCTHW)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        """The latent frames of one clip that arrives as chunks_FHWC."""
        for latent in self.first_stage_model.encode_stream(self._videos(chunks)):
            yield latent.float().cpu()

    @torch.no_grad()
    def decode_stream(self, latent_1CTHW: Tensor) -> Iterator[Tensor]:
        """The frames of one clip as chunks_FHWC."""
        pixels = latent_1CTHW.shape[-2:].numel() * self.first_stage_model.spatial_stride**2
        latent = latent_1CTHW.to(self._load(self._memory(pixels)), self.dtype)
        for video in self.first_stage_model.decode_stream(latent):
            yield to_frames(video)[0]

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.first_stage_model.conv1.weight.dtype

    def _encoded(self, clip_FHWC: Tensor) -> Tensor:
        """The latent_1CTHW of a clip."""
        self.first_stage_model.check_frames(len(clip_FHWC))
        chunks = in_groups(clip_FHWC, self.temporal_compression_decode())
        return torch.cat([*self.encode_stream(chunks)], dim=2)

    def _memory(self, pixels: int) -> int:
        """Bytes for the layers of one group of frames."""
        return VALUES_PER_PIXEL * pixels * self.dtype.itemsize

    def _videos(self, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        """Videos_1CFHW in -1..1 on the device, where the module is put once for all of them."""
        device = None
        for chunk_FHWC in chunks:
            if device is None:
                device = self._load(self._memory(chunk_FHWC.shape[1:3].numel()))
            video = chunk_FHWC[None, ..., :3].movedim(-1, 1).to(device).float()
            yield (video * 2 - 1).to(self.dtype)


def to_frames(video_BCFHW: Tensor) -> Tensor:
    """Clips (B,F,H,W,3) in 0..1 on the CPU, of video in -1..1."""
    return ((video_BCFHW.float().cpu() + 1) / 2).clamp(0, 1).movedim(1, -1)


def latent_channels(vae: Any) -> int | None:
    """Channels of the latents of any VAE; None where it does not say."""
    return getattr(vae, "latent_channels", None)


def temporal_stride(vae: Any) -> int:
    """Pixel frames per latent frame of any VAE for video; ValueError for one for images.

    Of every latent frame but the first, which is one image. A VAE that cannot say has four.
    """
    if getattr(vae, "latent_dim", 3) != 3:
        raise ValueError("This VAE is not for video; need the one of the video model in use.")
    stride = getattr(vae, "temporal_compression_decode", lambda: STRIDE)()
    if not stride or stride < 1:
        raise ValueError(
            "This VAE does not say how many frames one of its latents stands for, so it is not for"
            " video; need the one of the video model in use."
        )
    return int(stride)


def spatial_stride(vae: Any) -> int:
    """Pixels per latent row and column of any VAE for video; ValueError for one for images."""
    temporal_stride(vae)
    return int(vae.spacial_compression_decode())


def decode_frames(vae: Any, latent_1CTHW: Tensor) -> Iterator[Tensor]:
    """The clip of one latent as chunks_FHWC: a few frames at a time if the VAE can, else one.

    The same latent always gives the same frames: LTX's decoder adds noise, which is seeded here.
    """
    if isinstance(vae, Vae):
        yield from vae.decode_stream(latent_1CTHW)
        return
    device = torch.device(getattr(vae, "device", "cpu"))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        frames = vae.decode(latent_1CTHW).flatten(0, -4).float().cpu()
    yield frames


def in_groups(frames_FHWC: Tensor, stride: int) -> Iterator[Tensor]:
    """A clip of 1 + `stride` k frames as the chunks_FHWC that become one latent frame each."""
    groups = latent_frames(len(frames_FHWC), stride) - 1
    return iter(frames_FHWC.split([1] + groups * [stride]))


def encode_frames(vae: Any, frames_FHWC: Tensor, report: Callable[[int], None]) -> Tensor:
    """The latent_1CTHW of a clip; `report` hears how many frames are done.

    ValueError where height or width is not a multiple of the VAE's stride: core's would crop.
    """
    stride = spatial_stride(vae)
    for name, size in zip(("height", "width"), frames_FHWC.shape[1:3], strict=True):
        valid = nearest_valid(size, stride)
        if size not in valid:
            raise ValueError(
                f"The video's {name} is {size} pixels; this VAE needs a multiple of {stride},"
                f" nearest {' or '.join(map(str, valid))}: scale it first (Upscale Image)."
            )
    if not isinstance(vae, Vae):
        return vae.encode(frames_FHWC)
    step, latents = temporal_stride(vae), []
    for latent in vae.encode_stream(in_groups(frames_FHWC, step)):
        latents.append(latent)
        report(pixel_frames(len(latents), step))
    return torch.cat(latents, dim=2)
