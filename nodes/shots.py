"""A list of shots filled one by one: their words, lengths and keys, what is made and what is kept.

C channels, T/H/W latent frames/rows/columns; latents_1CTHW are raw VAE means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..models.assembly import Made
from ..models.digests import digest
from ..models.extend import Fill
from ..models.journal import Journal
from ..models.shot_runs import RunEnd, add_shot, recall
from ..models.timeline import STRIDE, pixel_frames
from . import host
from .footage import grid_of, last_frame_as_image, same_rate
from .host.duck import temporal_stride
from .kept_shots import KeptShots
from .latent_dicts import LONGEST, frames_for, latent_length
from .types import BOUNDARY, Shot
from .verbs import Sampling

CAMERAS = {  # as the small model was taught to say it; large ones understand it too
    "as prompted": "",
    "still": "static camera",
    "pan left": "the camera pans left",
    "pan right": "the camera pans right",
    "zoom in": "the camera zooms in",
    "zoom out": "the camera zooms out",
}


@dataclass(frozen=True)
class Board:
    """What all shots of a storyboard share."""

    model: Any
    clip: Any
    vae: Any
    subject: str
    negative: str
    size: tuple[int, int]  # height and width in pixels
    made_fps: float  # frames per second that the model makes
    seed: int
    steps: int
    cfg: float
    window: int  # latent frames
    context: int  # latent frames
    model_low: Any | None = None
    boundary: float = BOUNDARY

    def encode(self, text: str, what: str) -> list:
        """CONDITIONING of a text."""
        try:
            return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error

    @property
    def stride(self) -> int:
        """Frames that a latent frame stands for, after the first."""
        return temporal_stride(self.vae)

    @property
    def fingerprint(self) -> object:
        """What tells the weights, and which of them take which steps, from any others."""
        own = host.fingerprint(self.model)
        low = self.model_low
        return own if low is None else (own, host.fingerprint(low), self.boundary)

    def sampling(self, positive: list, negative: list, seed: int) -> Sampling:
        """How a shot is denoised."""
        late = {"vae": self.vae, "model_low": self.model_low, "boundary": self.boundary}
        prompts = self.model, positive, negative
        return Sampling(*prompts, seed=seed, steps=self.steps, cfg=self.cfg, **late)

    def empty(self, latents: int) -> Tensor:
        """An empty latent_1CTHW of the storyboard's size; a ValueError for a size that is none."""
        multiple = grid_of(self.vae)
        for name, pixels in zip(("height", "width"), self.size, strict=True):
            if pixels < multiple or pixels % multiple:
                raise ValueError(
                    f"Setting {name} is {pixels}; need a multiple of {multiple} pixels."
                )
        H, W = (pixels // host.spatial_stride(self.vae) for pixels in self.size)
        return torch.zeros(1, host.latent_channels(self.vae) or 16, latents, H, W)

    def add_shot(self, end: RunEnd | None, empty: Tensor, fill: Fill) -> tuple[Tensor, RunEnd]:
        """A shot's latents_1CTHW and how its run ends with it, from how that ended before."""
        still = partial(last_frame_as_image, self.vae)
        return add_shot(end, empty, self.window, self.context, fill, still)


@dataclass(frozen=True)
class Take:
    """A finished shot."""

    shot: Shot
    text: str  # the whole prompt
    seed: int
    latent_1CTHW: Tensor  # of a shot that continues: without what it continues from
    key: str
    continues: bool
    made: bool  # now; else it was kept from an earlier run
    end: RunEnd | None = None  # how its run ends with it; of a kept one nobody knows yet


def prompt_of(shot: Shot, subject: str) -> str:
    """The subject, what the shot shows of it, and the camera.

    A prompt that begins with a small letter goes on with the subject's sentence; `{subject}` in a
    prompt says where else the subject belongs.
    """
    subject, prompt, camera = subject.strip(), shot.prompt.strip(), CAMERAS[shot.camera]
    if "{subject}" in prompt:
        text = prompt.replace("{subject}", subject)
    else:
        join = " " if prompt[:1].islower() else ". "
        text = join.join(part for part in (subject, prompt) if part)
    return ", ".join(part for part in (text, camera) if part)


def latents_of(shot: Shot, continues: bool, fps: float, stride: int = STRIDE) -> int:
    """Latent frames of a shot: one that goes on needs none for a single first frame."""
    if continues:
        return max(round(shot.seconds * fps / stride), 1)
    return latent_length(frames_for(shot.seconds, fps, stride), stride)


def asked_of(shot: Shot, place: int) -> str:
    """A digest of what was asked for, locked or not; the first shot never continues."""
    asked = shot.prompt, shot.seconds, shot.camera, shot.continues and place > 0, shot.seed
    return digest(asked)[:24]


def check_shots(shots: Sequence[Shot], kept: KeptShots) -> None:
    """A ValueError for a shot that cannot be, before any is made.

    A list whose shots are all locked is no error where all of them are kept: there is nothing to
    make, and putting the film together again is what was asked for.
    """
    if not shots:
        raise ValueError("The shot list is empty; connect Shot nodes to shots.")
    for place, shot in enumerate(shots):
        if not 0 < shot.seconds <= LONGEST:
            raise ValueError(
                f"Shot {place + 1} lasts {shot.seconds:g} seconds; need more than 0 and at most"
                f" {LONGEST:g}: change its seconds."
            )
        if shot.locked and not kept.has(asked_of(shot, place)):
            raise ValueError(
                f"Shot {place + 1} is locked but was never made as it now reads in a storyboard of"
                " this name: unlock it for one run."
            )


def fill_shots(
    shots: Sequence[Shot], board: Board, kept: KeptShots, journal: Journal | None = None
) -> list[Take]:
    """All shots, kept ones as they were and the others made, each kept as soon as it is done."""
    check_shots(shots, kept)
    board.empty(1)
    negative = board.encode(board.negative, "Setting negative")
    common = (
        board.fingerprint,
        negative,
        (board.size, board.made_fps, board.steps, board.cfg, board.window, board.context),
    )
    takes: list[Take] = []
    for place, shot in enumerate(shots):
        if takes and host.heed_stop():  # nothing goes on from what is not done
            break
        continues = shot.continues and place > 0
        seed = board.seed if shot.seed is None else shot.seed
        text = prompt_of(shot, board.subject)
        positive = board.encode(text, f"Shot {place + 1}")
        latents = latents_of(shot, continues, board.made_fps, board.stride)
        before = takes[-1].key if continues else ""
        key = digest((common, positive, latents, seed, before))[:24]
        asked = asked_of(shot, place)
        found = kept_take(shot, place, asked, key, board, kept)
        if found is not None:
            takes.append(Take(shot, text, seed, found[1], found[0], continues, made=False))
            continue
        sampling = board.sampling(positive, negative, seed)
        fill, before = sampling.fill(board.made_fps, journal), takes if continues else ()
        latent, end = board.add_shot(run_end(before, board), board.empty(latents), fill)
        if not host.was_stopped():
            kept.keep(place, asked, key, latent)
        takes.append(Take(shot, text, seed, latent, key, continues, made=True, end=end))
    return takes


def kept_take(
    shot: Shot, place: int, asked: str, key: str, board: Board, kept: KeptShots
) -> tuple[str, Tensor] | None:
    """Key and latents of a shot that is there; of a locked one whatever changed around it."""
    exact = kept.find(key)
    if exact is not None or not shot.locked:
        return None if exact is None else (key, exact)
    found = kept.find_asked(asked, place)
    if found is None:
        raise ValueError(
            f"Shot {place + 1} is locked and what was kept of it is damaged: unlock it to make it"
            " again."
        )
    here, there = board.empty(1).shape, found[1].shape
    if (*here[:2], *here[3:]) != (*there[:2], *there[3:]):
        stride = host.spatial_stride(board.vae)
        raise ValueError(
            f"Shot {place + 1} is locked and was made at {there[4] * stride}x{there[3] * stride}"
            f" pixels with {there[1]} channels: set width and height to that, or unlock it."
        )
    return found


def run_end(takes: Sequence[Take], board: Board) -> RunEnd | None:
    """How the last run of shots ends; kept ones at its end go through their windows once more."""
    end, kept = None, []
    for take in reversed(takes):
        end = take.end
        if end is None:
            kept.append(take.latent_1CTHW)
        if end is not None or not take.continues:
            break
    for latent in reversed(kept):
        _, end = board.add_shot(end, latent, recall(latent))
    return end


def runs_of(takes: Sequence[Take]) -> list[Tensor]:
    """One latents_1CTHW for each run of shots between two cuts."""
    runs: list[list[Tensor]] = []
    for take in takes:
        if take.continues:
            runs[-1].append(take.latent_1CTHW)
        else:
            runs.append([take.latent_1CTHW])
    return [torch.cat(run, 2) for run in runs]


def piece_of(run_1CTHW: Tensor, board: Board, fps: float) -> Made:
    """A run's frames, at `fps` mixed from the nearest two that the model made."""
    made, shown = pixel_frames(run_1CTHW.shape[2], board.stride), None
    if not same_rate(fps, board.made_fps):
        count = max(round(made * fps / board.made_fps), 1)
        shown = tuple(min(1 + i * board.made_fps / fps, made) for i in range(count))
    return Made(run_1CTHW, 0, made, shown=shown, size=board.size)


def starts_of(takes: Sequence[Take], board: Board, fps: float) -> list[int]:
    """The frame at which each shot begins, and the frames of them all."""
    starts, run_start, latents = [0], 0, 0
    for i, take in enumerate(takes):
        latents = take.latent_1CTHW.shape[2] + (latents if take.continues else 0)
        frames = pixel_frames(latents, board.stride)
        scale = 1.0 if same_rate(fps, board.made_fps) else fps / board.made_fps
        starts.append(run_start + max(round(frames * scale), 1))
        if i + 1 < len(takes) and not takes[i + 1].continues:
            run_start = starts[-1]
    return starts


def shots_report(takes: Sequence[Take], board: Board, fps: float, starts: list[int]) -> str:
    """What was done, shot by shot."""
    made = sum(take.made for take in takes)
    lines = [
        f"{len(takes)} shots, {made} made now and {len(takes) - made} kept; {starts[-1]} frames"
        f" ({starts[-1] / fps:.2f} s at {fps:g} fps).",
    ]
    for i, take in enumerate(takes):
        join = "continues" if take.continues else "cut"
        state = "made" if take.made else "locked" if take.shot.locked else "kept"
        lines.append(
            f"{i + 1}: frames {starts[i]} to {starts[i + 1] - 1}, {join}, {state}, seed"
            f" {take.seed}: {take.text}"
        )
    same = len({take.seed for take in takes}) == 1
    noise = "all shots begin with the same noise" if same else "shots of one seed begin alike"
    if board.subject.strip():
        lines.append(f"The subject is said in every prompt, and {noise}.")
    if not same_rate(fps, board.made_fps):
        lines.append(
            f"Made at {board.made_fps:g} fps, shown at {fps:g}: each frame is mixed from the two"
            " nearest."
        )
    return "\n".join(lines)
