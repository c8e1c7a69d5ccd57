"""GGUF files of video models, read with the `gguf` package where it is installed."""

from __future__ import annotations

import importlib.util
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from .tensor_files import DTYPES, StoredTensor, read_bytes, read_tensor

SHAPE_KEY = "comfy.gguf.orig_shape."  # more than four dimensions do not fit into ggml's


def read_gguf_header(path: Path) -> tuple[dict[str, StoredTensor], str]:
    """The tensors of a GGUF file with torch's shapes, and the architecture that it names."""
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"{path.name} is a GGUF file; reading it needs: pip install gguf")
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        tensors = {}
        for tensor in reader.tensors:
            shape = reader.get_field(SHAPE_KEY + tensor.name)
            dims = shape.contents() if shape is not None else reversed(tensor.shape.tolist())
            tensors[tensor.name] = StoredTensor(
                path,
                tensor.name,
                tuple(int(size) for size in dims),
                tensor.tensor_type.name,
                int(tensor.n_bytes),
                int(tensor.data_offset),
            )
        field = reader.get_field("general.architecture")
        architecture = str(field.contents()) if field is not None else ""
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ValueError(
            f"{path.name} is not a whole GGUF file ({error}); download it again."
        ) from error
    size = path.stat().st_size
    for tensor in tensors.values():
        if tensor.offset + tensor.bytes > size:
            raise ValueError(f"{path.name} ends within {tensor.name}; download it again.")
    return tensors, architecture


def read_gguf_tensor(stored: StoredTensor, dtype: torch.dtype) -> Tensor:
    """A tensor of a GGUF file, blocks spelled out as `dtype`; plain types stay as stored."""
    if stored.kind in DTYPES:
        return read_tensor(stored)
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType[stored.kind]
    values, width = GGML_QUANT_SIZES[kind]  # of a block: how many values, in how many bytes
    if stored.bytes // width * values != prod(stored.shape):
        raise ValueError(
            f"{stored.file.name} holds {stored.bytes // width * values} values for {stored.name}, "
            f"whose shape is {stored.shape}."
        )
    row = stored.shape[-1] // values * width or width  # the package works through some rows at once
    try:
        spelled_out = dequantize(read_bytes(stored).view(-1, row).numpy(), kind)
    except NotImplementedError as error:
        raise ValueError(
            f"{stored.file.name} holds {stored.name} as {stored.kind}, which the gguf package "
            "cannot spell out; choose a Q8_0, Q6_K or Q4_K file."
        ) from error
    return torch.from_numpy(spelled_out).to(dtype).reshape(stored.shape)
