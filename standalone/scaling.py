"""Sizes of pictures: what core's ImageScale does to them.

Shapes: B pictures, C channels, H W rows and columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
LOBES = 3  # of the Lanczos filter, each side


def scale_images(
    image_BHWC: Tensor, width: int, height: int, method: str, crop_to_fit: bool
) -> Tensor:
    """The pictures at another size; 0 for one side keeps the proportions, for both the size.

    `crop_to_fit` first cuts the middle of the new proportions out.
    """
    H, W = image_BHWC.shape[1:3]
    if not width and not height:
        return image_BHWC
    width = width or max(1, round(W * height / H))
    height = height or max(1, round(H * width / W))
    if crop_to_fit:
        left = max(0, round((W - H * width / height) / 2))
        top = max(0, round((H - W * height / width) / 2))
        image_BHWC = image_BHWC[:, top : H - top, left : W - left]
    image_BCHW = image_BHWC.movedim(-1, 1)
    if method == "lanczos":
        scaled = lanczos(lanczos(image_BCHW, width).mT, height).mT.clamp(0, 1)
    else:
        scaled = F.interpolate(image_BCHW, (height, width), mode=method)
    return scaled.movedim(1, -1)


def lanczos(image_BCHW: Tensor, width: int) -> Tensor:
    """The pictures at another width, by Lanczos' windowed sinc; widened when they shrink."""
    W = image_BCHW.shape[-1]
    reach = max(W / width, 1.0)
    centre_N = (torch.arange(width, dtype=torch.float64) + 0.5) * W / width
    distance_NW = (torch.arange(W, dtype=torch.float64) + 0.5 - centre_N[:, None]) / reach
    weight_NW = torch.sinc(distance_NW) * torch.sinc(distance_NW / LOBES)
    weight_NW = weight_NW.where(distance_NW.abs() < LOBES, 0.0)
    weight_NW /= weight_NW.sum(1, keepdim=True)
    return image_BCHW @ weight_NW.mT.to(image_BCHW)
