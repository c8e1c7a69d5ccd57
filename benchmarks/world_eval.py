"""Does the shipped model show what prompts say? `python benchmarks/world_eval.py --json eval.json`.

Films prompts never seen in training, reads colour, subject, motion, environment and camera back
from the pixels and prints their shares with 95% intervals, beside what the same reader scores on
clips of the world itself (its own proof) and against shuffled prompts (chance).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch

from patchdit.benchmarks.prompts import (
    Prompt,
    load_prompts,
    scene_truth,
    unseen_prompts,
)
from patchdit.benchmarks.reading import Reading, read
from patchdit.benchmarks.scoring import Score, score, shuffled, table
from patchdit.benchmarks.verdicts import draw_verdicts
from patchdit.models.blockworld import FOLDER, Blockworld, load
from patchdit.models.flow import SOLVERS, denoise, finish, shift_for, shifted_sigmas, start
from patchdit.models.guidance import ModelDenoiser
from patchdit.models.timeline import latent_frames
from patchdit.training.blockworld import render, sample_scene
from patchdit.training.train_vae import evaluate

VAE_SIZES = ((64, 64, 17), (96, 64, 17), (64, 96, 17), (112, 64, 17), (64, 64, 33))


def true_clips(count: int, seed: int = 77):
    """Clips of the world with one subject of a held-out triple, and their truths."""
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, held_out=True, subjects=1) for _ in range(count)]
    return [render(s).frames_FHWC for s in scenes], [scene_truth(s) for s in scenes]


def to_video(clips: list[np.ndarray]) -> torch.Tensor:
    """video_BCFHW in -1..1 of uint8 clips of one size."""
    return torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def to_clips(video_BCFHW: torch.Tensor) -> list[np.ndarray]:
    """uint8 clips [F,H,W,3] of video in -1..1."""
    pixels = ((video_BCFHW.float() + 1) * 127.5).round().clamp(0, 255).byte()
    return list(pixels.permute(0, 2, 3, 4, 1).cpu().numpy())


@dataclass(frozen=True)
class Recipe:
    """How a prompt becomes a clip; a shift of 0 takes the one for the clip's size."""

    steps: int = 20
    cfg: float = 4.0
    solver: str = "unipc"
    shift: float = 0.0
    size: tuple[int, int, int] = (64, 64, 17)  # width, height, frames
    bf16: bool = True  # the network's products; 1.6 times as fast as float32 on a CPU that has them


