"""What a family of video models was trained at, where its weights do not say."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Any

from ...models.config import WAN_PATCH, PatchSize
from ...models.solvers import shift_for
from ...models.timeline import STRIDE
from ...models.video_vae import VideoVAE
from .duck import latent_channels
from .native import class_names, native_kind, own_config


@dataclass(frozen=True)
class Facts:
    """Frames per second and the longest clip, in frames, that a model knows."""

    fps: float
    frames: int


BLOCKWORLD = Facts(8, 33)
WAN = Facts(16, 81)
WAN_TI2V = Facts(24, 121)
WAN_SHIFT = 8.0  # of core's Wan classes
TEXT_BOUNDARY, IMAGE_BOUNDARY = 0.875, 0.9  # sigmas, of Wan 2.2 A14B's T2V and I2V
FAMILIES = {  # by the class of core's model; other Wan classes begin with WAN21 or WAN22
    "PatchDiTModel": BLOCKWORLD,
    "WAN21": WAN,
    "WAN22": WAN_TI2V,
    "HunyuanVideo": Facts(24, 129),
    "LTXV": Facts(25, 97),
}
OTHERS = Facts(16, 81)


def facts_of(model: Any) -> Facts:
    """Facts of a MODEL; without ComfyUI its loader noted the family."""
    inner = getattr(model, "model", None)
    if inner is None:
        known = {"patchdit": BLOCKWORLD, "wan2.2-ti2v": WAN_TI2V}
        return known.get(model.family, WAN)
    names = [kind.__name__ for kind in type(inner).__mro__]
    return next((FAMILIES[name] for name in names if name in FAMILIES), OTHERS)


def rate_of(vae: Any) -> float:
    """Frames per second of what a VAE's family makes, for videos that say none; a MODEL says it
    better."""
    own = getattr(vae, "first_stage_model", None)
    if isinstance(own, VideoVAE) and own.config.layout == "mini":
        return BLOCKWORLD.fps
    return rate_of_channels(latent_channels(vae))


def rate_of_channels(channels: int | None) -> float:
    """The same where not even the VAE is there: of latents that no node of ours began."""
    return {48: WAN_TI2V, 128: FAMILIES["LTXV"]}.get(channels or 0, WAN).fps


def stride_of(model: Any) -> int:
    """Pixel frames per latent frame, after the first, of a MODEL's latents; core's formats say it.

    A VAE that is there says it better: `temporal_stride`.
    """
    inner = getattr(model, "model", None)
    space = model.latents if inner is None else inner.latent_format
    if inner is None:
        return getattr(space, "temporal_stride", STRIDE)
    stride = getattr(space, "temporal_downscale_ratio", 1)
    return stride if stride > 1 else STRIDE


def patch_of(model: Any) -> PatchSize:
    """The latent cells of a token of a MODEL's network: LTX's wide cells are one each."""
    config = own_config(model)
    if config is not None:
        return config.patch
    return PatchSize(1, 1, 1) if "LTXV" in class_names(model) else WAN_PATCH


def shift_of(model: Any, tokens: int) -> float:
    """The schedule's shift: by the number of tokens for our weights, else what the MODEL says.

    Core's schedule of the Flux kind, which LTXV has too, says it as an exponent.
    """
    if facts_of(model) is BLOCKWORLD:
        return shift_for(tokens)
    if not hasattr(model, "get_model_object"):
        return WAN_SHIFT
    sampling = model.get_model_object("model_sampling")
    shift = float(getattr(sampling, "shift", 1.0))
    return exp(shift) if "ModelSamplingFlux" in class_names(sampling) else shift


def boundary_of(model: Any) -> float:
    """The sigma at which weights of this kind, if they are half of a pair, leave off.

    Those that take an image beside the latent (I2V, Fun-InP) were trained apart at another level.
    """
    return IMAGE_BOUNDARY if native_kind(model) == "wan" else TEXT_BOUNDARY


def guides_itself(model: Any) -> bool:
    """Whether another node has put a guidance of its own on a MODEL (RescaleCFG ...)."""
    options = getattr(model, "model_options", {})
    return any(name.startswith("sampler_") and name.endswith("_function") for name in options)
