"""Seconds for a denoising step and for the autoencoder, against others on the same weights.

    [COMFYUI_PATH=DIR] python benchmarks/speed.py [--json FILE] [--rows step/mini vae] [--repeats 9]

The others are diffusers and, where COMFYUI_PATH names one, ComfyUI's own Wan (speed_host.py). On a
CUDA machine the rows cuda/ time Wan 1.3B at its real size against the floor (speed_cuda.py).

Ours and theirs take turns in one run, so that a busy machine slows both. Beside each step the
machine's own rates are measured on the step's shapes: matrix products, and attention with the best
backend. The floor is what the step would take at those rates: linear FLOPs / matmul rate +
attention FLOPs / attention rate. A step of ours has its prompt's keys and values from the step
before, as in a real run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable

import torch
import torch.nn.functional as F

from patchdit.benchmarks.speed_cuda import cuda_rows
from patchdit.benchmarks.speed_host import fastest_row, host_row
from patchdit.benchmarks.speed_rows import (
    LEAST_OF_FLOOR,
    STEPS,
    Row,
    added_megabytes,
    attention_work,
    device,
    linear_work,
    plain,
    print_table,
    take_turns,
    usual_dtype,
)
from patchdit.models.checkpoints import in_diffusers
from patchdit.models.checkpoints_vae import diffusers_vae_names
from patchdit.models.config import VAE_PRESETS, TransformerConfig
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE

VAES = {  # preset, what it does, pixel frames and side
    "vae/wan2.1/encode": ("wan2.1", "encode", 5, 64),
    "vae/wan2.1/decode": ("wan2.1", "decode", 5, 64),
    "vae/wan2.2/encode": ("wan2.2", "encode", 5, 64),
    "vae/wan2.2/decode": ("wan2.2", "decode", 5, 64),
}


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


def step_row(name: str, repeats: int) -> Row:
    config, (B, T, H, W) = STEPS[name]
    L, where = T * H * W // 4, (device(), usual_dtype(device()))
    linear, linear_flops = linear_work(config, B * L, *where)
    backends = (F.scaled_dot_product_attention, plain)
    attentions = [attention_work(config, B, L, *where, backend)[0] for backend in backends]
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
    target = LEAST_OF_FLOOR.get(name)
    return Row(name, "diffusers", ours * 1e3, theirs * 1e3, ours / theirs, of_floor, *peaks, target)


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
    return added_megabytes(works_of(name)[which], device())


def rows_of_step(name: str, repeats: int) -> list[Row]:
    """Against diffusers, and, where there is a ComfyUI, against it and the faster of the two."""
    first = step_row(name, repeats)
    second = host_row(name, repeats, first.ours_peak_mb)
    return [first] if second is None else [first, second, fastest_row(first, second)]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the rows here")
    parser.add_argument("--rows", nargs="*", default=[""], help="only names that begin so")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    wanted, rows = tuple(args.rows), []
    for name in STEPS:
        if name.startswith(wanted):
            rows += rows_of_step(name, args.repeats)
    for name in VAES:
        if name.startswith(wanted):
            rows.append(row(name, *take_turns(list(vae_works(name)), args.repeats), None))
    rows += cuda_rows(wanted, args.repeats)
    print_table(rows)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"rows": [vars(r) for r in rows]}, file, indent=1)


if __name__ == "__main__":
    main()
