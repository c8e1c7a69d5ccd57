"""What a verb is given: a VIDEO, an IMAGE batch or a LATENT, as one clip; and VIDEOs given out.

B batch, C channels, T/H/W latent frames/rows/columns, F pixel frames; frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from av.error import FFmpegError
from torch import Tensor

from ..models.assembly import Piece, crop, gathered, pad_to, play
from ..models.timeline import pixel_frames
from . import host
from .api import Input
from .host.duck import temporal_stride
from .latent_dicts import FPS, SEAMS, real_frames, samples_of, shown_size
from .sound import place
from .video import LazyVideo

SAME_RATE = 0.02  # rates that differ by less count as one, as 29.97 and 30 do
PATCH = 2  # latent rows and columns of a patch, of Blockworld and Wan alike
WIDE = 32  # pixels of a latent cell, as LTX's, that is a patch by itself


@dataclass(frozen=True)
class Footage:
    """One clip: its frames, its latents where it came as those, and where its parts begin."""

    vae: Any
    frames_FHWC: Tensor
    fps: float
    audio: dict | None = None
    latent_1CTHW: Tensor | None = None
    seams: tuple[int, ...] = ()

    @property
    def frames(self) -> int:
        return len(self.frames_FHWC)

    @property
    def stride(self) -> int:
        """Frames that a latent frame stands for, after the first."""
        return temporal_stride(self.vae)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.frames_FHWC.shape[1], self.frames_FHWC.shape[2]

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    def part(self, first: int, stop: int) -> Footage:
        """Frames first .. stop - 1, with their sound; latents as far as they hold just those."""
        if (first, stop) == (0, self.frames):
            return self
        latent, stride = None, self.stride
        if self.latent_1CTHW is not None and first == 0 and (stop - 1) % stride == 0:
            latent = self.latent_1CTHW[:, :, : (stop - 1) // stride + 1]
        audio = place(self.audio, -first / self.fps, (stop - first) / self.fps)
        frames_FHWC = self.frames_FHWC[first:stop]
        seams = tuple(seam - first for seam in self.seams if first < seam < stop)
        return Footage(self.vae, frames_FHWC, self.fps, audio, latent, seams)


def told_source(*clips: Footage) -> dict:
    """For a node's `ui`: how long each clip is, where nothing on the canvas says it beforehand."""
    return {"patchdit_source": [{"seconds": clip.seconds, "fps": clip.fps} for clip in clips]}


