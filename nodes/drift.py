"""Watching a chain of windows for drift of brightness and colour."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.assembly import crop
from ..models.extend import Watch, go_on
from . import host
from .footage import Footage


def drift_watch(clip: Footage, limit: float) -> Watch:
    """Stops a chain after a window that has drifted from the clip by more than `limit`; 0: never.

    Drift is the largest change of a window's mean red, green or blue, as a share of the range.
    """
    if not 0 <= limit <= 1:
        raise ValueError(f"Setting drift_limit is {limit:g}; need 0 (never stop) to 1.")
    if limit == 0:
        return go_on
    own_C = clip.frames_FHWC.mean((0, 1, 2))

    def watch(window_1CTHW: Tensor) -> bool:
        chunks = [crop(c, clip.size) for c in host.decode_frames(clip.vae, window_1CTHW)]
        frames_FHWC = torch.cat(chunks)
        return float((frames_FHWC.mean((0, 1, 2)) - own_C).abs().max()) <= limit

    return watch
