"""How a MODEL wants to be told what is known of a video, and the conditioning that tells it.

Core's model classes are told by their names, so that this needs no ComfyUI. B batch, C channels, F
pixel frames, T/H/W latent frames/rows/columns. Latents here are raw VAE means; masks are 1 where to
generate, and only what is 0 counts as known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...models.config import TransformerConfig
from ...models.timeline import pixel_frames
from ...models.vace import CELL, control_channels
from ..latent_dicts import check_channels
from .duck import decode_frames, encode_frames, spatial_stride
from .shown import MASK_PLANES, Shown, left_free, noting, without

CONCAT = "concat_latent_image", "concat_mask"
VACE = "vace_frames", "vace_mask", "vace_strength"
OURS = "patchdit_known"  # in a prompt's values: its entries were made here, and may be made anew


def fill_mode(model: Any, mask_B1THW: Tensor | None = None) -> str:
    """Which of three ways of keeping what is known the weights were trained for.

    | weights                                          | way                                     |
    |--------------------------------------------------|-----------------------------------------|
    | Wan I2V, FLF2V, Fun-InP (channels for an image)  | "native": concat_latent_image and mask  |
    | Wan VACE                                         | "native": vace_frames and vace_mask     |
    | HunyuanVideo and 1.5 with channels for an image  | "native": concat_latent_image and mask  |
    | ours, Wan 2.2 TI2V-5B loaded by us, LTXV         | "frames": known cells at noise level 0  |
    | Wan 2.2 TI2V-5B loaded by core                   | "frames" where whole latent frames are  |
    |                                                  | known; core averages levels over a      |
    |                                                  | frame, so for a region "replace"        |
    | all others (text to video)                       | "replace": held at the run's level      |
    """
    if native_kind(model):
        return "native"
    config = own_config(model)
    if config is not None:
        return "frames" if config.frame_timesteps else "replace"
    names = class_names(model)
    if "LTXV" in names:
        return "frames"
    if "WAN22" in names and (mask_B1THW is None or whole_frames(mask_B1THW)):
        return "frames"
    return "replace"


def native_kind(model: Any) -> str:
    """The conditioning through which weights are told what is known: "wan", "vace", "hunyuan".

    Empty for weights that have none. Wan's has 4 channels of mask and those of a latent more than
    what the weights make: other numbers are controls of another meaning.
    """
    config = own_config(model)
    if config is not None:
        image = config.in_channels == 2 * config.out_channels + MASK_PLANES
        return "vace" if config.vace_blocks else "wan" if image else ""
    names, inner = class_names(model), getattr(model, "model", None)
    if "WAN21_Vace" in names:
        return "vace"
    if "WAN21" in names:
        made = inner.latent_format.latent_channels  # pyright: ignore[reportOptionalMemberAccess]
        taken = inner.diffusion_model.patch_embedding.weight.shape[1]  # pyright: ignore
        return "wan" if taken == 2 * made + MASK_PLANES else ""
    if names & {"HunyuanVideoI2V", "HunyuanVideoSkyreelsI2V"}:
        return "hunyuan"
    if "HunyuanVideo15" in names:
        made = inner.latent_format.latent_channels  # pyright: ignore[reportOptionalMemberAccess]
        taken = inner.diffusion_model.img_in.proj.weight.shape[1]  # pyright: ignore
        return "hunyuan" if taken == 2 * made + 1 else ""
    return ""


def own_config(model: Any) -> TransformerConfig | None:
    """The config of a MODEL with our network; None for core's."""
    inner = getattr(model, "model", None)
    network = model.network if inner is None else inner.diffusion_model
    config = getattr(network, "config", None)
    return config if isinstance(config, TransformerConfig) else None


def class_names(model: Any) -> set[str]:
    """The names of the class of core's model, and of those that it is made from."""
    return {kind.__name__ for kind in type(getattr(model, "model", model)).__mro__}


