"""Watching a chain of windows for drift of brightness and colour."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.extend import Watch, go_on
from . import host
from .footage import Footage


def drift_watch(clip: Footage, limit: float) -> Watch:
    """Stops a chain after a window that has drifted from the clip by more than `limit`; 0: never.

    Drift is the largest change of a window's mean red, green or blue, as a share of the range.
    """
    if not limit:
        return go_on
    own_C = clip.frames_FHWC.mean((0, 1, 2))

    def watch(window_1CTHW: Tensor) -> bool:
        frames_FHWC = torch.cat(list(host.decode_frames(clip.vae, window_1CTHW)))
        return float((frames_FHWC.mean((0, 1, 2)) - own_C).abs().max()) <= limit

    return watch
