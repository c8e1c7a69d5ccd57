"""A clip put together from pieces: frames that somebody gave, and frames decoded from latents.

Given frames are shown exactly as they are. What the autoencoder lost of the given frame next to a
made piece is added back to the made frames and fades, so that sharpness and colour do not jump. It
is added only where the made frame still shows what that frame showed, so that nothing leaves a
ghost of itself behind.
F frames, H rows, W columns, C channels, T latent frames; frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

Decode = Callable[[Tensor], Iterator[Tensor]]  # latent_1CTHW -> chunks_FHWC of the whole clip


@dataclass(frozen=True)
class Given:
    """Frames shown exactly as they are."""

    frames_FHWC: Tensor

    @property
    def frames(self) -> int:
        return len(self.frames_FHWC)


@dataclass(frozen=True)
class Made:
    """Frames `first` .. `first + count` - 1 of what a latent decodes to.

    `before` and `after` are the true frames (H,W,C) where the latent shows frames first - 1 and
    first + count; their residuals fade over `fade` frames. `shown` places, in decoded frames from
    first - 1 on (0.5 is half-way between the frame before and the first), are shown instead of all
    frames one by one, where the frame rate changes. Where `kept_FHW` is above 0, `kept_FHWC` shows
    through by that much: 1 is exact. Frames are cut to `size` (H,W) where the latent is larger.
    """

    latent_1CTHW: Tensor
    first: int
    count: int
    before_HWC: Tensor | None = None
    after_HWC: Tensor | None = None
    fade: int = 16
    shown: tuple[float, ...] | None = None
    kept_FHWC: Tensor | None = None
    kept_FHW: Tensor | None = None
    size: tuple[int, int] | None = None

    @property
    def frames(self) -> int:
        return self.count if self.shown is None else len(self.shown)


Piece = Given | Made
SAME = 0.12  # a change of decoded colour, of 0..1, at which a residual is down to 1/e


@dataclass(frozen=True)
class Residual:
    """What decoding lost of a true frame, and what it gave."""

    lost_HWC: Tensor
    decoded_HWC: Tensor

    def on(self, frame_HWC: Tensor) -> Tensor:
        """What of it still fits a decoded frame (H,W,C): less where the picture has changed."""
        change_HW = (frame_HWC - self.decoded_HWC).abs().amax(-1)
        around_HW = F.max_pool2d(change_HW[None, None], 5, stride=1, padding=2)[0, 0]
        return self.lost_HWC * torch.exp(-((around_HW / SAME) ** 2)).unsqueeze(-1)


def play(pieces: Sequence[Piece], decode: Decode) -> Iterator[Tensor]:
    """The clip as chunks_FHWC, decoded as it goes."""
    for piece in pieces:
        if isinstance(piece, Given):
            if piece.frames:
                yield piece.frames_FHWC
        else:
            yield from play_made(piece, decode)


def play_made(made: Made, decode: Decode) -> Iterator[Tensor]:
    """A made piece as chunks_FHWC."""
    lead, trail = residuals(made, decode)
    whole = (shown_at(frame, i, made, lead, trail) for i, frame in enumerate(cut(made, decode)))
    if made.shown is None:
        for i, frame_HWC in enumerate(whole):
            yield keep(frame_HWC, made, i)[None]
        return
    ends = made.before_HWC, made.after_HWC
    for i, frame_HWC in enumerate(between(whole, made.shown, *ends)):
        yield keep(frame_HWC, made, i)[None]


def cut(made: Made, decode: Decode) -> Iterator[Tensor]:
    """The decoded frames_HWC of a piece, without residuals."""
    frames = decoded_frames(made, decode)
    for i, frame_HWC in enumerate(frames):
        if i >= made.first + made.count:
            return
        if i >= made.first:
            yield frame_HWC


def decoded_frames(made: Made, decode: Decode) -> Iterator[Tensor]:
    for chunk_FHWC in decode(made.latent_1CTHW):
        yield from chunk_FHWC if made.size is None else crop(chunk_FHWC, made.size)


def crop(frames_FHWC: Tensor, size: tuple[int, int]) -> Tensor:
    """The top left H rows and W columns: `pad_to` grew frames at the bottom and on the right."""
    return frames_FHWC[..., : size[0], : size[1], :]


def residuals(made: Made, decode: Decode) -> tuple[Residual | None, Residual | None]:
    """True frame less decoded frame just before and just after a piece."""
    wanted = {}
    if made.before_HWC is not None and made.first > 0:
        wanted[made.first - 1] = made.before_HWC
    if made.after_HWC is not None:
        wanted[made.first + made.count] = made.after_HWC
    found = {}
    if wanted:
        for i, frame_HWC in enumerate(decoded_frames(made, decode)):
            if i in wanted:
                found[i] = Residual(wanted[i] - frame_HWC, frame_HWC)
            if i >= max(wanted):
                break
    return found.get(made.first - 1), found.get(made.first + made.count)


def shown_at(
    frame_HWC: Tensor, i: int, made: Made, lead: Residual | None, trail: Residual | None
) -> Tensor:
    """Frame i of a piece with the fading residuals of its neighbours."""
    mended_HWC = frame_HWC
    for residual, distance in ((lead, i + 1), (trail, made.count - i)):
        weight = max(0.0, 1 - distance / (min(made.fade, made.count) + 1))
        if residual is not None and weight:
            mended_HWC = mended_HWC + weight * residual.on(frame_HWC)
    return mended_HWC.clamp(0, 1)


def keep(frame_HWC: Tensor, made: Made, i: int) -> Tensor:
    """The frame with what is kept of the given one in it."""
    if made.kept_FHWC is None or made.kept_FHW is None:
        return frame_HWC
    share = made.kept_FHW[min(i, len(made.kept_FHW) - 1)][..., None]
    mixed = torch.lerp(frame_HWC, made.kept_FHWC[i], share)
    return torch.where(share == 1, made.kept_FHWC[i], mixed)


def between(
    frames: Iterator[Tensor],
    places: Sequence[float],
    before_HWC: Tensor | None,
    after_HWC: Tensor | None,
) -> Iterator[Tensor]:
    """Frames at rising `places`, mixed from their two neighbours.

    Place 0 is the frame before, 1 the first of `frames`; the frame after follows the last.
    """
    earlier, later, at = before_HWC, next(frames, after_HWC), 1
    for place in places:
        while place > at and later is not None:
            following = next(frames, after_HWC if later is not after_HWC else None)
            if following is None:
                break
            earlier, later, at = later, following, at + 1
        if later is None:
            raise ValueError(f"A clip of {at - 1} frames has none at place {place:g}.")
        share = min(max(place - (at - 1), 0.0), 1.0)
        yield later if earlier is None or share == 1 else torch.lerp(earlier, later, share)


def pad_to(frames_FHWC: Tensor, multiple: int) -> Tensor:
    """Frames grown at the bottom and on the right, edges repeated, to multiples in height, width.

    `crop` undoes it exactly.
    """
    H, W = frames_FHWC.shape[1:3]
    rows = torch.arange(-(-H // multiple) * multiple).clamp(max=H - 1)
    columns = torch.arange(-(-W // multiple) * multiple).clamp(max=W - 1)
    return (
        frames_FHWC if len(rows) == H and len(columns) == W else frames_FHWC[:, rows][:, :, columns]
    )


def with_latent(pieces: Sequence[Piece], latent_1CTHW: Tensor) -> tuple[Piece, ...]:
    """The pieces, with made ones decoded from this latent."""
    return tuple(
        replace(piece, latent_1CTHW=latent_1CTHW) if isinstance(piece, Made) else piece
        for piece in pieces
    )
