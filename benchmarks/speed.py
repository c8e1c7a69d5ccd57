"""Seconds for a denoising step and for the autoencoder, against diffusers on the same weights.

    python benchmarks/speed.py [--json FILE] [--rows step/mini vae] [--repeats 9]

Ours and theirs take turns in one run, so that a busy machine slows both. Beside each step the
machine's own rates are measured on the step's shapes: matrix products, and attention with the best
backend. The floor is what the step would take at those rates: linear FLOPs / matmul rate +
attention FLOPs / attention rate. A step of ours has its prompt's keys and values from the step
before, as in a real run.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from patchdit.models.checkpoints import in_diffusers
from patchdit.models.checkpoints_vae import diffusers_vae_names
from patchdit.models.config import VAE_PRESETS, TransformerConfig
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE

MINI = TransformerConfig(256, 1024, 8, 8, text_width=256)
WIDE = TransformerConfig(1536, 8960, 12, 4)  # Wan 2.1 1.3B, 4 of its 30 layers
STEPS = {  # config and latent B, T, H, W
    "step/mini/80": (MINI, (2, 5, 8, 8)),
    "step/mini/576": (MINI, (2, 9, 16, 16)),
    "step/wide/1560": (WIDE, (1, 1, 60, 104)),
    "step/wide/6240": (WIDE, (1, 4, 60, 104)),
}
VAES = {  # preset, what it does, pixel frames and side
    "vae/wan2.1/encode": ("wan2.1", "encode", 5, 64),
    "vae/wan2.1/decode": ("wan2.1", "decode", 5, 64),
    "vae/wan2.2/encode": ("wan2.2", "encode", 5, 64),
    "vae/wan2.2/decode": ("wan2.2", "decode", 5, 64),
}


@dataclass(frozen=True)
class Row:
    name: str
    against: str
    ours_ms: float
    theirs_ms: float
    ratio: float
    of_floor: float | None
    ours_peak_mb: float
    theirs_peak_mb: float


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    if device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def take_turns(works: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each, run in turns after one warm-up."""
    for work in works:
        work()
    rounds = [[seconds(work) for work in works] for _ in range(repeats)]
    return [median(column) for column in zip(*rounds, strict=True)]


def wan_in_diffusers(config: TransformerConfig, ours: PatchDiT) -> torch.nn.Module:
    from diffusers import WanTransformer3DModel

    theirs = WanTransformer3DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.head_width,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        text_dim=config.text_width,
        freq_dim=config.frequency_width,
        ffn_dim=config.mlp_width,
        num_layers=config.layers,
    )
    theirs.load_state_dict({in_diffusers(k): v for k, v in ours.state_dict().items()})
    return theirs.to(next(ours.parameters())).eval()


def step_works(name: str) -> tuple[Callable, Callable]:
    """One network call of ours and one of diffusers on the same weights and input."""
    config, (B, T, H, W) = STEPS[name]
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device().type == "cuda" else torch.float32
    ours = PatchDiT(config).to(device(), dtype).eval()
    theirs = wan_in_diffusers(config, ours)
    x = torch.randn(B, config.in_channels, T, H, W, device=device(), dtype=dtype)
    timestep = torch.full((B,), 500.0, device=device())
    context = torch.randn(B, config.text_length, config.text_width, device=device(), dtype=dtype)
    text = ours.text_keys_values(context)
    return (
        lambda: ours(x, timestep, text),
        lambda: theirs(x, timestep, context, return_dict=False)[0],
    )


def linear_work(config: TransformerConfig, tokens: int) -> tuple[Callable, float]:
    """A block's matrix products on `tokens` tokens, bare, and their FLOPs."""
    D, M = config.width, config.mlp_width
    shapes = [(D, D)] * 6 + [(D, M), (M, D)]  # self q k v o, cross q o, MLP
    dtype = torch.bfloat16 if device().type == "cuda" else torch.float32
    pairs = [
        (
            torch.randn(tokens, i, device=device(), dtype=dtype),
            torch.randn(o, i).to(device(), dtype),
        )
        for i, o in shapes
    ]
    bias = {o: torch.randn(o, device=device(), dtype=dtype) for _, o in shapes}
    flops = sum(2.0 * tokens * i * o for i, o in shapes)
    return lambda: [F.linear(x, w, bias[len(w)]) for x, w in pairs], flops


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1) @ v