def read_footage(video: Any, vae: Any, fps: float, audio: dict | None = None) -> Footage:
    """The clip on a VIDEO, IMAGE or LATENT wire; `fps` is of images and of latents that say none.

    `audio` goes with it, in place of a VIDEO's own. A LATENT is decoded: its frames are what
    decoding gives, bit for bit.
    """
    if not isinstance(video, dict):
        frames_FHWC, own, fps = frames_of(video, fps)
        check_frames(frames_FHWC)
        check_rate("fps", fps)
        return Footage(vae, frames_FHWC.float().cpu(), fps, audio or own)
    samples = samples_of(video, host.latent_channels(vae))
    if len(samples) != 1:
        raise ValueError(
            f"The latent is a batch of {len(samples)} clips; this node takes one at a time"
            " (Latent From Batch picks one)."
        )
    rows, columns = samples.shape[3:]
    patch, stride = patch_of(vae), temporal_stride(vae)
    if rows % patch or columns % patch:
        raise ValueError(
            f"The latent has {rows} rows and {columns} columns; need multiples of {patch}: make it"
            f" of frames whose sides are multiples of {grid_of(vae)} pixels."
        )
    count = pixel_frames(samples.shape[2], stride)
    decoded_FHWC = gathered(host.decode_frames(vae, samples), count)
    size = shown_size(video, (rows, columns), decoded_FHWC.shape[1] // rows, grid_of(vae))
    frames_FHWC = crop(decoded_FHWC, size)[: real_frames(video, stride)]
    whole = len(frames_FHWC) == pixel_frames(samples.shape[2], stride)
    latent = samples.float().cpu() if whole else None
    fps = check_rate("fps", video.get(FPS) or fps)
    seams = tuple(seam for seam in video.get(SEAMS, ()) if 0 < seam < len(frames_FHWC))
    return Footage(vae, frames_FHWC, fps, audio, latent, seams)


def check_rate(name: str, fps: float) -> float:
    """The frames per second; ValueError unless they are from 0.1 to 1000."""
    if not 0.1 <= fps <= 1000:
        raise ValueError(f"Setting {name} is {fps:g} frames per second; need 0.1 to 1000.")
    return fps


def check_frames(frames_FHWC: Tensor, name: str = "The video") -> None:
    """ValueError, which calls them `name`, unless they are one frame of RGB or more, of numbers."""
    shape = tuple(frames_FHWC.shape)
    if shape[:1] == (0,):
        raise ValueError(f"{name} has no frames; need at least one.")
    if len(shape) != 4 or shape[-1] != 3 or 0 in shape:
        raise ValueError(
            f"{name} is {shape} (frames, height, width, channels); need three channels."
        )
    if not frames_FHWC.is_floating_point():
        raise ValueError(
            f"{name} holds {frames_FHWC.dtype} values; need colours from 0 to 1 as floats."
        )
    if not frames_FHWC.isfinite().all():
        raise ValueError(
            f"{name} holds values that are not numbers (NaN or infinite); the node that made it"
            " went wrong."
        )


def frames_of(video: Any, fps: float) -> tuple[Tensor, dict | None, float]:
    """Frames (F,H,W,3), audio and frames per second of a VIDEO, or of images at `fps`."""
    if not isinstance(video, Input.Video):
        return video[..., :3], None, fps
    try:
        parts = video.get_components()
    except FFmpegError as error:
        raise ValueError(
            f"The video cannot be read ({error}); need a file that FFmpeg opens."
        ) from error
    return parts.images[..., :3], parts.audio, float(parts.frame_rate)


def same_rate(fps: float, other: float) -> bool:
    return abs(fps / other - 1) < SAME_RATE


def at_rate(clip: Footage, fps: float, name: str) -> tuple[Footage, tuple[str, ...]]:
    """A clip at another frame rate, and what was done to it, in words that call it `name`.

    The frames nearest in time are taken. At about that rate it keeps its own, latents included.
    """
    count = max(round(clip.frames * fps / clip.fps), 1)
    if count == clip.frames and same_rate(clip.fps, fps):
        return replace(clip, fps=fps), ()
    places = [min(round(i * clip.fps / fps), clip.frames - 1) for i in range(count)]
    note = (
        f"{name} was changed from {clip.fps:g} to {fps:g} fps: of its {clip.frames} frames, the"
        f" nearest in time make {count}."
    )
    frames_FHWC = clip.frames_FHWC[places]
    return replace(clip, frames_FHWC=frames_FHWC, latent_1CTHW=None, seams=(), fps=fps), (note,)


def patch_of(vae: Any) -> int:
    """Latent rows and columns of a patch; a cell as wide as LTX's is one by itself."""
    return 1 if host.spatial_stride(vae) >= WIDE else PATCH


def grid_of(vae: Any) -> int:
    """Pixels that frames must be multiples of: a patch of latent cells."""
    return patch_of(vae) * host.spatial_stride(vae)


def encode_clip(vae: Any, frames_FHWC: Tensor) -> Tensor:
    """The latents_1CTHW of 1 + stride * k frames of any size, padded to whole patches."""
    padded = pad_to(frames_FHWC, grid_of(vae))
    return host.encode_frames(vae, padded, host.progress(len(padded))).float().cpu()


def encode_ending(vae: Any, frames_FHWC: Tensor, lead: int = 2) -> Tensor:
    """The latents_1CTHW of whole groups of frames that end a sequence, as `encode_suffix` does.

    The frames are copied once, behind their lead-in, and reach the VAE as they are.
    """
    frames, stride = len(frames_FHWC), temporal_stride(vae)
    if frames < stride or frames % stride:
        raise ValueError(f"An ending of {frames} frames: the count must be a multiple of {stride}.")
    still_FHWC = frames_FHWC[:1].expand(1 + stride * lead, -1, -1, -1)
    return encode_clip(vae, torch.cat((still_FHWC, frames_FHWC)))[:, :, lead + 1 :]


def last_frame_as_image(vae: Any, latent_1CTHW: Tensor) -> Tensor:
    """The last frame of a clip's latents, encoded as an image latent_1C1HW."""
    frame_HWC = None
    for chunk_FHWC in host.decode_frames(vae, latent_1CTHW):
        frame_HWC = chunk_FHWC[-1]
    return encode_clip(vae, frame_HWC[None])  # pyright: ignore[reportOptionalSubscript]


def video_of(
    vae: Any, pieces: tuple[Piece, ...], fps: float, size: tuple[int, int], audio: dict | None
) -> LazyVideo:
    """A VIDEO that plays pieces, decoding as it goes; `size` is height and width."""
    decode = partial(host.decode_frames, vae)
    frames = sum(piece.frames for piece in pieces)

    def source() -> Iterator[Tensor]:
        return play(pieces, decode)

    return LazyVideo(source, (size[1], size[0]), frames, fps, audio)
