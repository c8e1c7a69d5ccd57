"""Images that stand in known frames, for weights that are told pixel frame by pixel frame.

A mask of latents keeps four pixel frames or none of them. Wan's image to video weights are told of
each pixel frame whether it is known, so what pins one image notes it in its LATENT too, beside the
latent that holds it. B batch, C channels, F pixel frames, T/H/W latent frames/rows/columns, P the
pixel frames of a latent frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...models.timeline import first_pixel_frame, pixel_frames

SHOWN = "video_shown"  # of a LATENT: a tuple of Shown
MASK_PLANES = 4  # of Wan's image to video: one for each frame of a latent frame
ROUNDING = 1e-3  # of latents, which are about 1, on their way into a model's own space and back


class Shown(NamedTuple):
    """Consecutive images from pixel frame `frame` on, and the latents that were made of them.

    A plain tuple of tensors and numbers to all others, so that a saved run holds it.
    """

    frame: int
    images_FHWC: Tensor  # RGB in 0..1, of the video's size
    first: int  # the latent frame that latent_1CTHW begins at
    latent_1CTHW: Tensor
    cells_THW: Tensor  # bool: where these latents stand in the video

    @property
    def here(self) -> slice:
        """Its latent frames."""
        return slice(self.first, self.first + len(self.cells_THW))

    @property
    def own_TP(self) -> Tensor:
        """Which pixel frames of its latent frames are images: latent 0 is frame 0 in all planes."""
        last_T1 = MASK_PLANES * torch.arange(self.here.start, self.here.stop)[:, None]
        frames_TP = (last_T1 - torch.arange(MASK_PLANES).flip(0)).clamp(min=0)
        return (frames_TP >= self.frame) & (frames_TP < self.frame + len(self.images_FHWC))

    def held_by(self, samples_BCTHW: Tensor, mask_B1THW: Tensor) -> bool:
        """Whether samples still hold its latents, and the mask keeps all of them: one at least."""
        samples = samples_BCTHW[:, :, self.here]
        if samples.shape[1:] != self.latent_1CTHW.shape[1:] or not self.kept_by(mask_B1THW):
            return False  # a clip of another size
        same = samples == self.latent_1CTHW.to(samples)
        return bool((same | ~self.cells_THW.to(samples.device)).all())

    def kept_by(self, mask_B1THW: Tensor) -> bool:
        """Whether the mask keeps all of its cells: one at least, for a pin may last a while."""
        kept = mask_B1THW[:, :, self.here] == 0
        cells_THW = self.cells_THW.to(kept.device)
        return bool(cells_THW.any() and (kept | ~cells_THW).all())

    def less(self, gone_B1THW: Tensor) -> Iterator[Shown]:
        """Its images in runs of latent frames, without those in which one of its cells is gone."""
        gone_T = (gone_B1THW[:, :, self.here].cpu() & self.cells_THW).any(4).any(3).any(1).any(0)
        ends = (gone_T.nonzero().flatten() + self.first).tolist()
        for before, end in pairwise([self.first - 1, *ends, self.here.stop]):
            if end > before + 1:
                yield self._between(before + 1, end)

    def _between(self, first: int, end: int) -> Shown:
        frame = max(self.frame, first_pixel_frame(first))
        images = self.images_FHWC[frame - self.frame : pixel_frames(end) - self.frame]
        cut = slice(first - self.first, end - self.first)
        return Shown(frame, images, first, self.latent_1CTHW[:, :, cut], self.cells_THW[cut])

    def put_into(self, frames_FHWC: Tensor) -> None:
        """Put its images, as far as they show, into the frames of the video."""
        stride = self.images_FHWC.shape[1] // self.cells_THW.shape[1]
        for at, image_HWC in enumerate(self.images_FHWC, self.frame):
            cells_HW = self.cells_THW[-(-at // MASK_PLANES) - self.first]
            pixels_HW = cells_HW.repeat_interleave(stride, 0).repeat_interleave(stride, 1)
            frames_FHWC[at] = torch.where(pixels_HW[..., None], image_HWC, frames_FHWC[at])

    def put_planes(self, planes_BPTHW: Tensor) -> None:
        """Put 0 where its own pixel frames are and 1 at the others of its cells."""
        here = planes_BPTHW[:, :, self.here]
        unknown_PT11 = (~self.own_TP).T[..., None, None].to(here)
        here.copy_(torch.where(self.cells_THW.to(here.device), unknown_PT11, here))


def shown_in(latent: dict[str, Any], mask_B1THW: Tensor | None) -> tuple[Shown, ...]:
    """The images noted in a LATENT that it still holds, and this mask still keeps.

    What a sampler or an upscaler made of a LATENT carries its notes on, and is another clip.
    """
    if mask_B1THW is None:
        return ()
    notes = (Shown(*note) for note in latent.get(SHOWN, ()))
    return tuple(note for note in notes if note.held_by(latent["samples"], mask_B1THW))


def noting(rest: dict[str, Any], shown: tuple[Shown, ...]) -> dict[str, Any]:
    """What a LATENT carries, with these notes in place of its own."""
    kept = {name: value for name, value in rest.items() if name != SHOWN}
    return {**kept, SHOWN: shown} if shown else kept


def unmoved(
    shown: Iterable[Iterable], latent_BCTHW: Tensor, edited_BCTHW: Tensor, known_B1THW: Tensor
) -> tuple[Shown, ...]:
    """The images whose known latents an edit leaves as they were, but for rounding."""
    far_B1THW = (edited_BCTHW - latent_BCTHW).abs().amax(1, keepdim=True) > ROUNDING
    return still_kept(shown, far_B1THW & known_B1THW)


def still_kept(shown: Iterable[Iterable], gone_B1THW: Tensor) -> tuple[Shown, ...]:
    """The images none of whose cells are gone."""
    return tuple(part for note in shown for part in Shown(*note).less(gone_B1THW))


def without(known_B1THW: Tensor, shown: Iterable[Shown]) -> Tensor:
    """Known cells (bool) less those that show images."""
    left = known_B1THW.clone()
    for note in shown:
        left[:, :, note.here] &= ~note.cells_THW.to(left.device)
    return left


def left_free(mask_B1THW: Tensor, shown: Iterable[Shown]) -> Tensor:
    """The noise mask with 1 in latent frames that images show only in part.

    The latent there is that of a still, in which frames between were made up to fill it: weights
    that are told of the image alone make those frames, and nothing is pasted over them.
    """
    free_B1THW = mask_B1THW.clone()
    for note in shown:
        partly_THW = note.cells_THW & ~note.own_TP.all(1)[:, None, None]
        free_B1THW[:, :, note.here].masked_fill_(partly_THW.to(mask_B1THW.device), 1.0)
    return free_B1THW
