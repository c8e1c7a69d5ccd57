"""A step of Wan 1.3B at 832x480, 81 frames, in bfloat16, against what the device could do.

One network call (guidance makes two of them a step), with and without torch.compile, by every
attention backend that the device has. The floor is what a block's bare matrix products take on the
step's shapes, plus its attention by the fastest exact backend, times the blocks. SageAttention
rounds to 8 bits: it has a row, but no part in the floor, and may lie above it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from patchdit.benchmarks.speed_rows import (
    Row,
    Work,
    added_megabytes,
    attention_work,
    linear_work,
    take_turns,
)
from patchdit.models.attention import BACKENDS, Attention, attend_by, sdpa
from patchdit.models.config import TransformerConfig
from patchdit.models.transformer import PatchDiT

WAN_1_3B = TransformerConfig(1536, 8960, 12, 30)
CLIP = (1, 21, 60, 104)  # latent B, T, H, W of 81 frames of 832x480: 32760 tokens
TARGET = 0.85  # of the floor
DTYPE = torch.bfloat16
ROUNDED = ("sageattention",)


def cuda_rows(wanted: tuple[str, ...], repeats: int) -> list[Row]:
    """The rows whose names begin as wanted; none where there is no CUDA device."""
    if torch.cuda.is_available():
        return rows_on(torch.device("cuda"), WAN_1_3B, CLIP, wanted, repeats)
    if "cuda/".startswith(wanted) or any(name.startswith("cuda") for name in wanted):
        print("cuda/: skipped, this machine has no CUDA device.")
    return []


def rows_on(
    device: torch.device,
    config: TransformerConfig,
    shape: Sequence[int],
    wanted: tuple[str, ...] = ("",),
    repeats: int = 9,
    compiler: str = "inductor",
) -> list[Row]:
    """A row for each backend, eager and compiled; one that fails is left out, with the reason."""
    backends = backends_of(device, config.head_width)
    names = {
        f"cuda/1.3b/{way}/{backend}": (backend, way)
        for way in ("eager", "compiled")
        for backend in backends
    }
    names = {name: pair for name, pair in names.items() if name.startswith(wanted)}
    if not names:
        return []
    floor, rows = floor_seconds(device, config, shape, backends, repeats), []
    for name, (backend, way) in names.items():
        try:
            by = compiler if way == "compiled" else ""
            work = step_work(device, config, shape, backends[backend], by)
            (ours,) = take_turns([work], repeats)
            peaks = added_megabytes(work, device), 0.0
        except RuntimeError as error:
            print(f"{name}: skipped, {reason(error)}")
            continue
        finally:
            work = None
            forget(device)
        times = ours * 1e3, floor * 1e3
        rows.append(Row(name, "floor", *times, ours / floor, floor / ours, *peaks, TARGET))
    return rows


def backends_of(device: torch.device, head_width: int) -> dict[str, Attention]:
    """Every way to attend that this device has, by name; `ours` is what the model does itself."""
    found: dict[str, Attention] = {"ours": sdpa}
    for backend in BACKENDS:
        found[backend.name.lower().removesuffix("_attention")] = by_torch(backend)
    for package, attention in (("flash_attn", by_flash_attn), ("sageattention", by_sage)):
        if find_spec(package):
            found[package] = attention
    q = torch.randn(1, 2, 64, head_width, device=device, dtype=DTYPE)
    return {name: attention for name, attention in found.items() if can(name, attention, q)}


def can(name: str, attention: Attention, q_BNLH: Tensor) -> bool:
    """Whether a backend attends here; an old card or a broken build says so when it is tried."""
    try:
        return attention(q_BNLH, q_BNLH, q_BNLH).shape == q_BNLH.shape
    except (RuntimeError, ImportError, AssertionError, ValueError) as error:
        print(f"attention by {name}: not here ({reason(error)})")
        return False


def reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def by_torch(backend: SDPBackend) -> Attention:
    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return attend_by(backend, q, k, v)

    return attend


def by_flash_attn(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    from flash_attn import flash_attn_func  # pyright: ignore[reportMissingImports]

    return flash_attn_func(*(y.transpose(1, 2) for y in (q, k, v))).transpose(1, 2)


def by_sage(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    from sageattention import sageattn  # pyright: ignore[reportMissingImports]

    return sageattn(q, k, v, tensor_layout="HND")


def floor_seconds(
    device: torch.device,
    config: TransformerConfig,
    shape: Sequence[int],
    backends: dict[str, Attention],
    repeats: int,
) -> float:
    """What a call would take at the device's measured rates; shows the rates."""
    B, T, H, W = shape
    L = T * H * W // 4
    exact = [attention for name, attention in backends.items() if name not in ROUNDED]
    linear, linear_flops = linear_work(config, B * L, device, DTYPE)
    pairs = [attention_work(config, B, L, device, DTYPE, attention) for attention in exact]
    matmul, *attends = take_turns([linear, *(work for work, _ in pairs)], repeats)
    attend, attend_flops = min(attends), pairs[0][1]
    floor = config.layers * (matmul + attend)
    print(
        f"cuda/1.3b: matmul {linear_flops / matmul / 1e12:.2f} TFLOP/s, attention "
        f"{attend_flops / attend / 1e12:.2f} TFLOP/s, floor {floor:.4f} s a call"
    )
    return floor


@torch.no_grad()
def step_work(
    device: torch.device,
    config: TransformerConfig,
    shape: Sequence[int],
    attention: Attention,
    compiler: str = "",
) -> Work:
    """One network call on random weights made on the device; its prompt is known from before."""
    torch.manual_seed(0)
    B, T, H, W = shape
    network = PatchDiT(config, attention=attention, device=device, dtype=DTYPE).eval()
    text = network.text_keys_values(
        torch.randn(B, config.text_length, config.text_width, device=device, dtype=DTYPE)
    )
    if compiler:
        compiled: Callable = torch.compile(network.run_blocks, dynamic=False, backend=compiler)
        network.run_blocks = compiled
    x = torch.randn(B, config.in_channels, T, H, W, device=device, dtype=DTYPE)
    timestep = torch.full((B,), 500.0, device=device)
    return lambda: network(x, timestep, text)


def forget(device: torch.device) -> None:
    """Give a network's memory and its compiled code back before the next."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
