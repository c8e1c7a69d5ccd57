"""Safetensors files, read and written; nothing is ever unpickled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # zip; protocols 2 to 5


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself before its data."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(path: str | Path) -> Header:
    """Names, shapes and metadata of a safetensors file; a ValueError says why it is not one."""
    with open_safetensors(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return Header(shapes, dict(file.metadata() or {}))


def read_tensors(path: str | Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, or all of them, on the CPU."""
    with open_safetensors(path) as file:
        return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    return read_header(path).metadata


def open_safetensors(path: str | Path):
    """An open safetensors file; a ValueError says what is there instead."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no file {path}; need a .safetensors file.")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} is {what_else(start)} ({error}).") from error


def what_else(start: bytes) -> str:
    """What a file is that safetensors refused; a good one may begin with these bytes too."""
    if start.startswith(PICKLES):
        return "a pickle, which is never opened; need .safetensors"
    if start == b"GGUF":
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