def name_of(model: Any) -> str:
    """What to call a MODEL in a message."""
    return type(getattr(model, "model", model)).__name__


def whole_frames(mask_B1THW: Tensor) -> bool:
    """Whether a mask is the same all over each latent frame."""
    return bool((mask_B1THW == mask_B1THW[..., :1, :1]).all())


def check_pair(model: Any, low: Any | None) -> None:
    """ValueError unless `model`, with `low` for the steps at low noise, can make a whole run."""
    half, low_half = half_of(model), half_of(low)
    if low is None:
        if half == "high":
            raise ValueError(
                f"MODEL, {name_of(model)}, is the high-noise half of Wan 2.2: connect its low-noise"
                " half to model_low."
            )
        return
    if half == "low" or low_half == "high":
        raise ValueError(
            "The halves of Wan 2.2 are swapped: connect the high-noise half to model and the"
            " low-noise half to model_low."
        )
    ways = [(*latent_space(m), native_kind(m) or fill_mode(m)) for m in (model, low)]
    if ways[0] != ways[1]:
        raise ValueError(
            f"model ({said(ways[0])}) and model_low ({said(ways[1])}) differ in their latents or"
            " in how they are told what is known: connect two halves of one family."
        )


def half_of(model: Any) -> str:
    """Which half of Wan 2.2 a MODEL is, "high" or "low" noise, as its loader noted; else empty."""
    return getattr(getattr(model, "model", model), "noise_half", "")


def latent_space(model: Any) -> tuple[str, int]:
    """The name and the channels of the latents that a MODEL denoises."""
    inner = getattr(model, "model", None)
    if inner is None:
        return "latents", model.network.config.out_channels
    return type(inner.latent_format).__name__, inner.latent_format.latent_channels


def said(way: tuple[str, int, str]) -> str:
    return f"{way[0]} of {way[1]} channels, {way[2]}"


def shown_to(
    model: Any,
    shown: tuple[Shown, ...],
    mask_B1THW: Tensor | None,
    rest: dict[str, Any],
    *prompts: list,
) -> tuple[Tensor | None, dict[str, Any]]:
    """The mask of what a run keeps; and `rest`, noting those `shown` images to tell MODEL of.

    Weights that are told of pixel frames make the others themselves: where only some of a latent
    frame's are known, `with_known` tells of those, and the mask lets the run make the latent. Not
    where prompts say already what is known: it would neither be told nor held.
    """
    told = any(told_elsewhere(values, CONCAT) for prompt in prompts for _, values in prompt)
    if mask_B1THW is None or told or native_kind(model) != "wan":
        return mask_B1THW, noting(rest, ())
    return left_free(mask_B1THW, shown), noting(rest, shown)


def with_known(
    model: Any,
    vae: Any | None,
    latent_BCTHW: Tensor,
    mask_B1THW: Tensor,
    positive: list,
    negative: list,
    shown: Sequence[Sequence] = (),
) -> tuple[list, list]:
    """Both prompts with what is known, as weights whose `fill_mode` is "native" were trained on it.

    `shown` are the images that `shown_to` noted. Prompts that say what is known already, through
    core's nodes, stay as they are, and need no VAE. A ValueError where one is needed and there is
    none.
    """
    keys = VACE if native_kind(model) == "vace" else CONCAT
    wanting = any(not told_elsewhere(values, keys) for _, values in (*positive, *negative))
    entries: dict[str, Any] = {}
    if wanting and (shown or bool((mask_B1THW == 0).any())):
        images = [Shown(*note) for note in shown]
        entries = known_entries(model, vae, latent_BCTHW, mask_B1THW, images)
    return put_known(positive, entries), put_known(negative, entries)


def told_elsewhere(values: dict, keys: tuple[str, ...]) -> bool:
    return OURS not in values and any(key in values for key in keys)


