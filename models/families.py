"""Video models in files of every public layout: told by their header alone, loaded by tensors.

While loading no more than one tensor is in memory besides the weights, and no file stays open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Attention, sdpa
from .blocks import Cast
from .checkpoints import HALVES, check_fit, config_of_part, configs_of, one_half
from .config import TRANSFORMER_PRESETS, TransformerConfig
from .foreign_files import NO_MODEL, what_else
from .quantised import (
    Quantisation,
    check_format,
    dequantise,
    find_quantisation,
    is_extra,
    layer_json,
    scale_name,
    unsupported,
)
from .tensor_files import DTYPES, StoredTensor
from .transformer import PatchDiT, use_as_is
from .video_files import KIND_WORDS, VideoModelFile, matrices, most_common_kind
from .wan_layouts import PREFIXES, config_of, family_of, original_names, own_tensors, size_of
from .weight_sets import WeightSet, check_room, find_weights, read_all

TITLES = {
    "wan2.1-t2v": "Wan 2.1 T2V",
    "wan2.1-i2v": "Wan 2.1 I2V",
    "wan2.1-flf2v": "Wan 2.1 FLF2V",
    "wan2.1-vace": "Wan VACE",
    "wan2.1-fun-inp": "Wan 2.1 Fun-InP",
    "wan2.2-t2v": "Wan 2.2 T2V",
    "wan2.2-i2v": "Wan 2.2 I2V",
    "wan2.2-ti2v": "Wan 2.2 TI2V",
    "patchdit": "PatchDiT",
}
ARCHITECTURES = ("", "wan", "pig")  # of GGUF files; "pig" stands for any video model


def find_video_model(path: str | Path, half: str = "") -> VideoModelFile:
    """Which video model a file, any shard of a set, an index or a folder holds.

    `half` ("high" or "low") says which half of Wan 2.2 it is, or is wanted where the file holds
    both under diffusers' names; empty: by the names of tensors and file. Reads headers only. A
    ValueError says in one sentence what the file holds instead, which tensors it lacks or has too
    many (the first five and how many), or which shard is missing.
    """
    found = find_weights(path)
    held = one_half(found.tensors, half, found.file, "Load Video Model")
    found = replace(found, tensors=held)
    refuse_others(found)
    tensors, prefix = own_tensors(found.tensors)
    half = half or ("low" if prefix == HALVES["low"] else "")
    own = config_of_part(found.metadata, "transformer", TransformerConfig, found.file)
    naming = "our own names"
    if own is None:
        tensors, diffusers = original_names(tensors, found.file)
        naming = "diffusers names" if diffusers else "original names"
        naming = "ComfyUI names" if prefix == PREFIXES[0] else naming
    quantisation = find_quantisation(tensors, found.metadata, found.file)
    check_kinds(tensors, found.file)
    shapes = {name: tensor.shape for name, tensor in tensors.items() if not is_extra(name)}
    config = own or config_of(shapes, found.file)
    check_fit(PatchDiT(config, device="meta").state_dict(), shapes, found.file)
    family, noise = ("patchdit", "") if own else family_of(config, found.path, half)
    preset = next((name for name, known in TRANSFORMER_PRESETS.items() if known == config), "")
    label = ", ".join(
        [
            f"{TITLES[family]} {size_of(preset, shapes)}",
            *([f"{noise}-noise half"] if noise else []),
            kind_word(tensors, quantisation),
            naming,
            *([f"{found.shards} shards"] if found.shards > 1 else []),
        ]
    )
    return VideoModelFile(found.path, family, label, config, preset, noise, quantisation, tensors)


def refuse_others(found: WeightSet) -> None:
    """Raise a ValueError that names what a file holds if it is no video model of ours or Wan's."""
    parts = configs_of(found.metadata, found.file)
    if "transformer" in parts:
        return
    if parts:
        raise ValueError(f"{found.file} is our own {', '.join(parts)}; need a transformer file.")
    if found.architecture not in ARCHITECTURES:
        raise ValueError(
            f"{found.file} is a {found.architecture} GGUF file, which is not supported; need wan."
        )
    names = set(own_tensors(found.tensors)[0])
    if any(name.startswith("vace_") for name in names) and not any(
        name.startswith("blocks.") for name in names
    ):
        raise ValueError(
            f"{found.file} holds only the VACE module; choose the full VACE file, base included."
        )
    what = what_else(names, NO_MODEL)
    if what:
        raise ValueError(
            f"{found.file} is a {what} file, which is not supported; need a Wan model."
        )


def check_kinds(tensors: Mapping[str, StoredTensor], file: str) -> None:
    """Raise a ValueError unless all weights are floats or blocks of GGUF that we can spell out."""
    for name, tensor in tensors.items():
        if name.endswith(".comfy_quant"):
            check_format(read_text(tensor), file)
        elif not is_extra(name):
            blocks = tensor.kind not in DTYPES and tensor.file.suffix.lower() == ".gguf"
            if not blocks and not DTYPES.get(tensor.kind, torch.uint8).is_floating_point:
                raise ValueError(unsupported(file, tensor.kind))


