"""Inside ComfyUI: the device, its memory and where to keep its speed."""

# pyright: reportMissingImports=false
from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch

from ...models.config import TransformerConfig
from ...models.cost import config_of_shapes
from .described import Described, bytes_of, streaming_memory
from .duck import Vae


def describe(model: Any) -> Described:
    """Ours says its config; of core's networks the shapes of the weights tell it."""
    inner = model.model
    network = inner.diffusion_model
    config = getattr(network, "config", None)
    if not isinstance(config, TransformerConfig):
        weights = network.state_dict()
        config = config_of_shapes({name: tuple(w.shape) for name, w in weights.items()})
    dtype = inner.get_dtype_inference() or next(network.parameters()).dtype
    stride = getattr(model.get_model_object("latent_format"), "spacial_downscale_ratio", 8)
    return Described(config, model.model_size(), dtype, int(stride))


def compute_device() -> torch.device:
    return comfy.model_management.get_torch_device()


def device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return f"cpu {platform.machine()} x{torch.get_num_threads()}"
    return comfy.model_management.get_torch_device_name(device)


def room(model: Any) -> int | None:
    """What is free and what loaded models take of it, which core moves out when it needs room.

    On a CPU other models stay in memory, so only this one's weights count.
    """
    management = comfy.model_management
    device = management.get_torch_device()
    free = int(management.get_free_memory(device))
    if device.type == "cpu":
        return free + model.model_size()
    loaded = [m for m in management.current_loaded_models if m.device == device]
    return (
        free
        + sum(m.model_loaded_memory() for m in loaded)
        - int(management.extra_reserved_memory())
    )


def decode_memory(vae: Any, shape_BCTHW: tuple[int, ...]) -> int:
    """Ours streams; core's VAE says itself what a whole clip takes."""
    if isinstance(vae, Vae):
        return streaming_memory(vae, shape_BCTHW)
    return bytes_of(vae.first_stage_model) + int(vae.memory_used_decode(shape_BCTHW, vae.vae_dtype))


def speed_file() -> Path:
    return Path(folder_paths.get_system_user_directory("patchdit")) / "device_speed.json"
