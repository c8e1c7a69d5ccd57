"""Without ComfyUI: the device, its memory and where to keep its speed."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from ...models import weight_sets
from ...standalone.folders import get_output_directory
from ...standalone.host import get_torch_device
from .described import Described, bytes_of, streaming_memory
from .duck import Model, Vae


def describe(model: Model) -> Described:
    network = model.network
    return Described(network.config, bytes_of(network), next(network.parameters()).dtype)


def compute_device() -> torch.device:
    return get_torch_device()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()} x{torch.get_num_threads()}"


def room(model: Model) -> int | None:
    """What is free and what the weights, which are on the device already, take of it."""
    free = free_memory(get_torch_device())
    return None if free is None else free + bytes_of(model.network)


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had; None where the system does not say."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return weight_sets.free_memory()


def decode_memory(vae: Vae, shape_BCTHW: tuple[int, ...]) -> int:
    return streaming_memory(vae, shape_BCTHW)


def speed_file() -> Path:
    return Path(get_output_directory()) / ".patchdit" / "device_speed.json"
