"""How a picture moves from frame to frame, and carrying pictures along.

H rows, W columns, C channels; frames_HWC are RGB in 0..1, flows_HW2 are (x, y) in pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

LEAST = 16  # pixels: nothing smaller can be matched, so it counts as still


def optical_flow(frame_HWC: Tensor, other_HWC: Tensor) -> Tensor:
    """flow_HW2: from each pixel of a frame to where the other frame shows the same thing.

    Dense inverse search (Kroeger et al. 2016, arXiv:1603.03590) down to single pixels. Zero for
    pictures of fewer than 16 rows or columns.
    """
    H, W = frame_HWC.shape[:2]
    if min(H, W) < LEAST:
        return torch.zeros(H, W, 2)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    flow_HW2 = np.zeros((H, W, 2), np.float32)
    return torch.from_numpy(search.calc(_grey(frame_HWC), _grey(other_HWC), flow_HW2))


def carry(picture_HWC: Tensor, flow_HW2: Tensor) -> Tensor:
    """The picture, sampled where the flow points; its edge pixels go on outside it."""
    H, W = flow_HW2.shape[:2]
    x_HW, y_HW = np.meshgrid(np.arange(W, dtype=np.float32), np.arange(H, dtype=np.float32))
    at_HW2 = flow_HW2.numpy() + np.stack((x_HW, y_HW), -1)
    pixels = np.ascontiguousarray(picture_HWC.float().cpu().numpy())
    carried = cv2.remap(pixels, at_HW2, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # pyright: ignore
    return torch.from_numpy(carried).view_as(picture_HWC)


def _grey(frame_HWC: Tensor) -> np.ndarray:
    levels_HWC = (frame_HWC[..., :3].float().cpu().clamp(0, 1) * 255).round().byte().numpy()
    return cv2.cvtColor(np.ascontiguousarray(levels_HWC), cv2.COLOR_RGB2GRAY)
