"""The causal video autoencoder: Wan 2.1's, Wan 2.2's or blockworld-mini's, by config.

B batch, C channels, F pixel frames, T/H/W latent frames, rows and columns (inside the network: the
layer's own). 1 + 4k frames become 1 + k latent frames: latent 0 is frame 0, latent j >= 1 is frames
4j-3..4j. State-dict names are those of Wan's original files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import VAEConfig
from .vae_layers import (
    AttentionBlock,
    Clip,
    Downsample,
    ResidualBlock,
    RMSNorm,
    Stage,
    Upsample,
    average_down,
    causal,
    duplicate_up,
    fold_pixels,
    unfold_pixels,
)


class Coder(nn.Module):
    """What encoder and decoder share: the first convolution and the head."""

    def __init__(self, c_in: int, c_first: int, c_last: int, c_out: int, config, operations, where):
        super().__init__()
        kernel, padding = ((1, 3, 3), (0, 1, 1)) if config.factorised else ((3, 3, 3), (0, 1, 1))
        self.conv1 = operations.Conv3d(c_in, c_first, kernel, padding=padding, **where)
        head = operations.Conv3d(c_last, c_out, kernel, padding=padding, **where)
        self.head = nn.ModuleDict({"0": RMSNorm(c_last, **where), "2": head})

    def run_head(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        return causal(self.head["2"], F.silu(self.head["0"](x_BTHWC)), clip)


def middle_layers(channels: int, config: VAEConfig, operations, where) -> nn.ModuleList:
    """Residual, attention, residual at the lowest resolution; the mini layout does without."""
    if config.factorised:
        return nn.ModuleList()
    block = partial(ResidualBlock, channels, channels, False, operations, **where)
    return nn.ModuleList([block(), AttentionBlock(channels, operations, **where), block()])


class Encoder(Coder):
    """Frames to latent mean and log-variance, before the 1x1x1 convolution."""

    def __init__(self, config: VAEConfig, operations, where):
        widths = [config.encoder_width * m for m in config.width_multipliers]
        pixels = 3 * config.pixel_patch**2
        moments = 2 * config.latent_channels
        super().__init__(pixels, widths[0], widths[-1], moments, config, operations, where)
        stages = []
        befores = [widths[0], *widths[:-1]]
        for c_in, c_out, (space, time) in zip(befores, widths, config.reductions, strict=True):
            blocks = [c_in] + [c_out] * (config.blocks - 1)
            layers: list[nn.Module] = [
                ResidualBlock(c, c_out, config.factorised, operations, **where) for c in blocks
            ]
            if space or time:
                layers.append(Downsample(c_out, space, time, operations, **where))
            if config.grouped:
                shortcut = partial(average_down, c_out=c_out, ft=1 + time, fs=1 + space)
                layers = [Stage("downsamples", layers, shortcut)]
            stages += layers
        self.downsamples = nn.ModuleList(stages)
        self.middle = middle_layers(widths[-1], config, operations, where)

    def forward(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        x_BTHWC = causal(self.conv1, x_BTHWC, clip)
        for layer in (*self.downsamples, *self.middle):
            x_BTHWC = layer(x_BTHWC, clip)
        return self.run_head(x_BTHWC, clip)


class Decoder(Coder):
    """Latents, after the 1x1x1 convolution, to frames."""

    def __init__(self, config: VAEConfig, operations, where):
        widths = [config.decoder_width * m for m in reversed(config.width_multipliers)]
        pixels = 3 * config.pixel_patch**2
        latent = config.latent_channels
        super().__init__(latent, widths[0], widths[-1], pixels, config, operations, where)
        self.middle = middle_layers(widths[0], config, operations, where)
        stages, c_in = [], widths[0]
        growths = [*reversed(config.reductions[:-1]), config.reductions[-1]]
        for c_out, (space, time) in zip(widths, growths, strict=True):
            blocks = [c_in] + [c_out] * config.blocks
            layers: list[nn.Module] = [
                ResidualBlock(c, c_out, config.factorised, operations, **where) for c in blocks
            ]
            shortcut, c_next = None, c_out
            if space or time:
                c_next = c_out if config.grouped else c_out // 2
                layers.append(Upsample(c_out, c_next, space, time, operations, **where))
                shortcut = partial(duplicate_up, c_out=c_out, ft=1 + time, fs=1 + space)
            if config.grouped:
                layers = [Stage("upsamples", layers, shortcut)]
            stages += layers
            c_in = c_next
        self.upsamples = nn.ModuleList(stages)

    def forward(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        x_BTHWC = causal(self.conv1, x_BTHWC, clip)
        for layer in (*self.middle, *self.upsamples):
            x_BTHWC = layer(x_BTHWC, clip)
        return self.run_head(x_BTHWC, clip)


class VideoVAE(nn.Module):
    """Video in [-1, 1] to latents and back.

    Latents are raw means; a diffusion model takes `normalise(latent)`.
    """

    def __init__(self, config: VAEConfig, operations=nn, device=None, dtype=None):
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.config = config
        latent = config.latent_channels
        self.encoder = Encoder(config, operations, where)
        self.conv1 = operations.Conv3d(2 * latent, 2 * latent, 1, **where)
        self.conv2 = operations.Conv3d(latent, latent, 1, **where)
        self.decoder = Decoder(config, operations, where)
        if config.factorised:
            self.start_branches_near_zero()

    @torch.no_grad()
    def start_branches_near_zero(self) -> None:
        """Let the shortcuts carry the picture at first: training is several times faster so."""
        for layer in self.modules():
            if isinstance(layer, (ResidualBlock, Downsample, Upsample)):
                layer.last_conv.weight.mul_(0.1)

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent row and column."""
        return self.config.spatial_stride

    @property
    def temporal_stride(self) -> int:
        """Pixel frames per latent frame after the first."""
        return self.config.temporal_stride

    def posterior(self, video_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each latent_BCTHW, of the latent given a video in [-1, 1]."""
        self.check_video(video_BCFHW)
        return self.encode_chunk(video_BCFHW, self.new_clip())

    def encode(self, video_BCFHW: Tensor, sample: bool = False) -> Tensor:
        """The latent_BCTHW of a video in [-1, 1]: the mean, or a draw from the posterior.

        Needs 1 + 4k frames and sides that are multiples of `spatial_stride`, or raises ValueError.
        """
        mean, logvar = self.posterior(video_BCFHW)
        return mean + torch.exp(0.5 * logvar) * torch.randn_like(mean) if sample else mean

    def decode(self, latent_BCTHW: Tensor, clamp: bool = True) -> Tensor:
        """The video_BCFHW of a raw latent, in [-1, 1] unless a loss needs it without the clamp."""
        self.check_latent(latent_BCTHW)
        video = self.decode_chunk(latent_BCTHW, self.new_clip())
        return video.clamp(-1, 1) if clamp else video

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The latent frames, one at a time, of a clip that arrives as chunks_BCFHW of any length.

        Equal to `encode` of the whole, with memory that does not grow with it. A clip of another
        length than 1 + 4k raises ValueError when it ends.
        """
        clip, held, seen = self.new_clip(streaming=True), None, 0
        for chunk in chunks:
            self.check_video(chunk[:, :, :1])
            seen += chunk.shape[2]
            held = chunk if held is None else torch.cat([held, chunk], dim=2)
            while held.shape[2] >= (need := 1 if clip.at_start else self.temporal_stride):
                frames, held = held[:, :, :need], held[:, :, need:]
                yield self.encode_chunk(frames, clip)[0]
        self.check_frames(seen)

    @torch.no_grad()
    def decode_stream(self, latents: Tensor | Iterable[Tensor]) -> Iterator[Tensor]:
        """The video_BCFHW of raw latents, in [-1, 1], in chunks: 1 frame, then 4 for each latent.

        Takes a whole latent_BCTHW or an iterable of its pieces along T. Equal to `decode` of the
        whole, with memory that does not grow with it.
        """
        clip = self.new_clip(streaming=True)
        for piece in [latents] if isinstance(latents, Tensor) else latents:
            self.check_latent(piece)
            for latent in piece.split(1, dim=2):
                yield self.decode_chunk(latent, clip).clamp(-1, 1)

    def normalise(self, latent_BCTHW: Tensor) -> Tensor:
        """(latent - mean) / std per channel: what a diffusion model is trained on."""
        mean, std = self.statistics(latent_BCTHW)
        return (latent_BCTHW - mean) / std

    def denormalise(self, latent_BCTHW: Tensor) -> Tensor:
        """latent * std + mean per channel: what `decode` takes."""
        mean, std = self.statistics(latent_BCTHW)
        return latent_BCTHW * std + mean

    def statistics(self, latent_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """The config's mean and deviation, each (C, 1, 1, 1); 0 and 1 where it has none."""
        self.check_latent(latent_BCTHW)
        channels = self.config.latent_channels
        values = (
            self.config.latent_mean or [0.0] * channels,
            self.config.latent_std or [1.0] * channels,
        )
        mean, std = (latent_BCTHW.new_tensor(v).view(-1, 1, 1, 1) for v in values)
        return mean, std

    def new_clip(self, streaming: bool = False) -> Clip:
        return Clip(repeat_first=self.config.factorised, streaming=streaming)

    def encode_chunk(self, video_BCFHW: Tensor, clip: Clip) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of a clip's next chunk: 1 + 4k frames at its start, then 4k."""
        x_BTHWC = fold_pixels(video_BCFHW, self.config.pixel_patch)
        moments = causal(self.conv1, self.encoder(x_BTHWC, clip), clip).permute(0, 4, 1, 2, 3)
        clip.at_start = False
        mean, logvar = moments.chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode_chunk(self, latent_BCTHW: Tensor, clip: Clip) -> Tensor:
        """The frames, not clamped, of the next latent frames of a clip."""
        x_BTHWC = causal(self.conv2, latent_BCTHW.permute(0, 2, 3, 4, 1), clip)
        x_BTHWC = self.decoder(x_BTHWC, clip)
        clip.at_start = False
        return unfold_pixels(x_BTHWC, self.config.pixel_patch)

    def check_video(self, video_BCFHW: Tensor) -> None:
        """ValueError unless it is [B, 3, 1+4k, H, W] with sides on the stride."""
        if video_BCFHW.ndim != 5 or video_BCFHW.shape[1] != 3:
            raise ValueError(
                f"Video is {tuple(video_BCFHW.shape)}; need (batch, 3, frames, height, width)."
            )
        self.check_frames(video_BCFHW.shape[2])
        for name, size in zip(("height", "width"), video_BCFHW.shape[3:], strict=True):
            valid = nearest_valid(size, self.spatial_stride)
            if size not in valid:
                raise ValueError(
                    f"Video {name} is {size}; need a multiple of {self.spatial_stride}, the "
                    f"nearest {' or '.join(map(str, valid))}."
                )

    def check_frames(self, frames: int) -> None:
        """ValueError unless `frames` is 1 + 4k."""
        valid = nearest_valid(frames, self.temporal_stride, offset=1)
        if frames not in valid:
            raise ValueError(
                f"Clip has {frames} frames; need 1 + {self.temporal_stride}k, the nearest "
                f"{' or '.join(map(str, valid))}."
            )

    def check_latent(self, latent_BCTHW: Tensor) -> None:
        """ValueError unless it is [B, latent_channels, T, H, W] and not empty."""
        channels = self.config.latent_channels
        shape = tuple(latent_BCTHW.shape)
        if len(shape) != 5 or shape[1] != channels or 0 in shape:
            raise ValueError(
                f"Latent is {shape}; this VAE needs (batch, {channels}, frames, height, width)."
            )


def nearest_valid(size: int, stride: int, offset: int = 0) -> list[int]:
    """The positive offset + stride * k next to `size`: itself, or those below and above."""
    below = offset + (size - offset) // stride * stride
    around = [below] if below == size > 0 else [below, below + stride]
    return [n for n in around if n > 0]
