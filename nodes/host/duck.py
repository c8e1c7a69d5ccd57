"""CLIP and VAE values over our own modules, with the methods that core's nodes call.

Also any VAE, core's too, frame by frame. B batch, C channels, T/H/W latent frames/rows/columns, F
pixel frames, S text tokens, D width. Frames are RGB in 0..1, latents raw means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...models.text import TextEncoder, Tokenizer
from ...models.timeline import STRIDE, latent_frames, pixel_frames
from ...models.transformer import PatchDiT
from ...models.video_vae import VideoVAE, nearest_valid
from ..clips import samples_of


@dataclass(frozen=True)
class Model:
    """A MODEL where there is no ComfyUI: our network, and the VAE whose latents it denoises."""

    network: PatchDiT
    vae: VideoVAE


Load = Callable[[], torch.device]  # puts a module on its device for computing, and says which


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

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """The latent_BCTHW of clips (B,F,H,W,3), or of one clip (F,H,W,3)."""
        clips_BFHWC = frames[None] if frames.ndim == 4 else frames
        return self.first_stage_model.encode(self._to_video(clips_BFHWC)).float().cpu()

    @torch.no_grad()
    def decode(self, latent_BCTHW: Tensor, **_options: Any) -> Tensor:
        """Clips (B,F,H,W,3); an image latent (B,C,H,W) counts as one frame."""
        latent = samples_of({"samples": latent_BCTHW}, self.latent_channels)
        device = self._load()
        return to_frames(self.first_stage_model.decode(latent.to(device)))

    def encode_tiled(self, frames: Tensor, **_tiling: Any) -> Tensor:
        """As `encode`: this VAE is small enough to need no tiles."""
        return self.encode(frames)

    def decode_tiled(self, latent_BCTHW: Tensor, **_tiling: Any) -> Tensor:
        """As `decode`: this VAE is small enough to need no tiles."""
        return self.decode(latent_BCTHW)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        """The latent frames of one clip that arrives as chunks_FHWC."""
        videos = (self._to_video(chunk_FHWC[None]) for chunk_FHWC in chunks)
        for latent in self.first_stage_model.encode_stream(videos):
            yield latent.float().cpu()

    @torch.no_grad()
    def decode_stream(self, latent_1CTHW: Tensor) -> Iterator[Tensor]:
        """The frames of one clip as chunks_FHWC."""
        for video in self.first_stage_model.decode_stream(latent_1CTHW.to(self._load())):
            yield to_frames(video)[0]

    def _to_video(self, frames_BFHWC: Tensor) -> Tensor:
        """Video_BCFHW in -1..1 on the device."""
        return frames_BFHWC[..., :3].movedim(-1, 1).to(self._load()).float() * 2 - 1


def to_frames(video_BCFHW: Tensor) -> Tensor:
    """Clips (B,F,H,W,3) in 0..1 on the CPU, of video in -1..1."""
    return ((video_BCFHW.float().cpu() + 1) / 2).clamp(0, 1).movedim(1, -1)


def latent_channels(vae: Any) -> int | None:
    """Channels of the latents of any VAE; None where it does not say."""
    return getattr(vae, "latent_channels", None)


def spatial_stride(vae: Any) -> int:
    """Pixels per latent row and column of any VAE for video; ValueError for one for images."""
    if getattr(vae, "latent_dim", 3) != 3:
        raise ValueError("This VAE is not for video; need the one of the video model in use.")
    return int(vae.spacial_compression_decode())


def decode_frames(vae: Any, latent_1CTHW: Tensor) -> Iterator[Tensor]:
    """The clip of one latent as chunks_FHWC: a few frames at a time if the VAE can, else one."""
    if isinstance(vae, Vae):
        yield from vae.decode_stream(latent_1CTHW)
    else:
        yield vae.decode(latent_1CTHW).flatten(0, -4).float().cpu()


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
    groups = latent_frames(len(frames_FHWC)) - 1
    chunks = iter(frames_FHWC.split([1] + groups * [STRIDE]))
    latents = []
    for latent in vae.encode_stream(chunks):
        latents.append(latent)
        report(pixel_frames(len(latents)))
    return torch.cat(latents, dim=2)