def attention_works(config: TransformerConfig, B: int, L: int) -> tuple[list[Callable], float]:
    """A block's self- and cross-attention, bare, by each backend, and their FLOPs."""
    dtype = torch.bfloat16 if device().type == "cuda" else torch.float32
    shape = (B, config.heads, L, config.head_width)
    q, k, v = (torch.randn(shape, device=device(), dtype=dtype) for _ in range(3))
    S = config.text_length
    tk, tv = (
        k.new_zeros(B, config.heads, S, config.head_width),
        v.new_zeros(B, config.heads, S, config.head_width),
    )
    flops = 4.0 * B * config.width * L * (L + S)
    backends = (F.scaled_dot_product_attention, plain)
    return [lambda a=a: (a(q, k, v), a(q, tk, tv)) for a in backends], flops


def step_row(name: str, repeats: int) -> Row:
    config, (B, T, H, W) = STEPS[name]
    L = T * H * W // 4
    linear, linear_flops = linear_work(config, B * L)
    attentions, _ = attention_works(config, B, L)
    times = take_turns([*step_works(name), linear, *attentions], repeats)
    ours, theirs, matmul, attention = *times[:3], min(times[3:])
    floor = config.layers * (matmul + attention)
    print(
        f"{name}: matmul {linear_flops / matmul / 1e9:.0f} GFLOP/s, floor {floor * 1e3:.1f} ms "
        f"(attention {config.layers * attention * 1e3:.1f} ms)"
    )
    return row(name, ours, theirs, floor / ours)


def row(name: str, ours: float, theirs: float, of_floor: float | None) -> Row:
    peaks = [peak_megabytes(name, which) for which in (0, 1)]
    return Row(name, "diffusers", ours * 1e3, theirs * 1e3, ours / theirs, of_floor, *peaks)


def vae_works(name: str) -> tuple[Callable, Callable]:
    from diffusers import AutoencoderKLWan

    preset, verb, frames, side = VAES[name]
    config = VAE_PRESETS[preset]
    torch.manual_seed(0)
    ours = VideoVAE(config).to(device()).eval()
    extra = {}
    if preset == "wan2.2":
        extra = dict(
            base_dim=160,
            decoder_base_dim=256,
            z_dim=48,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            is_residual=True,
            scale_factor_spatial=16,
            latents_mean=list(config.latent_mean),
            latents_std=list(config.latent_std),
        )
    theirs = AutoencoderKLWan(**extra).eval()
    names = diffusers_vae_names(config)
    theirs.load_state_dict({names[k]: v for k, v in ours.state_dict().items()})
    theirs = theirs.to(device())
    if verb == "encode":
        video = torch.rand(1, 3, frames, side, side, device=device()) * 2 - 1
        return lambda: ours.encode(video), lambda: theirs.encode(video).latent_dist.mean
    cells = side // ours.spatial_stride
    shape = (1, config.latent_channels, (frames - 1) // 4 + 1, cells, cells)
    latent = torch.randn(shape, device=device())
    return lambda: ours.decode(latent), lambda: theirs.decode(latent, return_dict=False)[0]


def works_of(name: str) -> tuple[Callable, Callable]:
    return step_works(name) if name in STEPS else vae_works(name)


def peak_megabytes(name: str, which: int) -> float:
    """Memory that one call of ours (0) or theirs (1) takes on top of both models' weights."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, which))


@torch.no_grad()
def _peak(name: str, which: int) -> float:
    work = works_of(name)[which]
    gc.collect()
    if device().type == "cuda":
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


def print_table(rows: list[Row]) -> None:
    print(f"\n{'row':20} {'ours ms':>9} {'diffusers':>10} {'ratio':>6} {'of floor':>9}  peak MB")
    for r in rows:
        floor = f"{r.of_floor:9.2f}" if r.of_floor is not None else " " * 9
        print(
            f"{r.name:20} {r.ours_ms:9.1f} {r.theirs_ms:10.1f} {r.ratio:6.2f} {floor}"
            f"  {r.ours_peak_mb:.0f} / {r.theirs_peak_mb:.0f}"
        )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the rows here")
    parser.add_argument("--rows", nargs="*", default=[""], help="only names that begin so")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    rows = []
    for name in (*STEPS, *VAES):
        if not name.startswith(tuple(args.rows)):
            continue
        if name in STEPS:
            rows.append(step_row(name, args.repeats))
        else:
            rows.append(row(name, *take_turns(list(vae_works(name)), args.repeats), None))
    print_table(rows)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"rows": [vars(r) for r in rows]}, file, indent=1)


if __name__ == "__main__":
    main()
