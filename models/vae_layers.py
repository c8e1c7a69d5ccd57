"""The layers of the causal video autoencoder, for one chunk of a clip at a time.

B batch, C channels, T/H/W frames, rows and columns at the layer's own resolution. Tensors are
channels-last, x_BTHWC: convolutions take them as permuted views, so no layer copies them into
another memory order.

No layer sees the future. What it needs of the past it takes from a `Clip`, which remembers the last
frames that each layer saw; a whole clip is simply one chunk.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Conv = Any  # a Conv2d or Conv3d: torch's, or a host's own class in its place


class Clip:
    """Where a pass through the network is in its clip: at the start or not, and after which frames.

    `repeat_first` says what came before the first frame: copies of it, or zeros (Wan). A pass that
    is not `streaming` takes the whole clip as one chunk and remembers nothing; one that is keeps at
    most two frames a layer, whatever the clip's length.
    """

    def __init__(self, repeat_first: bool = False, streaming: bool = False):
        self.repeat_first = repeat_first
        self.streaming = streaming
        self.at_start = True
        self.past: dict[nn.Module, Tensor] = {}

    def with_past(self, layer: nn.Module, x_BTHWC: Tensor, frames: int) -> Tensor:
        """x after the `frames` frames that came before it; its own last ones are remembered."""
        past = self.past.get(layer)
        if past is None:
            past = x_BTHWC[:, :1] if self.repeat_first else torch.zeros_like(x_BTHWC[:, :1])
            past = past.expand(-1, frames, -1, -1, -1)
        joined = torch.cat([past, x_BTHWC], dim=1)
        self.remember(layer, joined, frames)
        return joined

    def remember(self, layer: nn.Module, x_BTHWC: Tensor, frames: int) -> None:
        if self.streaming:
            self.past[layer] = x_BTHWC[:, -frames:].clone()  # a view would keep the chunk alive


def convolve(conv: Conv, x_BTHWC: Tensor) -> Tensor:
    """Conv3d on a channels-last video, without padding in time.

    Where the kernel mixes no frames they are a batch: PyTorch takes its slow path in float32 on the
    CPU for a batch of one small clip.
    """
    B, T = x_BTHWC.shape[:2]
    if conv.kernel_size[0] == 1:
        x_BTHWC = x_BTHWC.reshape(B * T, 1, *x_BTHWC.shape[2:])
    y = conv(x_BTHWC.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    return y.reshape(B, -1, *y.shape[2:])


def convolve_frames(conv: Conv, x_BTHWC: Tensor) -> Tensor:
    """Conv2d on every frame of a channels-last video."""
    frames = conv(x_BTHWC.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return frames.unflatten(0, x_BTHWC.shape[:2])


def causal(conv: Conv, x_BTHWC: Tensor, clip: Clip) -> Tensor:
    """Conv3d over x and the frames before it: as many frames out as in."""
    taps = conv.kernel_size[0]
    return convolve(conv, clip.with_past(conv, x_BTHWC, taps - 1) if taps > 1 else x_BTHWC)


class RMSNorm(nn.Module):
    """x / rms(x over channels) * gamma; gamma is stored (C, 1, ...) with `dims` axes, as Wan's."""

    def __init__(self, channels: int, dims: int = 4, device=None, dtype=None):
        super().__init__()
        shape = (channels,) + (1,) * (dims - 1)
        self.gamma = nn.Parameter(torch.ones(shape, device=device, dtype=dtype))

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        gamma = self.gamma.flatten().to(x_BTHWC)
        return F.rms_norm(x_BTHWC, gamma.shape, gamma, eps=1e-12)