def put_known(prompt: list, entries: dict[str, Any]) -> list:
    """The prompt with these entries in place of any that were made here before."""
    put = []
    for features, values in prompt:
        ours = values.get(OURS, ())
        rest = {key: v for key, v in values.items() if key != OURS and key not in ours}
        if entries and not entries.keys() & rest.keys():
            rest |= {**entries, OURS: tuple(entries)}
        put.append([features, rest])
    return put


def known_in(*prompts: list) -> dict[str, Any]:
    """The entries that `with_known` put into prompts; none: empty."""
    marked = (values for prompt in prompts for _, values in prompt if OURS in values)
    values = next(marked, {})
    return {key: values[key] for key in values.get(OURS, ())}


def known_entries(
    model: Any,
    vae: Any | None,
    latent_BCTHW: Tensor,
    mask_B1THW: Tensor,
    shown: Sequence[Shown] = (),
) -> dict[str, Any]:
    """What a prompt of this MODEL has to carry, by the names that core's nodes give it.

    Wan is shown a clip whose unknown pixels are grey, HunyuanVideo one whose unknown latents are 0.
    Images in `shown` are told as core's WanFirstLastFrameToVideo tells them, wherever they stand.
    """
    known_B1THW = mask_B1THW == 0
    unknown_B1THW = (~known_B1THW).float()
    kind = native_kind(model)
    if kind == "hunyuan":
        clip = torch.where(known_B1THW, latent_BCTHW, torch.zeros_like(latent_BCTHW))
        return dict(zip(CONCAT, (clip, unknown_B1THW), strict=True))
    if vae is None:
        raise ValueError(
            f"MODEL, {name_of(model)}, is told what is known through encoded frames: connect vae."
        )
    clip = greyed(vae, latent_BCTHW, known_B1THW, shown)
    if kind == "wan":
        planes = unknown_B1THW.repeat(1, MASK_PLANES, 1, 1, 1)
        for images in shown:
            images.put_planes(planes)
        return dict(zip(CONCAT, (clip, planes), strict=True))
    grey = greyed(vae, latent_BCTHW[:1], torch.zeros_like(known_B1THW[:1])).expand_as(clip)
    control = control_channels(clip, grey, unknown_B1THW)
    frames, planes = control.split((2 * clip.shape[1], CELL**2), dim=1)
    return dict(zip(VACE, ([frames], [planes], [1.0]), strict=True))


def greyed(
    vae: Any, latent_BCTHW: Tensor, known_B1THW: Tensor, shown: Sequence[Shown] = ()
) -> Tensor:
    """latent_BCTHW of the clips with grey for unknown pixels; what is known is as it was given.

    The frames that are known from the beginning on are decoded, since the autoencoder's first grey
    latents see them; other known latents are only put in their places. Images are `shown` in the
    clips themselves: nothing is put in the place of their latents.
    """
    stride, shape = spatial_stride(vae), latent_BCTHW.shape
    size = pixel_frames(shape[2]), shape[3] * stride, shape[4] * stride, 3
    given_B1THW = without(known_B1THW, shown)
    items = []
    for latent_CTHW, given_1THW in zip(latent_BCTHW, given_B1THW, strict=True):
        grey_FHWC = torch.full(size, 0.5)
        begun = int(given_1THW.flatten(2).all(2).squeeze(0).int().cumprod(0).sum())
        if begun:
            own_FHWC = torch.cat([*decode_frames(vae, latent_CTHW[None, :, :begun])])
            grey_FHWC[: len(own_FHWC)] = own_FHWC.to(grey_FHWC)
        for images in shown:
            images.put_into(grey_FHWC)
        items.append(encode_frames(vae, grey_FHWC, lambda done: None).to(latent_CTHW))
    encoded_BCTHW = torch.cat(items)
    check_channels(encoded_BCTHW, shape[1])
    return torch.where(given_B1THW, latent_BCTHW, encoded_BCTHW)
