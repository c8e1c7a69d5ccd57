"""A clip put together from pieces: frames that somebody gave, and frames decoded from latents.

Given frames are shown exactly as they are. What a made piece would jump by, next to a given frame,
is added back to its frames and fades: the residual. It moves with what it belongs to, and ends
where that is seen no longer, so that nothing leaves a ghost of itself behind.
F frames, H rows, W columns, C channels, T latent frames; frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import cos, pi

import torch
import torch.nn.functional as F
from torch import Tensor

from .motion import carry, optical_flow

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
    through by that much: 1 is exact; it may be smaller than the frame, with its top left corner at
    `kept_at` and its outermost pixels going on around it. Frames are cut to `size` (H,W) where the
    latent is larger.
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
    kept_at: tuple[int, int] = (0, 0)

    @property
    def frames(self) -> int:
        return self.count if self.shown is None else len(self.shown)


Piece = Given | Made
SAME = 0.35  # a change of colour, of 0..1, at which `alike` is down to 1/e


@dataclass(frozen=True)
class Residual:
    """What one decoded frame lacks: nothing but this, if it is added, jumps at the seam."""

    lost_HWC: Tensor
    decoded_HWC: Tensor

    def carried_to(self, frame_HWC: Tensor, seam: bool = False) -> Residual:
        """The same for the next decoded frame, moved as the picture moves.

        Across the seam it also takes up what the made frame changed of the known one, so that all
        that is left there is motion. It ends where the picture shows something else.
        """
        flow_HW2 = optical_flow(frame_HWC, self.decoded_HWC)
        lost_HWC, seen_HWC = carry(self.lost_HWC, flow_HW2), carry(self.decoded_HWC, flow_HW2)
        if seam:
            lost_HWC = lost_HWC + seen_HWC - frame_HWC
        return Residual(lost_HWC * alike(seen_HWC, frame_HWC), frame_HWC)


def alike(one_HWC: Tensor, other_HWC: Tensor) -> Tensor:
    """How far two frames show the same around each pixel, (H,W,1): from 0, not at all, to 1."""
    change_11HW = (one_HWC - other_HWC).abs().amax(-1)[None, None]
    around_HW = F.max_pool2d(change_11HW, 5, stride=1, padding=2)[0, 0]
    return torch.exp(-((around_HW / SAME) ** 2)).unsqueeze(-1)


class Reel:
    """The frames that a latent decodes to, in one pass; those that were let go are gone."""

    def __init__(self, made: Made, decode: Decode):
        self.latent_1CTHW, self.size = made.latent_1CTHW, made.size
        self._frames = decoded_frames(made, decode)
        self._held: dict[int, Tensor] = {}
        self._next, self._begin = 0, 0

    def frame(self, at: int) -> Tensor | None:
        """Frame `at` (H,W,C); None where the latent ends before it."""
        while self._next <= at:
            frame_HWC = next(self._frames, None)
            if frame_HWC is None:
                return None
            if self._next >= self._begin:
                self._held[self._next] = frame_HWC
            self._next += 1
        return self._held[at]

    def let_go(self, begin: int) -> None:
        """Frames before `begin` are asked for no more."""
        self._begin = max(self._begin, begin)
        for at in [at for at in self._held if at < begin]:
            del self._held[at]

    def serves(self, made: Made) -> bool:
        """Whether a piece can go on with this reel."""
        same = self.latent_1CTHW is made.latent_1CTHW and self.size == made.size
        return same and made.first > self._begin


def play(pieces: Sequence[Piece], decode: Decode) -> Iterator[Tensor]:
    """The clip as chunks_FHWC, decoded as it goes; pieces of one latent in a row are one pass."""
    reel: Reel | None = None
    last = max((i for i, piece in enumerate(pieces) if isinstance(piece, Made)), default=-1)
    for i, piece in enumerate(pieces):
        if isinstance(piece, Given):
            if piece.frames:
                yield piece.frames_FHWC
        else:
            if reel is None or not reel.serves(piece):
                reel = Reel(piece, decode)
            yield from play_made(piece, reel)
            if i == last:
                reel = None  # what it holds is not needed while the end plays


def play_made(made: Made, reel: Reel) -> Iterator[Tensor]:
    """A made piece as chunks_FHWC."""
    whole = mended(made, reel)
    if made.shown is not None:
        whole = between(whole, made.shown, made.before_HWC, made.after_HWC)
    for i, frame_HWC in enumerate(whole):
        yield keep(frame_HWC, made, i)[None]


def mended(made: Made, reel: Reel) -> Iterator[Tensor]:
    """The decoded frames_HWC of a piece with the fading residuals of its neighbours."""
    reel.let_go(made.first - 1)
    lead, trail, reach = None, {}, min(made.fade, made.count)
    if made.before_HWC is not None and made.first:
        frame_HWC = reel.frame(made.first - 1)
        lead = None if frame_HWC is None else Residual(made.before_HWC - frame_HWC, frame_HWC)
    for i in range(made.count):
        if i == made.count - reach:
            trail = trailing(made, reel)
        frame_HWC = reel.frame(made.first + i)
        if frame_HWC is None:
            return
        reel.let_go(made.first + i)
        whole_HWC = frame_HWC + trail.get(i, 0)
        if lead is not None and (weight := fading(made, i + 1)):
            lead = lead.carried_to(frame_HWC, seam=i == 0)
            whole_HWC = whole_HWC + weight * lead.lost_HWC
        yield whole_HWC.clamp(0, 1)


def trailing(made: Made, reel: Reel) -> dict[int, Tensor]:
    """What the frame after a piece adds to its last frames_HWC, by their numbers."""
    if made.after_HWC is None:
        return {}
    end = made.first + made.count
    after_HWC = reel.frame(end)
    if after_HWC is None:  # the latent ends before the frame after
        return {}
    added, residual = {}, Residual(made.after_HWC - after_HWC, after_HWC)
    for distance in range(1, min(made.fade, made.count) + 1):
        frame_HWC = reel.frame(end - distance)
        assert frame_HWC is not None  # it is before the frame after
        residual = residual.carried_to(frame_HWC, seam=distance == 1)
        added[made.count - distance] = fading(made, distance) * residual.lost_HWC
    return added


def fading(made: Made, distance: int) -> float:
    """The share of a residual so many frames from the seam: half a cosine, so that it neither
    begins nor ends with a step."""
    return (1 + cos(pi * min(distance / (min(made.fade, made.count) + 1), 1))) / 2


def decoded_frames(made: Made, decode: Decode) -> Iterator[Tensor]:
    for chunk_FHWC in decode(made.latent_1CTHW):
        yield from chunk_FHWC if made.size is None else crop(chunk_FHWC, made.size)


def gathered(chunks: Iterable[Tensor], frames: int) -> Tensor:
    """Chunks_FHWC of a clip of at most so many frames as one tensor; never held twice."""
    whole, at = torch.empty(0), 0
    for chunk_FHWC in chunks:
        if not at and len(chunk_FHWC) == frames:
            return chunk_FHWC
        if not at:
            whole = chunk_FHWC.new_empty(frames, *chunk_FHWC.shape[1:])
        whole[at : at + len(chunk_FHWC)] = chunk_FHWC
        at += len(chunk_FHWC)
    return whole[:at]


def crop(frames_FHWC: Tensor, size: tuple[int, int]) -> Tensor:
    """The top left H rows and W columns: `pad_to` grew frames at the bottom and on the right."""
    return frames_FHWC[..., : size[0], : size[1], :]


def keep(frame_HWC: Tensor, made: Made, i: int) -> Tensor:
    """The frame with what is kept of the given one in it."""
    if made.kept_FHWC is None or made.kept_FHW is None:
        return frame_HWC
    share = made.kept_FHW[min(i, len(made.kept_FHW) - 1)][..., None]
    kept_HWC = made.kept_FHWC[i]
    if kept_HWC.shape != frame_HWC.shape:
        kept_HWC = placed(kept_HWC, frame_HWC.shape[:2], made.kept_at)
    return torch.where(share == 1, kept_HWC, torch.lerp(frame_HWC, kept_HWC, share))


def placed(frame_HWC: Tensor, size: Sequence[int], at: tuple[int, int]) -> Tensor:
    """The frame in a larger one of `size` (H,W), its outermost pixels going on around it."""
    sides = zip(size, at, frame_HWC.shape[:2], strict=True)
    rows, columns = ((torch.arange(n) - first).clamp(0, own - 1) for n, first, own in sides)
    return frame_HWC[rows[:, None], columns]


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
    if len(rows) == H and len(columns) == W:
        return frames_FHWC
    return frames_FHWC[:, rows[:, None], columns]


def with_latent(pieces: Sequence[Piece], latent_1CTHW: Tensor) -> tuple[Piece, ...]:
    """The pieces, with made ones decoded from this latent."""
    return tuple(
        replace(piece, latent_1CTHW=latent_1CTHW) if isinstance(piece, Made) else piece
        for piece in pieces
    )
