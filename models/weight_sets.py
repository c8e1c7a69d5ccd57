"""What a path stands for: one file of weights or a set of shards, of whatever format."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .gguf_files import read_gguf_header, read_gguf_tensor
from .pickle_files import read_pickle_header, read_pickled
from .tensor_files import StoredTensor, read_header, read_tensor

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")
INDEX = ".safetensors.index.json"


@dataclass(frozen=True)
class WeightSet:
    """Everything that lies in one file or set of shards, by the names in it."""

    path: Path  # as it was asked for
    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]
    architecture: str = ""  # what a GGUF file says it is; empty in other formats

    @property
    def file(self) -> str:
        """What to call it in a sentence."""
        return self.path.name

    @property
    def shards(self) -> int:
        return len({tensor.file for tensor in self.tensors.values()})


def find_weights(path: str | Path, part: str = "transformer") -> WeightSet:
    """All tensors that a path stands for, by the headers alone.

    The path may be a file, any shard of a set, its index, or a folder, of which `part` is the
    sub-folder that matters if it is a whole diffusers pipeline. A ValueError names what is missing.
    """
    path = Path(path)
    tensors, metadata, architecture = {}, {}, ""
    for file in files_of(path, part):
        suffix = file.suffix.lower()
        if not file.is_file():
            raise ValueError(f"There is no file {file}; need a .safetensors, .gguf or .pt file.")
        if suffix == ".gguf":
            found, architecture = read_gguf_header(file)
        elif suffix in PICKLED:
            found = read_pickle_header(file)
        else:
            header = read_header(file)
            found = header.tensors
            metadata |= header.metadata
        tensors |= found
    return WeightSet(path, tensors, metadata, architecture)


def files_of(path: Path, part: str) -> list[Path]:
    """The files that belong together."""
    if path.is_dir():
        return files_of_folder(path, part)
    if path.name.endswith(INDEX):
        return files_of_index(path)
    match = SHARD.fullmatch(path.name)
    if not match:
        return [path]
    stem, _, count, suffix = match.groups()
    return whole(
        [path.with_name(f"{stem}-{i + 1:05}-of-{count}{suffix}") for i in range(int(count))]
    )


def files_of_folder(folder: Path, part: str) -> list[Path]:
    inside = sorted(file for file in folder.iterdir() if file.is_file())
    for index in inside:
        if index.name.endswith(INDEX):
            return files_of_index(index)
    weights = [file for file in inside if file.suffix == ".safetensors"]
    if not weights and (folder / part).is_dir():
        return files_of_folder(folder / part, part)
    sets = {tuple(files_of(file, part)) for file in weights}
    if len(sets) != 1:
        raise ValueError(
            f"The folder {folder.name} holds {len(sets)} models; choose one .safetensors file."
        )
    return list(sets.pop())


def files_of_index(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise ValueError(
            f"{index.name} is not a whole index of shards; download it again."
        ) from error
    return whole([index.with_name(Path(name).name) for name in sorted(names)])


def whole(files: list[Path]) -> list[Path]:
    """The files, all of which must be there."""
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{files[0].parent.name} lacks {len(missing)} of {len(files)} shards: {listed}; "
            "download them too."
        )
    return files


def read_all(
    tensors: Iterable[StoredTensor], gguf_dtype: torch.dtype = torch.bfloat16
) -> Iterator[Tensor]:
    """Tensors as stored, one at a time, in this order; blocks of GGUF as `gguf_dtype`."""
    tensors = list(tensors)
    if all(tensor.file.suffix.lower() in PICKLED for tensor in tensors):
        yield from read_pickled(tensors)
        return
    for tensor in tensors:
        is_gguf = tensor.file.suffix.lower() == ".gguf"
        yield read_gguf_tensor(tensor, gguf_dtype) if is_gguf else read_tensor(tensor)


def check_room(needed: int, what: str) -> None:
    """A ValueError if this many bytes are not free; nothing where that cannot be told."""
    free = free_memory()
    if free is not None and needed > free:
        raise ValueError(
            f"{what} needs {needed / 2**30:.1f} GB of memory and {free / 2**30:.1f} GB are free; "
            "choose a smaller file (fp8 or a smaller model) or close other programs."
        )


def free_memory() -> int | None:
    """Bytes of memory that can still be had; None where this cannot be told."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if importlib.util.find_spec("psutil") is None:  # ComfyUI brings it
        return None
    import psutil

    return psutil.virtual_memory().available
