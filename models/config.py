"""What a model is made of: frozen dataclasses and the named presets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod
from typing import NamedTuple


class PatchSize(NamedTuple):
    """Latent cells per spacetime patch along time, height and width."""

    t: int = 1
    h: int = 2
    w: int = 2

    def tokens(self, latent_THW: Sequence[int]) -> int:
        """Patches of one latent video; what is left over at an edge makes a whole one."""
        return prod(ceil(size / side) for size, side in zip(latent_THW, self, strict=True))


WAN_PATCH = PatchSize()


@dataclass(frozen=True)
class TransformerConfig:
    """A PatchDiT. The defaults are what every Wan checkpoint shares."""

    width: int
    mlp_width: int
    heads: int
    layers: int
    in_channels: int = 16
    out_channels: int = 16
    patch: PatchSize = WAN_PATCH
    text_width: int = 4096
    text_length: int = 512  # shorter prompts are padded with zeros up to here and never masked
    frequency_width: int = 256  # sinusoidal features of a timestep
    image_width: int = 0  # CLIP image features (1280) joined in cross-attention; 0: no such branch
    image_positions: int = 0  # learned positions of those features (first-last-frame: 514)
    vace_blocks: int = 0  # blocks that read a control video (VACE), at evenly spaced layers
    vace_channels: int = 0  # of that control: latents of what to keep and to change, and a mask
    frame_timesteps: bool = False  # trained with one noise level per latent frame
    known_attends_known: bool = False  # tokens at timestep 0 attend only to each other
    position_features: int = 0  # of a token's place along each axis, added to it; 0: rotary only
    eps: float = 1e-6

    def __post_init__(self):
        object.__setattr__(self, "patch", PatchSize(*self.patch))
        if self.heads < 1 or self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} over {self.heads} heads is not an even head size."
            )

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class TextConfig:
    """The mini model's text encoder; its width is the transformer's `text_width`."""

    vocabulary: int
    width: int = 192
    heads: int = 6
    layers: int = 3
    length: int = 80


@dataclass(frozen=True)
class VAEConfig:
    """A causal video autoencoder: 1 + 4k frames become 1 + k latent frames.

    Stage i of the encoder is `encoder_width * width_multipliers[i]` wide; the decoder walks the
    stages backwards with `decoder_width`. Between stage i and i + 1 space is halved where
    `spatial_downsample[i]` and time where `temporal_downsample[i]`.

    `layout` names the blocks: "wan2.1"; "wan2.2", whose stages have parameter-free shortcuts round
    them; "mini", which has those, factorised convolutions and no attention.
    """

    latent_channels: int = 16
    encoder_width: int = 96
    decoder_width: int = 96
    width_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2  # residual blocks a stage; the decoder has one more, as in Wan
    spatial_downsample: tuple[bool, ...] = (True, True, True)
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    pixel_patch: int = 1  # space-to-depth before the first convolution
    layout: str = "wan2.1"
    latent_mean: tuple[float, ...] = field(default=(), repr=False)  # empty: not normalised
    latent_std: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self):
        for name in (
            "width_multipliers",
            "spatial_downsample",
            "temporal_downsample",
            "latent_mean",
            "latent_std",
        ):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.layout not in ("wan2.1", "wan2.2", "mini"):
            raise ValueError(f"VAE layout {self.layout!r} is not one of wan2.1, wan2.2, mini.")
        between = len(self.width_multipliers) - 1
        if not len(self.spatial_downsample) == len(self.temporal_downsample) == between:
            raise ValueError(
                f"{between + 1} stages need {between} spatial and temporal reductions between "
                f"them, not {len(self.spatial_downsample)} and {len(self.temporal_downsample)}."
            )
        for name in ("latent_mean", "latent_std"):
            if len(getattr(self, name)) not in (0, self.latent_channels):
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} numbers for {self.latent_channels} "
                    "latent channels."
                )

    @property
    def factorised(self) -> bool:
        """1x3x3 and 3x1x1 convolutions instead of 3x3x3, no attention."""
        return self.layout == "mini"

    @property
    def grouped(self) -> bool:
        """Stages are modules with a parameter-free shortcut round them."""
        return self.layout != "wan2.1"

    @property
    def reductions(self) -> tuple[tuple[bool, bool], ...]:
        """(space, time) halved after each stage of the encoder; nothing after the last."""
        between = zip(self.spatial_downsample, self.temporal_downsample, strict=True)
        return (*between, (False, False))

    @property
    def spatial_stride(self) -> int:
        return self.pixel_patch * 2 ** sum(self.spatial_downsample)

    @property
    def temporal_stride(self) -> int:
        return 2 ** sum(self.temporal_downsample)


# Per channel, over the latents of Wan's training videos; published with the weights.
# fmt: off
WAN21_LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517,
    -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)
WAN21_LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579,
    1.6382, 1.1253, 2.8251, 1.916,
)
WAN22_LATENT_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813,
    0.0891, 0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108,
    -0.2158, 0.2502, -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313,
    -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.052, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944,
    0.3573, -0.0548, -0.1681, -0.0667,
)
WAN22_LATENT_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on

VAE_PRESETS: dict[str, VAEConfig] = {
    "wan2.1": VAEConfig(latent_mean=WAN21_LATENT_MEAN, latent_std=WAN21_LATENT_STD),
    "wan2.2": VAEConfig(
        latent_channels=48,
        encoder_width=160,
        decoder_width=256,
        pixel_patch=2,
        layout="wan2.2",
        latent_mean=WAN22_LATENT_MEAN,
        latent_std=WAN22_LATENT_STD,
    ),
    # Trained here: its latent mean and deviation are measured and travel with its weights.
    "blockworld-mini": VAEConfig(
        encoder_width=64,
        decoder_width=64,
        width_multipliers=(1, 2, 2),
        blocks=1,
        spatial_downsample=(True, False),
        temporal_downsample=(True, True),
        pixel_patch=4,
        layout="mini",
    ),
}

TEXT_PRESETS: dict[str, TextConfig] = {
    "blockworld-mini": TextConfig(vocabulary=1212),
    "blockworld-mini-gpu": TextConfig(vocabulary=1212, width=256, heads=8, layers=4),
}

_BLOCKWORLD = TransformerConfig(
    width=192,
    mlp_width=768,
    heads=6,
    layers=6,
    text_width=192,
    text_length=80,
    frame_timesteps=True,
    known_attends_known=True,
    position_features=16,
)
_WAN_1_3B = TransformerConfig(1536, 8960, 12, 30)
_WAN_14B = TransformerConfig(5120, 13824, 40, 40)
_WAN_I2V_14B = replace(_WAN_14B, in_channels=36)  # noise, 4 of mask, image latent
TRANSFORMER_PRESETS: dict[str, TransformerConfig] = {
    "wan2.1-1.3b": _WAN_1_3B,
    "wan2.1-14b": _WAN_14B,
    "wan2.1-i2v-14b": replace(_WAN_I2V_14B, image_width=1280),
    "wan2.1-vace-1.3b": replace(_WAN_1_3B, vace_blocks=15, vace_channels=96),
    "wan2.1-vace-14b": replace(_WAN_14B, vace_blocks=8, vace_channels=96),
    "wan2.1-fun-inp-1.3b": replace(_WAN_1_3B, in_channels=36, image_width=1280),
    "wan2.1-flf2v-14b": replace(_WAN_I2V_14B, image_width=1280, image_positions=514),
    "wan2.2-14b": _WAN_14B,  # two files, for high and for low noise, of the same shapes
    "wan2.2-i2v-14b": _WAN_I2V_14B,
    "wan2.2-ti2v-5b": TransformerConfig(
        3072, 14336, 24, 30, in_channels=48, out_channels=48, frame_timesteps=True
    ),
    "blockworld-mini": _BLOCKWORLD,
    "blockworld-mini-gpu": replace(
        _BLOCKWORLD, width=320, mlp_width=1280, heads=10, layers=7, text_width=256
    ),
}