def read_text(stored: StoredTensor) -> str:
    return bytes(next(read_all([stored])).flatten().tolist()).decode("utf-8", "replace")


def kind_word(tensors: Mapping[str, StoredTensor], quantisation: Quantisation) -> str:
    kind = most_common_kind(matrices(tensors))
    if any(tensor.file.suffix.lower() == ".gguf" for tensor in tensors.values()):
        return f"GGUF {kind}"
    return quantisation.scheme or KIND_WORDS.get(kind, kind)


def load_video_model(
    file: VideoModelFile,
    dtype: torch.dtype | None = None,
    operations: Any = nn,
    attention: Attention = sdpa,
    cast: Cast = use_as_is,
    device: torch.device | str = "cpu",
    report: Callable[[int], None] | None = None,
) -> PatchDiT:
    """The network with its weights on `device`, in evaluation mode, all of one type.

    That is `dtype`, or the file's own; 8-bit floats and blocks of GGUF are spelled out, by default
    as bfloat16 (on the CPU float32). `report` is told how many are read. A ValueError if the
    machine's memory cannot hold it.
    """
    dtype = dtype or file.default_dtype(device)
    dtypes = dict.fromkeys(file.weights, dtype)
    if torch.device(device).type == "cpu":
        check_weights(file, dtypes)
    model = PatchDiT(file.config, operations, attention, cast, device="meta")
    for name, weight in counted(read_weights(file, dtypes, dtype), report):
        give_weight(model, name, weight.to(device))
    return model.eval()


def check_weights(file: VideoModelFile, dtypes: Mapping[str, torch.dtype]) -> None:
    """A ValueError if the machine's memory cannot hold the weights once they are of these types."""
    sizes: Counter[torch.dtype] = Counter()
    for name, stored in file.weights.items():
        sizes[dtypes[name]] += prod(stored.shape) * dtypes[name].itemsize
    most = str(max(sizes, key=lambda dtype: sizes[dtype])).removeprefix("torch.")
    check_room(sizes.total(), f"{file.path.name} as {most}")


def read_weights(
    file: VideoModelFile, dtypes: Mapping[str, torch.dtype], gguf_dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """(our name, weight as its entry of `dtypes`), one at a time, with its scale multiplied in.

    Blocks of GGUF are spelled out as `gguf_dtype` first.
    """
    weights = in_file_order(file.weights)
    for name, stored in zip(weights, read_all(weights.values(), gguf_dtype), strict=True):
        scale = scale_name(name, file.tensors)
        factor = next(read_all([file.tensors[scale]])) if scale else None
        yield name, dequantise(stored, factor, dtypes[name])


def read_state(
    file: VideoModelFile, gguf_dtype: torch.dtype = torch.bfloat16
) -> Iterator[tuple[str, Tensor]]:
    """(our name, tensor as stored), one at a time, for a host with 8-bit layers of its own.

    Scales come under the names of their scheme: `L.scale_weight` and the root's `scaled_fp8`, or
    `L.weight_scale` and `L.comfy_quant`, which is made where the file says it in its metadata.
    Blocks of GGUF are spelled out as `gguf_dtype`. A ValueError, before anything is read, if the
    machine's memory cannot hold it.
    """
    sizes = [
        tensor.bytes if tensor.kind in DTYPES else prod(tensor.shape) * gguf_dtype.itemsize
        for tensor in file.tensors.values()
    ]
    check_room(sum(sizes), file.path.name)
    return stored_state(file, gguf_dtype)


def stored_state(file: VideoModelFile, gguf_dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    tensors = in_file_order(file.tensors)
    yield from zip(tensors, read_all(tensors.values(), gguf_dtype), strict=True)
    for layer, text in file.named_layers.items():
        if f"{layer}.comfy_quant" not in file.tensors:
            yield f"{layer}.comfy_quant", layer_json(text)


def counted(
    items: Iterable[tuple[str, Tensor]], report: Callable[[int], None] | None
) -> Iterator[tuple[str, Tensor]]:
    """The items; after each, `report` is told how many there were so far."""
    for done, item in enumerate(items, 1):
        yield item
        if report is not None:
            report(done)


def in_file_order(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Sorted by where they lie, so that a disk reads on without seeking."""
    return dict(sorted(tensors.items(), key=lambda item: (str(item[1].file), item[1].offset)))


def give_weight(model: nn.Module, name: str, weight: Tensor) -> None:
    """Put a weight in the place of a meta parameter, which it fits."""
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, nn.Parameter(weight, requires_grad=False))