class ResidualBlock(nn.Module):
    """x + two convolutions: 3x3x3 each, or 1x3x3 and 3x1x1 when `factorised` (arXiv:1711.11248)."""

    def __init__(self, c_in: int, c_out: int, factorised: bool, operations, **where):
        super().__init__()
        kernels = ((1, 3, 3), (3, 1, 1)) if factorised else ((3, 3, 3), (3, 3, 3))
        paddings = [(0, k[1] // 2, k[2] // 2) for k in kernels]
        self.residual = nn.ModuleDict(
            {
                "0": RMSNorm(c_in, **where),
                "2": operations.Conv3d(c_in, c_out, kernels[0], padding=paddings[0], **where),
                "3": RMSNorm(c_out, **where),
                "6": operations.Conv3d(c_out, c_out, kernels[1], padding=paddings[1], **where),
            }
        )
        self.shortcut = operations.Conv3d(c_in, c_out, 1, **where) if c_in != c_out else None

    @property
    def last_conv(self) -> Conv:
        return self.residual["6"]

    def forward(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        layer = self.residual
        y = causal(layer["2"], F.silu(layer["0"](x_BTHWC)), clip)
        y = causal(layer["6"], F.silu(layer["3"](y)), clip)
        return y + (x_BTHWC if self.shortcut is None else convolve(self.shortcut, x_BTHWC))


class AttentionBlock(nn.Module):
    """x + one-head self-attention over the cells of each frame."""

    def __init__(self, channels: int, operations, **where):
        super().__init__()
        self.norm = RMSNorm(channels, dims=3, **where)
        self.to_qkv = operations.Conv2d(channels, 3 * channels, 1, **where)
        self.proj = operations.Conv2d(channels, channels, 1, **where)

    def forward(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        qkv = convolve_frames(self.to_qkv, self.norm(x_BTHWC))
        q, k, v = qkv.flatten(2, 3).chunk(3, dim=-1)  # frames are a batch, all cells of one attend
        y = F.scaled_dot_product_attention(q, k, v).unflatten(2, x_BTHWC.shape[2:4])
        return x_BTHWC + convolve_frames(self.proj, y)


class Downsample(nn.Module):
    """Halve space and/or time. In time the first frame stays alone: 1 + 2k frames become 1 + k."""

    def __init__(self, channels: int, space: bool, time: bool, operations, **where):
        super().__init__()
        self.space, self.time = space, time
        if space:
            conv = operations.Conv2d(channels, channels, 3, stride=2, **where)
            self.resample = nn.ModuleDict({"1": conv})
        if time:
            kernel, stride = (3, 1, 1), (2, 1, 1)
            self.time_conv = operations.Conv3d(channels, channels, kernel, stride, **where)

    @property
    def last_conv(self) -> Conv:
        return self.time_conv if self.time else self.resample["1"]

    def forward(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        if self.space:
            padded = F.pad(x_BTHWC, (0, 0, 0, 1, 0, 1))  # right and bottom
            x_BTHWC = convolve_frames(self.resample["1"], padded)
        return self.halve_time(x_BTHWC, clip) if self.time else x_BTHWC

    def halve_time(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        """Convolve with stride 2. Wan lets the first frame pass; else it is seen three times."""
        first = x_BTHWC[:, :1]
        if not clip.at_start:
            x_BTHWC = clip.with_past(self.time_conv, x_BTHWC, 1)
        elif clip.repeat_first:
            x_BTHWC = torch.cat([first, first, x_BTHWC], dim=1)
        if clip.at_start:
            clip.remember(self.time_conv, x_BTHWC, 1)
        if x_BTHWC.shape[1] < 3:
            return first  # Wan, an image or the first chunk
        halved = convolve(self.time_conv, x_BTHWC)
        passes_first = clip.at_start and not clip.repeat_first
        return torch.cat([first, halved], dim=1) if passes_first else halved


class Upsample(nn.Module):
    """Double space and/or time. In time the first frame stays alone: 1 + k frames become 1 + 2k."""

    def __init__(self, c_in: int, c_out: int, space: bool, time: bool, operations, **where):
        super().__init__()
        self.space, self.time = space, time
        if space:
            conv = operations.Conv2d(c_in, c_out, 3, padding=1, **where)
            self.resample = nn.ModuleDict({"1": conv})
        if time:
            self.time_conv = operations.Conv3d(c_in, 2 * c_in, (3, 1, 1), **where)

    @property
    def last_conv(self) -> Conv:
        return self.resample["1"] if self.space else self.time_conv

    def forward(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        if self.time:
            x_BTHWC = self.double_time(x_BTHWC, clip)
        if self.space:
            x_BTHWC = convolve_frames(self.resample["1"], repeat_cells(x_BTHWC))
        return x_BTHWC

    def double_time(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        """Two frames from each. Wan lets the first pass; else the later one of its two is kept."""
        passes_first = clip.at_start and not clip.repeat_first
        first = x_BTHWC[:, :1]
        if passes_first:
            x_BTHWC = x_BTHWC[:, 1:]
            if not x_BTHWC.shape[1]:
                return first
        pairs = causal(self.time_conv, x_BTHWC, clip).unflatten(-1, (2, -1))  # earlier, later
        doubled = pairs.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)
        if passes_first:
            return torch.cat([first, doubled], dim=1)
        return doubled[:, 1:] if clip.at_start else doubled


def repeat_cells(x_BTHWC: Tensor) -> Tensor:
    """Every row and column twice (nearest neighbour)."""
    B, T, H, W, C = x_BTHWC.shape
    cells = x_BTHWC.view(B, T, H, 1, W, 1, C).expand(-1, -1, -1, 2, -1, 2, -1)
    return cells.reshape(B, T, 2 * H, 2 * W, C)


def average_down(x_BTHWC: Tensor, c_out: int, ft: int, fs: int, clip: Clip) -> Tensor:
    """Fold ft frames of fs x fs cells into channels, then average neighbours down to c_out.

    The parameter-free shortcut of DC-AE (arXiv:2410.10733), in Wan 2.2's order of channels.
    """
    if clip.at_start and ft > 1:
        before = x_BTHWC[:, :1] if clip.repeat_first else torch.zeros_like(x_BTHWC[:, :1])
        x_BTHWC = torch.cat([before.expand(-1, ft - 1, -1, -1, -1), x_BTHWC], dim=1)
    B, T, H, W, C = x_BTHWC.shape
    cells = x_BTHWC.reshape(B, T // ft, ft, H // fs, fs, W // fs, fs, C)
    folded = cells.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(B, T // ft, H // fs, W // fs, c_out, -1)
    return folded.mean(-1)


def duplicate_up(x_BTHWC: Tensor, c_out: int, ft: int, fs: int, clip: Clip) -> Tensor:
    """Repeat channels, then unfold them into ft frames of fs x fs cells: back from average_down."""
    B, T, H, W, C = x_BTHWC.shape
    channels = x_BTHWC.repeat_interleave(c_out * ft * fs * fs // C, dim=-1)
    cells = channels.view(B, T, H, W, c_out, ft, fs, fs).permute(0, 1, 5, 2, 6, 3, 7, 4)
    unfolded = cells.reshape(B, T * ft, H * fs, W * fs, c_out)
    return unfolded[:, ft - 1 :] if clip.at_start else unfolded


class Stage(nn.Module):
    """Layers in a row plus a parameter-free shortcut (x, clip) -> Tensor round all of them."""

    def __init__(self, name: str, layers: list[nn.Module], shortcut=None):
        super().__init__()
        self.add_module(name, nn.ModuleList(layers))
        self.name, self.shortcut = name, shortcut

    def forward(self, x_BTHWC: Tensor, clip: Clip) -> Tensor:
        y = x_BTHWC
        for layer in self.get_submodule(self.name).children():
            y = layer(y, clip)
        return y if self.shortcut is None else y + self.shortcut(x_BTHWC, clip=clip)


def fold_pixels(video_BCFHW: Tensor, patch: int) -> Tensor:
    """x_BTHWC with patch x patch pixels as channels, ordered (C, column offset, row offset)."""
    x = video_BCFHW.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # B C F H q W r
    return x.permute(0, 2, 3, 5, 1, 6, 4).flatten(4)


def unfold_pixels(x_BTHWC: Tensor, patch: int) -> Tensor:
    """video_BCFHW: the exact inverse of `fold_pixels`."""
    x = x_BTHWC.unflatten(4, (-1, patch, patch))  # B F H W C r q
    return x.permute(0, 4, 1, 2, 6, 3, 5).flatten(5).flatten(3, 4)
