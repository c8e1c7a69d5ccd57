"""Train the mini video autoencoder on blockworld: `python training/train_vae.py --preset cpu`.

Killed at any time it goes on from its last checkpoint; at the end it writes the shipped file. A
transformer that learned an encoder's latents needs that encoder: later, train the decoder only.
"""

from __future__ import annotations

import argparse
import itertools
import os
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from patchdit.models.blockworld import load_vae, save
from patchdit.models.config import VAE_PRESETS
from patchdit.models.video_vae import VideoVAE
from patchdit.training.blockworld import render, sample_scene
from patchdit.training.optimizer import Optimizers
from patchdit.training.replicas import Replicas, launch
from patchdit.training.run import Run

# First and last convolutions: AdamW suits them better than Muon.
EDGE_LAYERS = ("encoder.conv1", "encoder.head", "decoder.conv1", "decoder.head", "conv1", "conv2")
SMALL = ((64, 64), (64, 64), (96, 64), (64, 96), (64, 64), (112, 64))
LARGE = ((64, 64), (128, 128), (96, 64), (64, 96), (128, 192), (112, 64), (192, 128))


@dataclass(frozen=True)
class Preset:
    minutes: float
    widths: tuple[int, int]  # encoder, decoder
    batches: tuple[tuple[int, int], ...]  # (clips, frames), taken in turn
    sizes: tuple[tuple[int, int], ...]  # (width, height), taken in turn
    lr: float
    workers: int = 0  # processes that film ahead; 0: in between the steps
    subject_weight: float = 8.0  # extra loss weight on subjects and their surroundings
    flicker_weight: float = 0.5  # of errors that change from frame to frame
    kl_weight: float = 1e-5


PRESETS = {
    "cpu": Preset(35, (64, 64), ((8, 5), (4, 9), (8, 5), (2, 17)), SMALL, 4e-3),
    "gpu": Preset(8, (96, 112), ((64, 5), (32, 9), (48, 9), (24, 17)), LARGE, 3e-3, workers=14),
}


def draw_batch(rng: np.random.Generator, clips: int, frames: int, width: int, height: int):
    """Random clips as video [B,3,F,H,W] in -1..1 and subject masks [B,1,F,H,W] in 0..1, dilated."""
    videos, masks = [], []
    for _ in range(clips):
        clip = render(sample_scene(rng, width, height, frames))
        videos.append(clip.frames_FHWC)
        mask = clip.masks_NFHW.max(0)
        masks.append([cv2.dilate(m, np.ones((5, 5), np.uint8)) for m in mask])
    video = torch.from_numpy(np.stack(videos)).permute(0, 4, 1, 2, 3)
    mask = torch.from_numpy(np.array(masks))[:, None]
    return video.float() / 127.5 - 1, mask.float() / 255


