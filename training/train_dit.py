"""Train the mini transformer and its text encoder: `python training/train_dit.py --preset cpu`.

Latents of freshly filmed clips are made first and kept beside the checkpoints. Killed at any time it
goes on from its last checkpoint.
B batch, C channels, T/H/W latent frames/rows/columns, L tokens, S text tokens.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchdit.models.blockworld import load_vae, save_text_encoder, save_transformer
from patchdit.models.config import TEXT_PRESETS, TRANSFORMER_PRESETS
from patchdit.models.text import TextEncoder, Tokenizer
from patchdit.models.transformer import PatchDiT
from patchdit.training.latents import CAPTIONS, Bucket, encode_bucket
from patchdit.training.masks import draw_kind, draw_levels
from patchdit.training.optimizer import Optimizers
from patchdit.training.run import Run

WEIGHTS = Path(__file__).parent.parent / "models" / "weights"
NEVER = ("patch_embedding", "head.head", "text_embedding", "time_embedding", "time_projection")


@dataclass(frozen=True)
class Preset:
    model: str
    minutes: float
    buckets: dict[tuple[int, int, int], int]  # (width, height, frames) -> clips
    batch: int  # clips a step in the 64x64x17 bucket; others by their token count
    lr: float
    ema: float
    muon: bool


PRESETS = {
    "cpu": Preset(
        "blockworld-mini",
        100,
        {
            (64, 64, 17): 14000,
            (96, 64, 17): 2400,
            (64, 96, 17): 2000,
            (112, 64, 17): 1000,
            (64, 64, 33): 2600,
        },
        16,
        1e-3,
        0.999,
        False,
    ),
    "gpu": Preset(
        "blockworld-mini",
        10,
        {
            (64, 64, 17): 30000,
            (96, 64, 17): 6000,
            (64, 96, 17): 6000,
            (112, 64, 17): 4000,
            (64, 64, 33): 6000,
            (128, 128, 17): 6000,
            (192, 128, 17): 2000,
            (128, 192, 17): 2000,
        },
        192,
        5e-4,
        0.999,
        True,
    ),
}


class Trainee(nn.Module):
    """The transformer and the text encoder, trained as one."""

    def __init__(self, preset: Preset, vocabulary: int):
        super().__init__()
        text = replace(TEXT_PRESETS[preset.model], vocabulary=vocabulary)
        self.transformer = PatchDiT(TRANSFORMER_PRESETS[preset.model])
        self.transformer.init_weights()
        self.text = TextEncoder(text)

    def forward(self, x_BCTHW: Tensor, timestep: Tensor, tokens_BS: Tensor) -> Tensor:
        """Velocity. Columns of padding alone are not computed, only appended as the zeros they are."""
        longest = max(int((tokens_BS != 0).sum(1).max()), 1)
        context = self.text(tokens_BS[:, :longest])
        context = F.pad(context, (0, 0, 0, tokens_BS.shape[1] - longest))
        return self.transformer(x_BCTHW, timestep, context)


def make_buckets(preset: Preset, folder: Path, length: int, workers: int, seed: int):
    """The preset's clips as latents, from `folder` if an earlier start of this run made them."""
    path = folder / f"latents-{seed}.pt"
    if path.exists():
        return [Bucket(**b) for b in torch.load(path, weights_only=True)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = load_vae(WEIGHTS).to(device)
    tokenizer = Tokenizer(WEIGHTS / "blockworld-mini-tokenizer.json")
    buckets = []
    for i, (size, count) in enumerate(preset.buckets.items()):
        batch = 64 if device == "cuda" else 4
        made = encode_bucket(vae, tokenizer, length, count, size, seed * 100 + i, workers, batch)
        print(f"{size}: {len(made.latents_NCTHW)} clips", flush=True)
        buckets.append(made)
    torch.save([vars(b) for b in buckets], path)
    return buckets


class Sampler:
    """Draws training batches: a bucket, a length, captions, noise levels and what is known."""

    def __init__(self, buckets: list[Bucket], preset: Preset, seed: int, device: str):
        self.buckets, self.preset, self.device = buckets, preset, device
        self.generator = torch.Generator().manual_seed(seed)
        self.shares = torch.tensor([float(len(b.latents_NCTHW)) for b in buckets])

    def __call__(self):
        """x0, noise, levels, weight, tokens; levels are sigmas (B), (B,T) or (B,L)."""
        g = self.generator
        bucket = self.buckets[int(torch.multinomial(self.shares, 1, generator=g))]
        N, _, T, H, W = bucket.latents_NCTHW.shape
        length = self._length(T)
        grid = (length, H // 2, W // 2)
        batch = max(2, round(self.preset.batch * 80 / (length * H * W // 4)))
        batch = min(batch, 4 * self.preset.batch)
        rows = torch.randint(0, N, (batch,), generator=g)
        x0 = bucket.latents_NCTHW[rows, :, :length].float()
        starts = bucket.starts_N[rows]
        kind = draw_kind(g, length)
        usable = starts if kind in ("suffix", "both ends") and length == T else torch.full_like(starts, T)
        levels = draw_levels(g, kind, batch, grid, usable)
        given = x0
        if (usable < T).any():
            in_suffix = torch.arange(length) >= usable[:, None]
            given = torch.where(
                in_suffix[:, None, :, None, None], bucket.suffixes_NCTHW[rows].float(), x0
            )
        tokens = bucket.tokens_NKS[rows, torch.randint(0, CAPTIONS, (batch,), generator=g)].long()
        tokens[torch.rand(batch, generator=g) < 0.1] = 0
        weight = 1 + 2 * bucket.subjects_NTHW[rows, None, :length].float() / 255
        noise = torch.randn(x0.shape, generator=g)
        return [v.to(self.device) for v in (x0, given, noise, levels, weight, tokens)]

    def _length(self, T: int) -> int:
        """Mostly whole clips; prefixes of a causal encoding are shorter clips, one frame an image."""
        u = float(torch.rand((), generator=self.generator))
        if u < 0.06:
            return 1
        return int(torch.randint(2, T, (), generator=self.generator)) if u < 0.2 else T


def cell_levels(levels: Tensor, x_BCTHW: Tensor) -> Tensor:
    """Sigmas (B), (B,T) or (B,L) spread over latent cells, broadcastable with x."""
    B, _, T, H, W = x_BCTHW.shape
    if levels.ndim == 1:
        return levels.view(B, 1, 1, 1, 1)
    if levels.shape[1] == T and (H > 2 or W > 2):
        return levels.view(B, 1, T, 1, 1)
    tokens = levels.view(B, 1, T, H // 2, W // 2)
    return tokens.repeat_interleave(2, -1).repeat_interleave(2, -2)


def loss_of(model: nn.Module, batch) -> Tensor:
    """Mean squared error of the velocity over unknown cells, subjects counted up to three times."""
    x0, given, noise, levels, weight, tokens = batch
    sigma = cell_levels(levels, x0)
    noisy = torch.where(sigma == 0, given, x0.lerp(noise, sigma))
    velocity = model(noisy, levels * 1000, tokens)
    weight = weight * (sigma > 0)
    error = (velocity.float() - (noise - x0)).square().mean(1, keepdim=True)
    return (error * weight).sum() / weight.sum().clamp(min=1)


class Average:
    """An exponential moving average of weights, updated every few steps."""

    def __init__(self, model: nn.Module, decay: float, every: int = 4):
        self.decay, self.every = decay**every, every
        self.weights = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        if step % self.every:
            return
        decay = min(self.decay, (step + 1) / (step + 40))
        torch._foreach_lerp_(self.weights, list(model.parameters()), 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        for p, average in zip(model.parameters(), self.weights, strict=True):
            p.copy_(average)


def export(trainee: Trainee, average: Average, preset: Preset, folder: Path, facts: dict) -> None:
    """Write the averaged weights as shipped files."""
    shipped = Trainee(preset, trainee.text.config.vocabulary)
    average.copy_to(shipped)
    save_transformer(shipped.transformer, folder, facts)
    save_text_encoder(shipped.text, folder, facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--run", default="runs/dit", help="folder of checkpoints, latents and log")
    parser.add_argument("--from-shipped", action="store_true", help="start from the shipped weights")
    parser.add_argument("--clips", type=float, default=1.0, help="scale of the number of clips")
    parser.add_argument("--seed", type=int, default=1, help="of the clips; another gives new ones")
    parser.add_argument("--out", default="", help="folder for the weights; default RUN/weights")
    args = parser.parse_args()

    preset = PRESETS[args.preset]
    preset = replace(
        preset,
        minutes=args.minutes or preset.minutes,
        lr=args.lr or preset.lr,
        buckets={k: round(v * args.clips) for k, v in preset.buckets.items()},
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = Path(args.run)
    folder.mkdir(parents=True, exist_ok=True)
    out = Path(args.out or folder / "weights")
    length = TEXT_PRESETS[preset.model].length
    workers = max(1, (os.cpu_count() or 2) - 1)
    buckets = make_buckets(preset, folder, length, workers, args.seed)
    vocabulary = Tokenizer(WEIGHTS / "blockworld-mini-tokenizer.json").size

    torch.manual_seed(0)
    trainee = Trainee(preset, vocabulary).to(device)
    average = Average(trainee, preset.ema)
    never = tuple(f"transformer.{n}" for n in NEVER) + ("text.embedding", "text.position")
    muon_lr = preset.lr if preset.muon else 0.0
    optimizers = Optimizers(trainee, muon_lr, preset.lr, never if preset.muon else ("",), 0.01)
    run = Run(folder, preset.minutes)
    if payload := run.resume(device):
        trainee.load_state_dict(payload["model"])
        average.weights = payload["average"]
        optimizers.load_state_dict(payload["optimizers"])
    sampler = Sampler(buckets, preset, run.step + args.seed, device)
    mean = None

    def save() -> None:
        run.save(
            {
                "model": trainee.state_dict(),
                "average": average.weights,
                "optimizers": optimizers.state_dict(),
            }
        )
        export(trainee, average, preset, out, {"steps": run.step, "preset": args.preset})

    while run.progress < 1:
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(trainee, sampler())
        loss.backward()
        optimizers.step(run.rate(200))
        run.step += 1
        average.update(trainee, run.step)
        value = loss.item()
        mean = value if mean is None else 0.99 * mean + 0.01 * value
        if run.step % 200 == 0:
            run.log(loss=mean)
        if run.due():
            save()
    save()


if __name__ == "__main__":
    main()
