"""Seconds to denoise a quarter of a clip's patches, against all of them.

    python benchmarks/sparse_patches.py [--json FILE] [--repeats 5] [--steps 10] [--tokens 576 1152]

The shipped model denoises held-out clips of the world: all patches; a quarter in one box; a quarter
at random. Unselected patches are held: computed once, then only looked at through their cached keys
and values. The PSNR compares the decoded result with that of a run from the same start, with the
same patches held, that computes every patch at every step in one pass under the attention mask.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchdit.models.blockworld import Blockworld, load
from patchdit.models.flow import denoise, finish, shift_for, shifted_sigmas, start
from patchdit.models.guidance import ModelDenoiser
from patchdit.models.patches import Grid, patchify, unpatchify
from patchdit.models.selection import select_box, select_share, selection_mask
from patchdit.models.transformer import TokenSet, known_sees_known
from patchdit.training.blockworld import render, sample_scene
from patchdit.training.captions import caption

SIZES = {  # tokens: width, height, frames of the clip
    80: (64, 64, 17),
    576: (128, 128, 33),
    1152: (256, 128, 33),
}
SHARE = 0.25
MOST_TIME, LEAST_PSNR = 0.50, 60.0
BOX = (0.25, 0.25, 0.5, 0.5)  # a quarter of the frame, through all of time
CFG = 3.0


class EveryToken(ModelDenoiser):
    """Computes all tokens in every call, known ones too, and caches nothing of them."""

    def velocities(self, x_BCTHW: Tensor, timestep: Tensor) -> list[Tensor]:
        copies = len(self.contexts) // len(self.calls)
        tokens_BLP, grid = patchify(torch.cat([x_BCTHW] * copies), self.model.config.patch)
        timestep_BL = torch.cat([timestep] * copies)
        lengths = (grid.tokens,)
        whole = TokenSet(tokens_BLP, grid.positions(x_BCTHW.device), timestep_BL, lengths)
        mask = known_sees_known(timestep_BL == 0, grid.tokens)
        velocity_BLP = self.model.run(whole, self.calls[0][0], mask=mask)
        return list(unpatchify(velocity_BLP, grid).chunk(copies))


def filmed(model: Blockworld, tokens: int, seed: int) -> tuple[Tensor, Tensor]:
    """The normalised latent of a held-out clip of so many tokens and its caption's context."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, *SIZES[tokens], held_out=True, subjects=1)
    frames = torch.from_numpy(render(scene).frames_FHWC).permute(3, 0, 1, 2)[None]
    latent = model.vae.encode(frames.float() / 127.5 - 1)
    return model.vae.normalise(latent), model.encode_text([caption(scene, rng, "en")])


def choices(grid: Grid) -> dict[str, Tensor]:
    """Selections (1,L) of a quarter of the patches."""
    blank = torch.zeros(1, grid.tokens, 1)
    random_BL = select_share(blank, grid, "random", SHARE, 0)
    return {"box": select_box(grid, BOX)[None], "random": random_BL}


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def psnr(one: Tensor, other: Tensor) -> float:
    """Decibels between videos in -1..1, at most 150."""
    error = (one - other).square().mean().item() / 4
    return -10 * float(np.log10(max(error, 1e-15)))


def row(name: str, value: float, target: float, met: bool) -> dict[str, Any]:
    return {"name": name, "value": round(value, 4), "target": target, "met": met}


@torch.no_grad()
def rows_of(model: Blockworld, tokens: int, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Time and PSNR of each choice on a clip of so many tokens."""
    latent, positive = filmed(model, tokens, 1)
    negative = model.encode_text([""])
    grid = patchify(latent, model.transformer.config.patch)[1]
    selected = choices(grid)
    sigmas = shifted_sigmas(steps, shift_for(tokens))
    masks = {name: selection_mask(s, grid) for name, s in selected.items()}

    def work(mask: Tensor | None, kind: type[ModelDenoiser] = ModelDenoiser) -> Tensor:
        denoiser = kind(model.transformer, positive, negative, CFG)
        state = start(latent, mask, sigmas, 0, patch=grid.patch)
        return finish(denoise(state, denoiser))

    works = [lambda mask=mask: work(mask) for mask in (None, *masks.values())]
    for each in works:
        each()  # warm-up
    rounds = [[seconds(each) for each in works] for _ in range(repeats)]  # in turns
    whole, *parts = (median(column) for column in zip(*rounds, strict=True))
    rows = []
    for (name, mask), part in zip(masks.items(), parts, strict=True):
        sparse, every = (
            model.vae.decode(model.vae.denormalise(work(mask, kind)))
            for kind in (ModelDenoiser, EveryToken)
        )
        ratio, decibels = part / whole, psnr(sparse, every)
        label = f"sparse_patches/{tokens}/{name}"
        rows.append(row(f"{label}/time", ratio, MOST_TIME, ratio <= MOST_TIME))
        rows.append(row(f"{label}/psnr", decibels, LEAST_PSNR, decibels >= LEAST_PSNR))
    return rows


def rows(
    tokens: tuple[int, ...] = (576, 1152), steps: int = 10, repeats: int = 5
) -> list[dict[str, Any]]:
    """Rows {"name", "value", "target", "met"}: time as a share of the whole run's, PSNR in dB."""
    model = load()
    return [one for size in tokens for one in rows_of(model, size, steps, repeats)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the rows here")
    parser.add_argument("--tokens", nargs="*", type=int, choices=SIZES, default=[576, 1152])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    found = rows(tuple(args.tokens), args.steps, args.repeats)
    print(f"{'row':32} {'value':>9} {'target':>8}  met")
    for r in found:
        print(f"{r['name']:32} {r['value']:9.3f} {r['target']:8.2f}  {'yes' if r['met'] else 'no'}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"rows": found}, file, indent=1)


if __name__ == "__main__":
    main()