@torch.no_grad()
def film(model: Blockworld, texts: list[str], recipe: Recipe, seed: int) -> list[np.ndarray]:
    """Clips of prompts, uint8 [F,H,W,3], by the functions that nodes call; item i has seed + i."""
    width, height, frames = recipe.size
    vae, patch = model.vae, model.transformer.config.patch
    grid = (latent_frames(frames), height // vae.spatial_stride, width // vae.spatial_stride)
    shift = recipe.shift or shift_for(prod(grid) // prod(patch))
    contexts = model.encode_text([*texts, ""])
    denoiser = ModelDenoiser(model.transformer, contexts[:-1], contexts[-1:], recipe.cfg)
    blank = torch.zeros(len(texts), vae.config.latent_channels, *grid)
    seeds = [seed + i for i in range(len(texts))]
    sigmas = shifted_sigmas(recipe.steps, shift)
    state = start(blank, None, sigmas, seeds, recipe.solver, patch=patch)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
        latent = finish(denoise(state, denoiser))
    return to_clips(vae.decode(vae.denormalise(latent)))


def film_all(model: Blockworld, prompts: list[Prompt], recipe: Recipe, seed: int, batch: int):
    """Clips of all prompts, `batch` at a time."""
    clips, began = [], time.monotonic()
    for first in range(0, len(prompts), batch):
        texts = [p.text for p in prompts[first : first + batch]]
        clips += film(model, texts, recipe, seed + first)
        print(f"{len(clips)}/{len(prompts)} clips, {time.monotonic() - began:.0f} s", flush=True)
    return clips


def prove_reader(count: int, vae=None) -> dict[str, dict[str, Score]]:
    """Scores on clips of the world, with their truths shuffled and, given a VAE, after it."""
    clips, truths = true_clips(count)
    readings = [read(clip) for clip in clips]
    columns = {
        "reader on the world": score(readings, truths),
        "reader, shuffled": score(readings, shuffled(truths)),
    }
    if vae is not None:
        part = clips[: max(1, count // 4)]
        with torch.no_grad():
            decoded = [to_clips(vae.decode(vae.encode(to_video([clip]))))[0] for clip in part]
        readings = [read(clip) for clip in decoded]
        columns["reader after the VAE"] = score(readings, truths[: len(part)])
    return columns


def vae_rows(vae, clips: int) -> dict[str, dict[str, float]]:
    """PSNR in dB on held-out clips of every size: whole, and in subjects' last boxes."""
    rows = {}
    for width, height, frames in VAE_SIZES:
        whole, box = evaluate(vae, clips, width, height, frames)
        rows[f"{width}x{height}x{frames}"] = {"psnr": round(whole, 2), "box": round(box, 2)}
    return rows


def splits(prompts: list[Prompt], readings: list[Reading]) -> dict[str, dict[str, float]]:
    """Accuracies of the English and of the Chinese prompts alone."""
    result = {}
    for language, chinese in (("en", False), ("zh", True)):
        rows = [i for i, p in enumerate(prompts) if p.chinese == chinese]
        if rows:
            scores = score([readings[i] for i in rows], [prompts[i].truth for i in rows])
            result[language] = shares(scores)
    return result


def shares(scores: dict[str, Score]) -> dict[str, float]:
    return {name: round(s.share, 4) for name, s in scores.items()}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", help="JSON lines of other prompts, with what they must show")
    parser.add_argument("--limit", type=int, help="prompts; default 208, or all of FILE")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--cfg", type=float, default=Recipe.cfg)
    parser.add_argument("--solver", choices=SOLVERS, default=Recipe.solver)
    parser.add_argument("--shift", type=float, default=0.0, help="0: by the clip's size")
    parser.add_argument("--fp32", action="store_true", help="float32 throughout, not bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8, help="clips filmed at once")
    parser.add_argument("--weights", default=str(FOLDER), help="folder of the model's files")
    parser.add_argument("--out", default="runs/world_eval", help="folder of the contact sheet")
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--selftest", action="store_true", help="only prove the reader: no weights")
    parser.add_argument("--proof", type=int, default=200, help="clips that prove the reader")
    parser.add_argument("--vae-clips", type=int, default=8, help="clips a size in the VAE's table")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.selftest:
        print(table(prove_reader(args.proof)))
        return
    model = load(args.weights)
    proof = prove_reader(args.proof, model.vae) if args.proof else {}
    prompts = load_prompts(args.prompts) if args.prompts else unseen_prompts(args.limit or 208)
    prompts = prompts[: args.limit]
    truths = [p.truth for p in prompts]
    recipe = Recipe(args.steps, args.cfg, args.solver, args.shift, bf16=not args.fp32)
    clips = film_all(model, prompts, recipe, args.seed, args.batch)
    readings = [read(clip) for clip in clips]
    scores = score(readings, truths)
    columns = {"model": scores, "model, shuffled": score(readings, shuffled(truths)), **proof}
    vae = vae_rows(model.vae, args.vae_clips) if args.vae_clips else {}
    print(f"\n{len(prompts)} prompts, {recipe}, seed {args.seed}\n\n{table(columns)}\n")
    for name, row in vae.items():
        print(f"VAE {name}: {row['psnr']:.1f} dB, in subjects' last boxes {row['box']:.1f} dB")
    sheet = Path(args.out) / "world_eval.png"
    draw_verdicts(sheet, clips, prompts, readings, scores)
    print(sheet)
    if args.json:
        result = {
            "accuracy": shares(scores),
            "n": len(prompts),
            "intervals": {k: [round(v, 4) for v in s.interval()] for k, s in scores.items()},
            "languages": splits(prompts, readings),
            "columns": {name: shares(column) for name, column in columns.items()},
            "vae": vae,
            "recipe": asdict(recipe) | {"seed": args.seed},
        }
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
