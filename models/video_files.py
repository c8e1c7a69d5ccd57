"""A video model that was found in files: what their headers say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from .config import TransformerConfig
from .quantised import FLOATS8, Quantisation, is_extra, names_scheme
from .tensor_files import DTYPES, StoredTensor

KIND_WORDS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8"}


@dataclass(frozen=True)
class VideoModelFile:
    """A video model found in a file or set of shards; nothing but headers has been read."""

    path: Path
    family: str  # a key of families.TITLES
    label: str  # for people: family, size, type, naming
    config: TransformerConfig
    preset: str  # of config.TRANSFORMER_PRESETS; empty for other sizes
    noise: str  # "high" or "low" for one half of a pair, by the file's name; else empty
    quantisation: Quantisation
    tensors: dict[str, StoredTensor]  # our name -> where it lies, scales included

    @property
    def names(self) -> dict[str, tuple[Path, str]]:
        """Our name -> the file that it lies in and its name there."""
        return {name: (tensor.file, tensor.name) for name, tensor in self.tensors.items()}

    @property
    def weights(self) -> dict[str, StoredTensor]:
        """The network's own tensors, without the scales of 8-bit layers."""
        return {name: tensor for name, tensor in self.tensors.items() if not is_extra(name)}

    @property
    def bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.tensors.values())

    @property
    def parameters(self) -> int:
        return sum(prod(tensor.shape) for tensor in self.weights.values())

    @property
    def kind(self) -> str:
        """The type of most of the blocks' matrices, as the file calls it."""
        return most_common_kind(matrices(self.tensors))

    @property
    def named_layers(self) -> dict[str, str]:
        """Layers whose 8-bit format the file's metadata says -> the JSON that it says."""
        ours, found = {stored.name: name for name, stored in self.tensors.items()}, {}
        for layer, text in self.quantisation.layers:
            weight = ours.get(f"{layer}.weight", f"{layer}.weight")
            if weight in self.tensors:  # not of a model that lies beside
                found[weight.removesuffix(".weight")] = text
        return found

    @property
    def scheme_named(self) -> bool:
        """Whether the file says how all of its 8-bit layers are scaled, as ComfyUI reads it."""
        return names_scheme(self.tensors, self.named_layers)

    @property
    def quantised(self) -> bool:
        """Whether weights must be spelled out before they can be computed with."""
        return any(t.kind in FLOATS8 or t.kind not in DTYPES for t in self.weights.values())

    def default_dtype(self, device: torch.device | str = "cpu") -> torch.dtype:
        """The file's own; for 8-bit and GGUF files bfloat16, or float32 on the CPU."""
        if not self.quantised:
            return DTYPES[self.kind]
        return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16


def matrices(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The weights that make up nearly all of a large model: the rest may be of other types."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith("blocks.") and name.endswith(".weight") and len(tensor.shape) == 2
    }


def most_common_kind(tensors: Mapping[str, StoredTensor]) -> str:
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        sizes[tensor.kind] += tensor.bytes
    return sizes.most_common(1)[0][0]
