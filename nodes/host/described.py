"""What of a MODEL decides the cost of a run, on either host."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...models.config import TransformerConfig
from ...models.cost import decode_bytes
from .duck import Vae


@dataclass(frozen=True)
class Described:
    """A MODEL's shape, the bytes of its weights, the type it computes in, its pixels per cell."""

    config: TransformerConfig
    weight_bytes: int
    dtype: torch.dtype
    stride: int = 8


def bytes_of(module: torch.nn.Module) -> int:
    """Bytes of a module's weights."""
    return sum(weight.nbytes for weight in module.state_dict().values())


def streaming_memory(vae: Vae, shape_BCTHW: tuple[int, ...]) -> int:
    """Bytes of our VAE, weights and work: the same for a clip of any length."""
    module = vae.first_stage_model
    size = next(module.parameters()).element_size()
    return bytes_of(module) + decode_bytes(module.config, *shape_BCTHW[3:], value_bytes=size)
