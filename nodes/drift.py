"""Watching a chain of windows for drift of brightness and colour."""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import Tensor

from ..models.assembly import crop
from ..models.extend import Watch, go_on
from ..models.seams import FrameMeasures, judge, measure
from ..models.timeline import first_pixel_frame, pixel_frames
from . import host
from .footage import Footage


def drift_watch(clip: Footage, limit: float) -> Watch:
    """Stops a chain after a window that has drifted from the clip by more than `limit`; 0: never.

    Drift is that of the window's new frames as Seam Report measures it: the larger of brightness
    and chroma, as shares of the range.
    """
    if not 0 <= limit <= 1:
        raise ValueError(f"Setting drift_limit is {limit:g}; need 0 (never stop) to 1.")
    if limit == 0:
        return go_on

    own = cache(partial(measure, clip.frames_FHWC))  # once, and only where a chain is watched

    def watch(window_1CTHW: Tensor, new: slice) -> bool:
        chunks = [crop(c, clip.size) for c in host.decode_frames(clip.vae, window_1CTHW)]
        latents = range(window_1CTHW.shape[2])[new]
        first = first_pixel_frame(latents[0], clip.stride)
        made = slice(first, pixel_frames(latents[-1] + 1, clip.stride))
        both = joined(own(), measure(torch.cat(chunks)[made]))
        drift = judge(both, [clip.frames]).segments[1].drift
        return drift is None or drift.worst[1] <= limit

    return watch


def joined(one: FrameMeasures, other: FrameMeasures) -> FrameMeasures:
    """The measures of two clips in a row; steps at the seam and the wrap stay those of each."""
    pairs = {name: (value, getattr(other, name)) for name, value in vars(one).items()}
    return FrameMeasures(**{name: torch.cat(pair) for name, pair in pairs.items()})
