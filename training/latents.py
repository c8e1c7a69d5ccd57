"""Clips of the world as latents with captions, made ahead so that training never waits for them.

B batch, C channels, T/H/W latent frames/rows/columns, F pixel frames, S text tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from patchdit.models.text import Tokenizer
from patchdit.models.timeline import encode_suffix, first_pixel_frame, latent_frames
from patchdit.models.video_vae import VideoVAE
from patchdit.training.abilities import film_ability
from patchdit.training.ability_captions import describe
from patchdit.training.blockworld import MOTIONS, SUBJECTS, Scene, render, sample_scene
from patchdit.training.captions import caption

CAPTIONS = 6  # phrasings kept of every clip
# What is learned last is filmed more often: stars, growth, and paths in a circle.
KINDS_FILMED = (*SUBJECTS, "star")
MOTIONS_FILMED = (*MOTIONS, "growing", "growing", "shrinking", "circling")


@dataclass
class Bucket:
    """Clips of one size and length. Latents are normalised per channel."""

    latents_NCTHW: Tensor  # float16
    subjects_NTHW: Tensor  # uint8 0..255: how much of a latent cell shows a subject
    suffixes_NCTHW: Tensor  # float16: the last frames encoded as a suffix; zeros before `starts`
    starts_N: Tensor  # latent frame at which the encoded suffix begins; T where there is none
    tokens_NKS: Tensor  # int16: CAPTIONS phrasings
    simple_N: Tensor  # whether one thing moves: the only subject, or the camera


def _film(job):
    """Render one clip in a worker: frames, subject mask, captions, simple; maybe an ability."""
    seed, size, ability_share = job
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    if rng.uniform() < ability_share:
        clip, simple = film_ability(rng, None, *size), False
        captions = [describe(clip, rng) for _ in range(CAPTIONS)]
    else:
        clip = render(sample_scene(rng, *size, kinds=KINDS_FILMED, motions=MOTIONS_FILMED))
        captions = [caption(clip.scene, rng) for _ in range(CAPTIONS)]
        simple = one_thing_moves(clip.scene)
    return clip.frames_FHWC, clip.masks_NFHW.max(0), captions, simple


def one_thing_moves(scene: Scene) -> bool:
    """Whether a scene has one subject, and it or the camera is still."""
    return len(scene.subjects) == 1 and "still" in (scene.camera.kind, scene.subjects[0].motion)


def _cells(masks_FHW: np.ndarray, stride: int) -> np.ndarray:
    """Masks averaged over latent cells, [T,H,W] uint8."""
    F, H, W = masks_FHW.shape
    cells = masks_FHW.reshape(F, H // stride, stride, W // stride, stride).mean((2, 4))
    rest = cells[1:].reshape(-1, 4, *cells.shape[1:]).mean(1)
    return np.concatenate([cells[:1], rest]).astype(np.uint8)


@torch.no_grad()
def encode_bucket(
    vae: VideoVAE,
    tokenizer: Tokenizer,
    length: int,
    count: int,
    size: tuple[int, int, int],
    seed: int,
    pool,
    batch: int,
    ability_share: float = 0.0,
    suffix_share: float = 0.35,
) -> Bucket:
    """Film in a pool of processes, encode and caption clips of `size` (width, height, frames)."""
    parameter = next(vae.parameters())
    device = parameter.device
    T = latent_frames(size[2])
    rng = np.random.default_rng(seed)
    latents, suffixes, starts, subjects, tokens, simple = [], [], [], [], [], []
    jobs = ((seed * 10**6 + i, size, ability_share) for i in range(count))
    films = pool.imap(_film, jobs, chunksize=4)
    for first in range(0, count, batch):
        rows = [next(films) for _ in range(min(batch, count - first))]
        video = torch.from_numpy(np.stack([r[0] for r in rows])).to(device)
        video = video.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16):
            latent = vae.encode(video).float()
            j = int(rng.integers(1, T)) if T > 1 and rng.uniform() < suffix_share else T
            suffix = torch.zeros_like(latent)
            if j < T:
                ending = video[:, :, first_pixel_frame(j) :]
                suffix[:, :, j:] = encode_suffix(vae, ending, int(rng.integers(1, 4))).float()
        latents.append(vae.normalise(latent).half().cpu())
        suffixes.append(vae.normalise(suffix).half().cpu())
        starts += [j] * len(rows)
        subjects += [_cells(r[1], vae.spatial_stride) for r in rows]
        tokens += [tokenizer.batch(r[2], length).short() for r in rows]
        simple += [r[3] for r in rows]
    return Bucket(
        torch.cat(latents),
        torch.from_numpy(np.stack(subjects)),
        torch.cat(suffixes),
        torch.tensor(starts),
        torch.stack(tokens),
        torch.tensor(simple),
    )
