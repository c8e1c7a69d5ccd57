"""How fast a device is: measured once in under two seconds, then read from a file."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F

from .cost import Speed

BUDGET = 0.3  # seconds that each of the four measurements may repeat for


def speed_of(device: torch.device, dtype: torch.dtype, name: str, file: Path) -> Speed:
    """The speed of a device at a type of numbers, from `file` or else measured and written there.

    `name` tells devices of one kind apart. Each device, torch version and type has its own entry; a
    file that cannot be read or written costs a measurement, not the run.
    """
    key = f"{name} | torch {torch.__version__} | {str(dtype).removeprefix('torch.')}"
    entries = read_entries(file)
    try:
        return Speed(**entries[key])
    except (KeyError, TypeError):
        speed = measure(device, dtype)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        beside.write_text(json.dumps({**entries, key: asdict(speed)}, indent=1))
        beside.replace(file)
    except OSError as error:
        logging.warning("Estimate Cost: cannot keep the device's speed in %s (%s).", file, error)
    return speed


def read_entries(file: Path) -> dict[str, dict[str, float]]:
    """Speeds by device, as they were written; none where the file is absent or damaged."""
    try:
        entries = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


@torch.no_grad()
def measure(device: torch.device, dtype: torch.dtype) -> Speed:
    """Time a matrix product, attention, elementwise work and a call that does next to nothing."""
    side = 256 if device.type == "cpu" else 4096
    length, heads, width = (512, 4, 64) if device.type == "cpu" else (8192, 12, 128)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.ones(shape, device=device, dtype=dtype) / 8

    square, q, tiny = numbers(side, side), numbers(1, heads, length, width), numbers(1)
    # A block's own order of size: on a CPU its tensors fit a cache, and large ones would not.
    wide = numbers(side, 4 * side)
    return Speed(
        linear=2 * side**3 / seconds(lambda: F.linear(square, square), device),
        attention=4
        * heads
        * length**2
        * width
        / seconds(lambda: F.scaled_dot_product_attention(q, q, q), device),
        traffic=5 * wide.nbytes / seconds(lambda: F.gelu(wide, approximate="tanh") * wide, device),
        call=seconds(lambda: F.layer_norm(tiny, tiny.shape), device),
    )


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """The least time that some work takes: what else the machine does only adds to it."""
    work()
    wait(device)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - start < BUDGET and len(times) < 200):
        begin = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - begin)
    return max(min(times), 1e-7)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type in ("cuda", "xpu", "mps"):
        getattr(torch, device.type).synchronize()
