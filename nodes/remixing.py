"""Remaking what a clip shows: its latents, the region that may change, and both ways to do it.

B batch, C channels, T/H/W latent frames/rows/columns, F pixel frames. Latents on wires are raw VAE
means, frames_FHWC are RGB in 0..1; a MASK has the frames' rows and columns, 1 = change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.assembly import Made, pad_to
from ..models.flow import DenoiseState, finish
from ..models.guidance import Denoiser
from ..models.journal import Journal
from ..models.remix import Remake, edit_step, remix_lengths, start_edit
from ..models.timeline import first_pixel_frame, pixel_frames, whole_groups
from . import host
from .footage import Footage, encode_clip, grid_of
from .latent_dicts import FPS, FRAMES, mask_of
from .sampling import latent_of, tell_known, walk
from .types import Denoising, Plan
from .verbs import Sampling, with_kept

EDGE = 4  # pixels inside a region over which it fades into what is kept


@dataclass(frozen=True)
class Remix:
    """A clip about to be remade: its latents and where they may change, here and in the frames."""

    clip: Footage
    source_1CTHW: Tensor
    mask_11THW: Tensor  # 1 = change
    kept_FHW: Tensor | None  # share of the given frames that shows; None: nothing is kept


def prepare_remix(clip: Footage, mask: Tensor | None) -> Remix:
    """The clip's latents, the last frame repeated to make whole groups, and the mask on their
    grid."""
    source, stride = clip.latent_1CTHW, clip.stride
    if source is None:
        source = encode_clip(clip.vae, whole_groups(clip.frames_FHWC, stride))
    if mask is None:
        return Remix(clip, source, torch.ones_like(source[:, :1]), None)
    mask_FHW = checked_mask(mask, clip)
    grown = mask_FHW if len(mask_FHW) == 1 else whole_groups(mask_FHW, stride)
    padded = pad_to(grown[..., None], grid_of(clip.vae))[..., 0]
    cells = mask_of({"noise_mask": padded}, tuple(source.shape), stride)
    assert cells is not None  # there is a noise mask
    return Remix(clip, source, cells, kept_share(mask_FHW))


def checked_mask(mask: Tensor, clip: Footage) -> Tensor:
    """A MASK as mask_FHW in 0..1; a ValueError for one that does not fit the clip."""
    mask_FHW = mask.detach().float().cpu().reshape(-1, *mask.shape[-2:])
    frames, *size = mask_FHW.shape
    if tuple(size) != clip.size or frames not in (1, clip.frames):
        raise ValueError(
            f"Setting mask has {frames} frames of {size[1]}x{size[0]}; the clip has {clip.frames}"
            f" of {clip.size[1]}x{clip.size[0]}: give a mask of its size, one or as many."
        )
    if not mask_FHW.isfinite().all():
        raise ValueError("Setting mask holds values that are not numbers (NaN or infinite).")
    if not (mask_FHW > 0).any():
        raise ValueError(
            "Setting mask marks nothing to change; paint it white where to, or drop it."
        )
    return mask_FHW.clamp(0, 1)


def kept_share(mask_FHW: Tensor) -> Tensor:
    """1 where nothing is to change, falling to 0 over EDGE pixels into the region."""
    outside = (mask_FHW == 0).float()[:, None]
    side = 2 * EDGE + 1
    near = F.avg_pool2d(outside, side, 1, EDGE, count_include_pad=False)
    return torch.where(outside == 1, outside, (2 * near).clamp(max=1))[:, 0]


def remix_plan(remix: Remix, report: str, lengths: list[int] | None = None) -> Plan:
    """How the remade latents become the clip; frames that are kept show as they were given."""
    clip, source = remix.clip, remix.source_1CTHW
    latent = {"samples": source, "noise_mask": remix.mask_11THW, FPS: clip.fps}
    if pixel_frames(source.shape[2], clip.stride) != clip.frames:
        latent[FRAMES] = clip.frames
    kept = None if remix.kept_FHW is None else clip.frames_FHWC
    piece = Made(source, 0, clip.frames, kept_FHWC=kept, kept_FHW=remix.kept_FHW, size=clip.size)
    ends = list(accumulate(lengths or []))[:-1]
    seams = (*clip.seams, *(first_pixel_frame(end, clip.stride) for end in ends))
    parts = (slice(None),)
    return Plan(clip.vae, latent, parts, (piece,), clip.fps, clip.size, clip.audio, seams, report)


def remix_report(remix: Remix, how: str, lengths: list[int]) -> str:
    """What is done, in words."""
    clip, share = remix.clip, float((remix.mask_11THW > 0).float().mean())
    where = "the whole frame" if remix.kept_FHW is None else f"{share:.0%} of the latent cells"
    lines = [
        f"Remixed {clip.frames} frames ({clip.seconds:.2f} s) {how}: {where}, in"
        f" {len(lengths)} window{'s' * (len(lengths) != 1)}.",
        f"The clip stays at its {clip.fps:g} frames per second, each remade from its own.",
    ]
    return "\n".join(lines)


def by_noise(sampling: Sampling, fps: float, journal: Journal | None) -> Remake:
    """SDEdit (Meng et al. 2021, arXiv:2108.01073): noise as `sampling.denoise` says, denoised."""
    fill = sampling.fill(fps, journal)
    return lambda source_BCTHW, latent_BCTHW, mask_B1THW: fill(latent_BCTHW, mask_B1THW)


def by_flow_edit(
    sampling: Sampling, source: list, source_cfg: float, fps: float, journal: Journal | None
) -> Remake:
    """FlowEdit from the prompt `source` to the positive one; each window has noise of its own."""
    windows = 0

    def remake(source_BCTHW: Tensor, latent_BCTHW: Tensor, mask_B1THW: Tensor) -> Tensor:
        nonlocal windows
        latent = {"samples": latent_BCTHW, "noise_mask": mask_B1THW, FPS: fps}
        run = sampling.begin(latent, windows)
        model_source = host.prepare_latent(sampling.model, {"samples": source_BCTHW})
        state = edited(run, model_source, source, source_cfg, journal)
        windows += 1
        return with_kept(latent, latent_of(run, finish(state)))

    return remake


def edited(
    run: Denoising, source_BCTHW: Tensor, source: list, source_cfg: float, journal: Journal | None
) -> DenoiseState:
    """The run, edited to its end; `source_BCTHW` is in the model's own space."""
    run = replace(run, state=start_edit(run.state))
    of_source = replace(run, positive=source, state=replace(run.state, latent=source_BCTHW))
    of_source = tell_known(of_source)
    guides = [
        (run.positive, run.negative, run.cfg),
        (of_source.positive, of_source.negative, source_cfg),
    ]

    def step(state: DenoiseState, there: Denoiser, here: Denoiser) -> DenoiseState:
        return edit_step(state, source_BCTHW, here, there)

    until = run.state.step + run.state.steps_left
    return walk(run, until, guides, step, journal, ("flow edit", source_BCTHW)).state


def lengths_of(remix: Remix, window: int, context: int) -> list[int]:
    """Latents that each window remakes; a ValueError where the context fills the window."""
    if remix.source_1CTHW.shape[2] > window and context >= window:
        raise ValueError(
            f"Setting context is {context} of the window's {window} latent frames; make the context"
            " shorter or the window longer."
        )
    return remix_lengths(remix.source_1CTHW.shape[2], window, context)
