"""Train the mini transformer and its text encoder: `python training/train_dit.py --preset cpu`.

Latents of freshly filmed clips are made first and kept beside the checkpoints. Killed at any time
it goes on from its last checkpoint.
B batch, C channels, T/H/W latent frames/rows/columns, L tokens, S text tokens.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchdit.models.attention import sdpa
from patchdit.models.blockworld import NAMES, load_text_encoder, load_transformer, load_vae, save
from patchdit.models.config import TEXT_PRESETS, TRANSFORMER_PRESETS
from patchdit.models.text import TextEncoder, Tokenizer
from patchdit.models.transformer import PatchDiT
from patchdit.training.compiled import compile_often
from patchdit.training.latents import CAPTIONS, Bucket, encode_bucket
from patchdit.training.masks import draw_kind, draw_levels
from patchdit.training.optimizer import Optimizers
from patchdit.training.replicas import Replicas, launch
from patchdit.training.run import Run

WEIGHTS = Path(__file__).parent.parent / "models" / "weights"
# First and last layers do not suit Muon. Without it AdamW has all ("" begins every name).
EDGES = ("patch_embedding", "head.head", "text_embedding", "time_embedding", "time_projection")
ALL = ("",)
# With these biases at zero the keys of padding are zero too, so padding draws a neutral share of
# attention. When they were free, all attention fell on padding within 300 steps and stayed there.
ZERO_BIASES = ("text_embedding.0.bias", "text_embedding.2.bias", "cross_attn.k.bias")

# In this share of a run every clip shows one motion and nothing of it is known. Which way a thing
# moves is a product of a word, a time and a place, of which no two say anything alone: among clips
# where subjects and camera all move, and that are half known, it takes far longer to be found.
SIMPLE_SHARE = 0.25
SIMPLE_AGAIN = 0.1  # where training goes on from weights that have found it

# A cell full of a subject counts 1 + this: a subject is 5% of the picture and what people look at.
SUBJECT_WEIGHT = 5


@dataclass(frozen=True)
class Preset:
    model: str
    minutes: float
    buckets: dict[tuple[int, int, int], int]  # (width, height, frames) -> clips
    batch: int  # clips a step in the 64x64x17 bucket; others by their token count
    lr: float
    ema: float
    muon: bool
    abilities: float  # share of clips that show an ability


PRESETS = {
    "cpu": Preset(
        "blockworld-mini",
        100,
        {
            (64, 64, 17): 11000,
            (96, 64, 17): 2000,
            (64, 96, 17): 1600,
            (112, 64, 17): 900,
            (64, 64, 33): 5500,
        },
        16,
        1.2e-3,
        0.999,
        False,
        0.0,
    ),
    "gpu": Preset(
        "blockworld-mini-gpu",
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
        0.15,
    ),
}


def plain_attention(q_BNLH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask=None) -> Tensor:
    """Attention written out: for short clips on a CPU its backward pass is many times faster."""
    scores = (q_BNLH * q_BNLH.shape[-1] ** -0.5) @ k_BNSH.mT
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1).to(v_BNSH.dtype) @ v_BNSH


class Trainee(nn.Module):
    """The transformer and the text encoder, trained as one."""

    def __init__(self, preset: Preset, vocabulary: int, device: str = "cpu"):
        super().__init__()
        attention = plain_attention if device == "cpu" else sdpa
        text = replace(TEXT_PRESETS[preset.model], vocabulary=vocabulary)
        self.transformer = PatchDiT(TRANSFORMER_PRESETS[preset.model], attention=attention)
        self.transformer.init_weights()
        self.text = TextEncoder(text, attention)
        for name, p in self.transformer.named_parameters():
            p.requires_grad_(not name.endswith(ZERO_BIASES))

    def forward(self, x_BCTHW: Tensor, timestep: Tensor, tokens_BS: Tensor) -> Tensor:
        """Velocity. Padding that all rows share is not computed but appended as zeros."""
        longest = max(int((tokens_BS != 0).sum(1).max()), 1)
        context = self.text(tokens_BS[:, :longest])
        context = F.pad(context, (0, 0, 0, tokens_BS.shape[1] - longest))
        return self.transformer(x_BCTHW, timestep, context)


def make_latents(preset: Preset, path: Path, workers: int, seed: int, folder=WEIGHTS) -> None:
    """Film the preset's clips, encode them with the autoencoder in `folder` and keep them in
    `path`, whole or not at all."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = load_vae(folder).to(device)
    tokenizer = Tokenizer(WEIGHTS / NAMES["tokenizer"])
    length = TEXT_PRESETS[preset.model].length
    batch = 64 if device == "cuda" else 4
    buckets = []
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for i, (size, count) in enumerate(preset.buckets.items()):
            seed_i = seed * 100 + i
            made = encode_bucket(
                vae, tokenizer, length, count, size, seed_i, pool, batch, preset.abilities
            )
            print(f"{size}: {len(made.latents_NCTHW)} clips", flush=True)
            buckets.append(vars(made))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(buckets, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


class Sampler:
    """Draws training batches: a bucket, a length, captions, noise levels and what is known.

    All replicas share one plan (bucket, length, kind), so that their steps take equally long.
    """

    def __init__(self, buckets, preset: Preset, seed: int, replicas: Replicas, device: str):
        self.buckets, self.preset, self.device = buckets, preset, device
        self.plan = torch.Generator().manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed * 1000 + replicas.rank)
        self.count = replicas.count
        self.shares = torch.tensor([float(len(b.latents_NCTHW)) for b in buckets])

    def __call__(self, simple: bool = False):
        """x0, given, noise, levels, weight, tokens; levels are sigmas (B), (B,T) or (B,L).

        If `simple`, only of clips where one thing moves, with nothing known.
        """
        g = self.generator
        bucket = self.buckets[int(torch.multinomial(self.shares, 1, generator=self.plan))]
        N, _, T, H, W = bucket.latents_NCTHW.shape
        length = self._length(T)
        grid = (length, H // 2, W // 2)
        batch = round(self.preset.batch / self.count * 80 / (length * H * W // 4))
        batch = min(max(batch, 1), 4 * self.preset.batch // self.count)
        rows = torch.randint(0, N, (batch,), generator=g)
        if simple:
            choice = bucket.simple_N.nonzero().flatten()
            rows = choice[rows % len(choice)]
        x0 = bucket.latents_NCTHW[rows, :, :length].float()
        starts = bucket.starts_N[rows]
        kind = "none" if simple else draw_kind(self.plan, length)
        usable = (
            starts
            if kind in ("suffix", "both ends") and length == T
            else torch.full_like(starts, T)
        )
        levels = draw_levels(g, kind, batch, grid, usable)
        given = x0
        if (usable < T).any():
            in_suffix = torch.arange(length) >= usable[:, None]
            given = torch.where(
                in_suffix[:, None, :, None, None], bucket.suffixes_NCTHW[rows].float(), x0
            )
        tokens = bucket.tokens_NKS[rows, torch.randint(0, CAPTIONS, (batch,), generator=g)].long()
        tokens[torch.rand(batch, generator=g) < 0.1] = 0
        weight = 1 + SUBJECT_WEIGHT * bucket.subjects_NTHW[rows, None, :length].float() / 255
        noise = torch.randn(x0.shape, generator=g)
        return [v.to(self.device) for v in (x0, given, noise, levels, weight, tokens)]

    def _length(self, T: int) -> int:
        """Mostly whole clips; the rest are prefixes: shorter clips, and one frame is an image."""
        u = float(torch.rand((), generator=self.plan))
        if u < 0.06:
            return 1
        return int(torch.randint(2, T, (), generator=self.plan)) if u < 0.2 else T


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
    """Mean squared error of the velocity over unknown cells; subjects count for more."""
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
    save("transformer", shipped.transformer, folder, facts)
    save("text", shipped.text, folder, facts)


def train(args: argparse.Namespace, replicas: Replicas) -> None:
    preset = preset_of(args)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = Path(args.run)
    out = Path(args.out or folder / "weights")
    buckets = [Bucket(**b) for b in torch.load(latents_path(args), weights_only=True)]

    torch.manual_seed(0)
    trainee = Trainee(preset, Tokenizer(WEIGHTS / NAMES["tokenizer"]).size, device).to(device)
    run = Run(folder, preset.minutes)
    payload = run.resume(device)
    if args.start and not payload:
        trainee.transformer.load_state_dict(load_transformer(args.start).state_dict())
        trainee.text.load_state_dict(load_text_encoder(args.start).state_dict())
    average = Average(trainee, preset.ema)
    adam = tuple(f"transformer.{n}" for n in EDGES) if preset.muon else ALL
    rates = full_rate if args.start else rate_of
    optimizers = Optimizers(trainee, preset.lr, preset.lr, adam, 0.01, rates)
    if payload:
        trainee.load_state_dict(payload["model"])
        average.weights = payload["average"]
        optimizers.load_state_dict(payload["optimizers"])
    simple = SIMPLE_AGAIN if args.start else SIMPLE_SHARE
    sampler = Sampler(buckets, preset, run.step + args.seed, replicas, device)
    mean = None
    if args.compile:
        compile_often(trainee.transformer)

    def checkpoint() -> None:
        state = {"model": trainee.state_dict(), "optimizers": optimizers.state_dict()}
        run.save(state | {"average": average.weights})
        export(trainee, average, preset, out, {"steps": run.step, "preset": args.preset})

    while (progress := replicas.agree(run.progress)) < 1:
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(trainee, sampler(simple=progress < simple))
        loss.backward()
        replicas.average_gradients(optimizers.parameters)
        optimizers.step(run.rate(progress, warmup=200))
        run.step += 1
        average.update(trainee, run.step)
        value = loss.item()
        mean = value if mean is None else 0.99 * mean + 0.01 * value
        if replicas.leads and run.step % 200 == 0:
            run.log(loss=mean)
        if replicas.leads and run.due():
            checkpoint()
    if replicas.leads:
        checkpoint()


def rate_of(name: str) -> float:
    """Share of the learning rate that a parameter trains at.

    Where text is looked up moves slowly: as long as the text says nothing, it is noise, and the
    quickest way to less noise is to look at the padding for good. Trained weights need none of it.
    """
    if any(f"cross_attn.{part}." in name for part in ("q", "k", "norm_q", "norm_k")):
        return 0.1
    return 0.5 if name.startswith("text.") else 1.0


def full_rate(name: str) -> float:
    return 1.0


def preset_of(args: argparse.Namespace) -> Preset:
    """The named preset with what the command line changes."""
    preset = PRESETS[args.preset]
    buckets = {size: round(count * args.clips) for size, count in preset.buckets.items()}
    minutes, lr = args.minutes or preset.minutes, args.lr or preset.lr
    return replace(preset, minutes=minutes, lr=lr, buckets=buckets)


def latents_path(args: argparse.Namespace) -> Path:
    return Path(args.run) / f"latents-{args.seed}.pt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--run", default="runs/dit", help="folder of checkpoints, latents and log")
    parser.add_argument("--start", help="folder of weights to go on from")
    parser.add_argument("--vae", default=WEIGHTS, help="folder of the autoencoder for latents")
    parser.add_argument("--clips", type=float, default=1.0, help="scale of the number of clips")
    parser.add_argument("--seed", type=int, default=1, help="of the clips; another gives new ones")
    parser.add_argument("--out", default="", help="folder for the weights; default RUN/weights")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile; needs a C++ compiler on a CPU"
    )
    parser.add_argument("--processes", type=int, default=0, help="default: one for each core")
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    if not latents_path(args).exists():
        workers = max(1, cores - 1)
        make_latents(preset_of(args), latents_path(args), workers, args.seed, args.vae)
    launch(train, args, 1 if torch.cuda.is_available() else args.processes or cores)


if __name__ == "__main__":
    main()
