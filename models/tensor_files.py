"""Safetensors files, read and written; nothing is ever unpickled.

Tensors are read into memory of their own, never mapped: a mapped file counts twice while its
tensors are copied, and Windows cannot replace it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # zip; protocols 2 to 5
LONGEST_HEADER = 100_000_000  # as safetensors has it

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a file, and as what; none of its values are in memory.

    `kind` is a name of safetensors' (`DTYPES`) or of GGUF's types.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    kind: str
    bytes: int
    offset: int = 0  # from the start of the file, where it lies there in one piece


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself before its data."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def read_header(path: str | Path) -> Header:
    """What lies in a safetensors file and its metadata; a ValueError says why it is not one.

    Not mapped, as safetensors itself would: that fails for a file larger than the memory.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no file {path}; need a .safetensors file.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            text = file.read(length) if length <= min(size, LONGEST_HEADER) else b""
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        return parse_header(path, json.loads(text), 8 + length, size)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} is {what_else(start)} ({error}).") from error


def parse_header(path: Path, entries: dict[str, Any], first: int, size: int) -> Header:
    """Entries of a header whose data begins at byte `first`; a ValueError if they do not add up."""
    metadata, tensors, end = entries.pop("__metadata__", None) or {}, {}, 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, after = entry["data_offsets"]
        shape, kind = tuple(entry["shape"]), entry["dtype"]
        needed = prod(shape) * DTYPES[kind].itemsize if kind in DTYPES else after - begin
        if begin != end or after - begin != needed:
            raise ValueError(f"{name} does not lie where it should")
        tensors[name] = StoredTensor(path, name, shape, kind, after - begin, first + begin)
        end = after
    if first + end != size:
        raise ValueError(f"{size} bytes long instead of {first + end}")
    return Header(tensors, metadata)


def read_tensors(path: str | Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, or all of them, on the CPU."""
    tensors = read_header(path).tensors
    return {name: read_tensor(tensors[name]) for name in (tensors if names is None else names)}


def read_tensor(stored: StoredTensor) -> Tensor:
    """The tensor as it lies in the file, on the CPU; needs an `offset`."""
    if stored.kind not in DTYPES:
        raise ValueError(f"{stored.file.name} holds {stored.name} as {stored.kind}, unknown here.")
    return read_bytes(stored).view(DTYPES[stored.kind]).reshape(stored.shape)


def read_bytes(stored: StoredTensor) -> Tensor:
    """The bytes of a tensor, uint8, on the CPU; a ValueError if the file has become shorter."""
    values = torch.empty(stored.bytes, dtype=torch.uint8)
    with stored.file.open("rb") as file:
        file.seek(stored.offset)
        count = file.readinto(values.numpy())  # pyright: ignore
    if count != stored.bytes:
        raise ValueError(
            f"{stored.file.name} ends within {stored.name}; download or save it again."
        )
    return values


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    return read_header(path).metadata


def what_else(start: bytes) -> str:
    """What a file is that safetensors refused; a good one may begin with these bytes too."""
    if start.startswith(PICKLES):
        return "a pickle, which is never opened; need .safetensors"
    if start.startswith(b"GGUF"):
        return "a GGUF file; need .safetensors"
    return "not a whole safetensors file; download or save it again"


def save_checkpoint(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; it appears under its name only once it is whole."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        usual = temporary.stat().st_mode  # safetensors would leave the file to its owner alone
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
            str(temporary),
            dict(metadata or {}),
        )
        temporary.chmod(usual)
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"Could not write {path} ({error}); need a folder that is writable and has room."
        ) from error
    finally:
        with suppress(OSError):  # most often there is none
            temporary.unlink()