class Films(IterableDataset):
    """Endless batches: lengths and sizes in turn, of clips that no other process draws."""

    def __init__(self, preset: Preset, replicas: Replicas, step: int):
        self.preset, self.replicas, self.step = preset, replicas, step

    def __iter__(self):
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        cv2.setNumThreads(1)
        for step in itertools.count(self.step + first, stride):
            rng = np.random.default_rng((step + 1, self.replicas.rank))
            clips, frames = self.preset.batches[step % len(self.preset.batches)]
            size = self.preset.sizes[step % len(self.preset.sizes)]
            yield draw_batch(rng, max(clips // self.replicas.count, 1), frames, *size)


def loss_of(vae: VideoVAE, video, mask, preset: Preset, decoder_only: bool = False):
    """Weighted L1 + MSE of the reconstruction from a sampled latent, flicker, a light KL term."""
    with torch.set_grad_enabled(not decoder_only):
        mean, logvar = (v.float() for v in vae.posterior(video))
    logvar = logvar.clamp(-20, 10)
    sample = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
    error = vae.decode(sample, clamp=False).float() - video
    weight = 1 + preset.subject_weight * mask
    reconstruction = (weight * (error.abs() + error.square())).mean() / weight.mean()
    flicker = error.diff(dim=2).square().mean() if error.shape[2] > 1 else 0.0
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
    loss = reconstruction + preset.flicker_weight * flicker + preset.kl_weight * kl
    return loss, reconstruction


def psnr(error_squared: float) -> float:
    """Peak signal-to-noise ratio in dB of values in -1..1."""
    return float(10 * np.log10(4 / max(error_squared, 1e-12)))


@torch.no_grad()
def evaluate(
    vae: VideoVAE, clips: int, width: int, height: int, frames: int = 17, seed: int = 10**6
):
    """Mean PSNR over held-out clips: whole clip, and inside subjects' boxes in the last frame."""
    rng = np.random.default_rng(seed)
    whole, boxes = [], []
    for _ in range(clips):
        clip = render(sample_scene(rng, width, height, frames, held_out=True))
        video = torch.from_numpy(clip.frames_FHWC)[None].permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        video = video.to(next(vae.parameters()).device)
        error = (vae.decode(vae.encode(video)).float() - video)[0].square()
        whole.append(psnr(error.mean().item()))
        for mask in clip.masks_NFHW[:, -1]:
            ys, xs = np.nonzero(mask > 127)
            if len(ys) > 20:
                box = error[:, -1, ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
                boxes.append(psnr(box.mean().item()))
    return float(np.mean(whole)), float(np.mean(boxes))


@torch.no_grad()
def latent_statistics(vae: VideoVAE, clips: int = 96, seed: int = 7):
    """Per-channel mean and standard deviation of latents over random training clips."""
    rng = np.random.default_rng(seed)
    columns = []
    for i in range(clips):
        video, _ = draw_batch(rng, 1, (1, 9, 17, 33)[i % 4], *SMALL[i % len(SMALL)])
        latent = vae.encode(video.to(next(vae.parameters()).device)).float()
        columns.append(latent[0].flatten(1))
    values = torch.cat(columns, 1)
    return tuple(values.mean(1).tolist()), tuple(values.std(1).tolist())


def train(args: argparse.Namespace, replicas: Replicas) -> None:
    preset = PRESETS[args.preset]
    preset = replace(preset, minutes=args.minutes or preset.minutes, lr=args.lr or preset.lr)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    vae = (load_vae(args.start) if args.start else new_vae(preset)).to(device).train()
    learning = nn.ModuleDict({"decoder": vae.decoder, "conv2": vae.conv2})
    optimizers = Optimizers(
        learning if args.decoder_only else vae, preset.lr, preset.lr / 2, adam=EDGE_LAYERS
    )
    run = Run(args.run, preset.minutes)
    if payload := run.resume(device):
        vae.load_state_dict(payload["model"])
        optimizers.load_state_dict(payload["optimizers"])
    films = Films(preset, replicas, run.step)
    ahead = 4 if preset.workers else None
    batches = iter(DataLoader(films, None, num_workers=preset.workers, prefetch_factor=ahead))
    average = None
    while (progress := replicas.agree(run.progress)) < 1:
        video, mask = next(batches)
        with torch.autocast(device, torch.bfloat16):
            loss, reconstruction = loss_of(
                vae, video.to(device), mask.to(device), preset, args.decoder_only
            )
        loss.backward()
        replicas.average_gradients(optimizers.parameters)
        optimizers.step(run.rate(progress))
        run.step += 1
        value = reconstruction.item()
        average = value if average is None else 0.98 * average + 0.02 * value
        if replicas.leads and run.step % 500 == 0:
            whole, box = evaluate(vae, 16, 64, 64)
            run.log(loss=average, psnr=whole, box_psnr=box)
        if replicas.leads and run.due():
            run.save({"model": vae.state_dict(), "optimizers": optimizers.state_dict()})
    if replicas.leads:
        run.save({"model": vae.state_dict(), "optimizers": optimizers.state_dict()})
        if not args.decoder_only:
            mean, std = latent_statistics(vae)
            vae.config = replace(vae.config, latent_mean=mean, latent_std=std)
        facts = {"steps": run.step, "preset": args.preset}
        save("vae", vae, args.out or run.folder / "weights", facts)


def new_vae(preset: Preset) -> VideoVAE:
    encoder, decoder = preset.widths
    mini = VAE_PRESETS["blockworld-mini"]
    return VideoVAE(replace(mini, encoder_width=encoder, decoder_width=decoder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--run", default="runs/vae", help="folder of checkpoints and log")
    parser.add_argument("--out", help="folder for the weights; default RUN/weights")
    parser.add_argument("--start", help="folder of weights to go on from")
    parser.add_argument("--decoder-only", action="store_true", help="leave the encoder as it is")
    parser.add_argument("--processes", type=int, default=0, help="default: one for each core")
    args = parser.parse_args()
    if args.decoder_only and not args.start:
        parser.error("--decoder-only needs --start FOLDER, the weights whose encoder is kept.")
    alone = torch.cuda.is_available()
    launch(train, args, 1 if alone else args.processes or os.cpu_count() or 1)


if __name__ == "__main__":
    main()
