"""A row of the speed table, and how its numbers are taken: in turns, and against a floor.

Shapes: B batch, L tokens, S text tokens, N heads, H head size. Times are seconds unless named _ms.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from patchdit.models.attention import Attention
from patchdit.models.config import TransformerConfig

Work = Callable[[], object]

MINI = TransformerConfig(256, 1024, 8, 8, text_width=256)
WIDE = TransformerConfig(1536, 8960, 12, 4)  # Wan 2.1 1.3B, 4 of its 30 layers
STEPS = {  # config and latent B, T, H, W
    "step/mini/80": (MINI, (2, 5, 8, 8)),
    "step/mini/576": (MINI, (2, 9, 16, 16)),
    "step/wide/1560": (WIDE, (1, 1, 60, 104)),
    "step/wide/6240": (WIDE, (1, 4, 60, 104)),
}
MOST_RATIO = {"step/mini/80": 0.65, "step/mini/576": 0.65}  # of the faster of the two others
LEAST_OF_FLOOR = {"step/wide/1560": 0.92, "step/wide/6240": 0.92}


@dataclass(frozen=True)
class Row:
    """One comparison. `against` is diffusers, comfyui or floor; memory is what one call adds."""

    name: str
    against: str
    ours_ms: float
    theirs_ms: float
    ratio: float
    of_floor: float | None
    ours_peak_mb: float
    theirs_peak_mb: float
    target: float | None = None  # `of_floor` should be at least this
    most_ratio: float | None = None  # `ratio` should be at most this


def print_table(rows: Sequence[Row]) -> None:
    """Show rows; a number with its aim beside it has one."""
    print(f"\n{'row':30} {'ours ms':>9} {'theirs ms':>10} {'ratio':>13} {'of floor':>13}  peak MB")
    for r in rows:
        ratio, floor = with_aim(r.ratio, r.most_ratio), with_aim(r.of_floor, r.target)
        print(
            f"{r.name:30} {r.ours_ms:9.1f} {r.theirs_ms:10.1f} {ratio:>13} {floor:>13}"
            f"  {r.ours_peak_mb:.0f} / {r.theirs_peak_mb:.0f} ({r.against})"
        )


def with_aim(value: float | None, aim: float | None) -> str:
    number = "" if value is None else f"{value:.2f}"
    return number if aim is None else f"{number} ({aim:.2f})"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def usual_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def seconds(work: Work) -> float:
    """Of one call, until the device has done it."""
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def take_turns(works: Sequence[Work], repeats: int) -> list[float]:
    """Median seconds of each, run in turns after one warm-up."""
    for work in works:
        work()
    rounds = [[seconds(work) for work in works] for _ in range(repeats)]
    return [median(column) for column in zip(*rounds, strict=True)]


def added_megabytes(work: Work, device: torch.device) -> float:
    """Memory that one call takes on top of what is there; on a CPU, the first call of a process."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building the models
    before = status_megabytes("VmRSS")
    work()
    return status_megabytes("VmHWM") - before


def status_megabytes(field: str) -> float:
    """A line of Linux's own account of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1) @ v


def linear_work(
    config: TransformerConfig, tokens: int, device: torch.device, dtype: torch.dtype
) -> tuple[Work, float]:
    """A block's matrix products on `tokens` tokens, bare, and their FLOPs."""
    D, M = config.width, config.mlp_width
    shapes = [(D, D)] * 6 + [(D, M), (M, D)]  # self q k v o, cross q o, MLP
    where = {"device": device, "dtype": dtype}
    pairs = [(torch.randn(tokens, i, **where), torch.randn(o, i, **where)) for i, o in shapes]
    bias = {o: torch.randn(o, **where) for _, o in shapes}
    flops = sum(2.0 * tokens * i * o for i, o in shapes)
    return lambda: [F.linear(x, w, bias[len(w)]) for x, w in pairs], flops


def attention_work(
    config: TransformerConfig,
    B: int,
    L: int,
    device: torch.device,
    dtype: torch.dtype,
    attention: Attention,
) -> tuple[Work, float]:
    """A block's self- and cross-attention, bare, by one backend, and their FLOPs."""
    S, N, H = config.text_length, config.heads, config.head_width
    q, k, v = (torch.randn(B, N, L, H, device=device, dtype=dtype) for _ in range(3))
    tk, tv = (torch.zeros(B, N, S, H, device=device, dtype=dtype) for _ in range(2))
    flops = 4.0 * B * config.width * L * (L + S)
    return lambda: (attention(q, k, v), attention(q, tk, tv)), flops
