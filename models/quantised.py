"""Weights in 8-bit floats: how a file says that it holds them, and what they stand for.

A quantised linear layer L has `L.weight` in 8-bit floats and, where it is scaled, one number that
its values are multiplied by: `L.scale_weight` in files with a root tensor `scaled_fp8` (the old
scheme), `L.weight_scale` with `L.comfy_quant` (JSON as bytes) or an entry in the file's
metadata (the new one). `L.scale_input` and `L.input_scale` serve only 8-bit matrix products.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .tensor_files import StoredTensor

MARKER = "scaled_fp8"
METADATA_KEY = "_quantization_metadata"
WEIGHT_SCALES = (".scale_weight", ".weight_scale")
EXTRAS = (*WEIGHT_SCALES, ".scale_input", ".input_scale", ".comfy_quant")
FLOATS8 = ("F8_E4M3", "F8_E5M2")
FORMATS = ("float8_e4m3fn", "float8_e5m2")

# The end of a tensor's name -> the format that only uses such tensors.
UNKNOWN_FORMATS = {
    ".weight_scale_2": "nvfp4",
    ".quant_state.bitsandbytes__nf4": "bitsandbytes NF4",
    ".quant_state.bitsandbytes__fp4": "bitsandbytes FP4",
    ".SCB": "bitsandbytes int8",
    ".qweight": "SVDQuant or GPTQ",
    ".wscales": "SVDQuant",
}


@dataclass(frozen=True)
class Quantisation:
    """How the weights of a file are stored; an empty `scheme` means plainly."""

    scheme: str = ""  # "", "fp8", "fp8 scaled", "fp8 scaled (old)" or a type of GGUF's
    layers: tuple[tuple[str, str], ...] = ()  # layer -> its JSON, from the file's metadata

    def __str__(self) -> str:
        return self.scheme


def is_extra(name: str) -> bool:
    """Whether a tensor belongs to the quantisation of a layer, not to the layer itself."""
    return name == MARKER or name.endswith(EXTRAS)


def scale_name(weight: str, tensors: Container[str]) -> str:
    """The tensor that an 8-bit weight is multiplied by; empty where it is not."""
    layer = weight.removesuffix(".weight")
    names = [layer + end for end in WEIGHT_SCALES if weight.endswith(".weight")]
    return next((name for name in names if name in tensors), "")


def names_scheme(tensors: Iterable[str], layers: Iterable[str]) -> bool:
    """Whether a file is quantised and says in which scheme, for every layer that has a scale.

    The old scheme is known by its marker, the new one by `comfy_quant` or, for `layers`, by the
    metadata. A ComfyUI takes a scale without such a word for a tensor that it does not know.
    """
    names = set(tensors)
    named = {n.removesuffix(".comfy_quant") for n in names if n.endswith(".comfy_quant")}
    old, new = (
        {name.removesuffix(end) for name in names if name.endswith(end)} for end in WEIGHT_SCALES
    )
    named |= set(layers) | (old if MARKER in names else set())
    return bool(named or MARKER in names) and old | new <= named


def find_quantisation(
    tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str], file: str
) -> Quantisation:
    """How a file's transformer is quantised, by names and types alone.

    A ValueError names the format if it is not 8-bit floats or GGUF's blocks.
    """
    for name in tensors:
        for end, what in UNKNOWN_FORMATS.items():
            if name.endswith(end):
                raise ValueError(unsupported(file, what))
    layers = layers_of_metadata(metadata, file)
    kinds = {tensor.kind for name, tensor in tensors.items() if name.endswith(".weight")}
    if any(name.endswith(".scale_weight") for name in tensors) or MARKER in tensors:
        return Quantisation("fp8 scaled (old)", layers)
    if any(name.endswith(".weight_scale") for name in tensors):
        return Quantisation("fp8 scaled", layers)
    return Quantisation("fp8" if kinds & set(FLOATS8) else "", layers)


def layers_of_metadata(metadata: Mapping[str, str], file: str) -> tuple[tuple[str, str], ...]:
    try:
        layers = json.loads(metadata.get(METADATA_KEY, "{}")).get("layers", {})
        found = tuple((name, json.dumps(entry)) for name, entry in layers.items())
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{file} has unreadable {METADATA_KEY} metadata; download it again."
        ) from error
    for _, entry in found:
        check_format(entry, file)
    return found


def check_format(text: str, file: str) -> None:
    """A ValueError unless the JSON of a layer asks for plain 8-bit floats."""
    try:
        entry = json.loads(text)
        kind = str(entry.get("format"))
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{file} has an unreadable comfy_quant entry; download it again."
        ) from error
    if kind not in FORMATS:
        raise ValueError(unsupported(file, kind))


def unsupported(file: str, kind: str) -> str:
    return (
        f"{file} is quantised as {kind}, which is not supported; choose a bf16, fp16, fp8 or GGUF "
        "file."
    )


def dequantise(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The weights that 8-bit floats stand for: times their scale, one number or one for each row.

    The product is rounded to `dtype` once.
    """
    if scale is None:
        return weight.to(dtype)
    scale = scale.float()
    if scale.numel() == 1:
        return weight.float().mul_(scale.reshape(())).to(dtype)
    if scale.numel() != weight.shape[0]:
        raise ValueError(
            f"Got scales of shape {tuple(scale.shape)} for a weight of {tuple(weight.shape)}; "
            "need one number, or one for each row."
        )
    return weight.float().mul_(scale.reshape(-1, *[1] * (weight.ndim - 1))).to(dtype)


def layer_json(text: str) -> Tensor:
    """The `comfy_quant` tensor that says the same as an entry in the metadata."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)
