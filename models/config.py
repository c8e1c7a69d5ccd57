"""What a model is made of: frozen dataclasses and the named presets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple


class PatchSize(NamedTuple):
    """Latent cells per spacetime patch along time, height and width."""

    t: int = 1
    h: int = 2
    w: int = 2


@dataclass(frozen=True)
class TransformerConfig:
    """A PatchDiT. The defaults are what every Wan checkpoint shares."""

    width: int
    mlp_width: int
    heads: int
    layers: int
    in_channels: int = 16
    out_channels: int = 16
    patch: PatchSize = PatchSize()
    text_width: int = 4096
    text_length: int = 512  # shorter prompts are padded with zeros up to here and never masked
    frequency_width: int = 256  # sinusoidal features of a timestep
    image_width: int = 0  # CLIP image features (1280) joined in cross-attention; 0: no such branch
    image_positions: int = 0  # learned positions of those features (first-last-frame: 514)
    frame_timesteps: bool = False  # trained with one noise level per latent frame
    known_attends_known: bool = False  # tokens at timestep 0 attend only to each other
    eps: float = 1e-6

    def __post_init__(self):
        object.__setattr__(self, "patch", PatchSize(*self.patch))
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} over {self.heads} heads is not an even head size."
            )

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class VAEConfig:
    """A causal video autoencoder: 1 + 4k frames become 1 + k latent frames.

    `widths[i]` is `encoder_width * width_multipliers[i]` at stage i of the encoder; the decoder walks
    the stages backwards with `decoder_width`. Between stage i and i + 1 space is halved, and time too
    where `temporal_downsample[i]`.
    """

    latent_channels: int = 16
    encoder_width: int = 96
    decoder_width: int = 96
    width_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2  # residual blocks a stage; the decoder has one more, as in Wan
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    pixel_patch: int = 1  # space-to-depth before the first convolution
    shortcuts: bool = False  # parameter-free average-down / duplicate-up round each stage (Wan 2.2)
    layout: str = "wan2.1"  # "wan2.1", "wan2.2" or "mini": module names and block kind
    latent_mean: tuple[float, ...] = field(default=(), repr=False)
    latent_std: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self):
        for name in ("width_multipliers", "temporal_downsample", "latent_mean", "latent_std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
