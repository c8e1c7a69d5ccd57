"""Rotary embedding of tokens in space and time: the heads' values turned by angles of position.

Shapes: B batch, L tokens, N heads, H head size (here never rows), h = H/2 pairs of a head's values.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_compiling


def angle_dtype(device: torch.device) -> torch.dtype:
    """float64 for sines of large angles, as the reference does, where the device has it."""
    return torch.float64 if device.type in ("cpu", "cuda") else torch.float32


def rotary_table(positions_BL3: Tensor, head_width: int, theta: float = 10000.0) -> Tensor:
    """Cosine and sine (B,L,1,h,2), or (L,1,h,2), by which `rotate` turns the heads of tokens.

    These lie at (t,h,w) positions, (B,L,3) or (L,3); any number is valid.
    Height and width get head_width // 6 pairs each, time the rest (44/42/42 values of 128).
    RoFormer (arXiv:2104.09864) eq. 34 along each axis, over neighbouring pairs of values.
    """
    dtype = angle_dtype(positions_BL3.device)
    side = 2 * (head_width // 6)
    angles = []
    for axis, width in enumerate((head_width - 2 * side, side, side)):
        places = torch.arange(0, width, 2, device=positions_BL3.device, dtype=dtype)
        frequencies = theta ** (-places / max(width, 1))
        angles.append(positions_BL3[..., axis, None].to(dtype) * frequencies)
    angle = torch.cat(angles, dim=-1).unsqueeze(-2)  # (B,L,1,h)
    return torch.stack((angle.cos(), angle.sin()), dim=-1).float()


def rotate(x_BLNH: Tensor, rotary: Tensor) -> Tensor:
    """Turn each pair (a,b) of a head by its angle: (a cos - b sin, b cos + a sin), in x's type.

    `rotary` is a table of rotary_table; the values of a head lie side by side in memory. Which of
    three ways is the fastest, and why on a device half types become float32 in registers only:
    docs/decisions/0019-rotary-in-the-weights-type.md.
    """
    pairs = x_BLNH.unflatten(-1, (-1, 2))
    device, wide = x_BLNH.device.type, x_BLNH.dtype.itemsize >= rotary.dtype.itemsize
    if is_compiling():
        turned = rotate_by_sums(pairs, rotary)  # one pass once it is compiled
    elif device == "cpu" or (device == "cuda" and wide):
        turned = rotate_complex(pairs, rotary)
    elif device == "mps" or (torch.is_grad_enabled() and x_BLNH.requires_grad):
        turned = rotate_by_sums(pairs, rotary)
    else:
        turned = rotate_in_place(pairs, rotary)
    return turned.flatten(-2)


def rotate_complex(pairs: Tensor, rotary: Tensor) -> Tensor:
    """Pairs (...,2) turned, by one multiplication; half types by way of float32."""
    wide = pairs.to(torch.promote_types(pairs.dtype, rotary.dtype))
    turned = torch.view_as_complex(wide) * torch.view_as_complex(rotary)
    return torch.view_as_real(turned).to(pairs.dtype)


def rotate_by_sums(pairs: Tensor, rotary: Tensor) -> Tensor:
    """Pairs (...,2) turned, by operations that gradients and compilers follow."""
    (a, b), (cos, sin) = pairs.unbind(-1), rotary.unbind(-1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).to(pairs.dtype)


def rotate_in_place(pairs: Tensor, rotary: Tensor) -> Tensor:
    """Pairs (...,2) turned in one new tensor of their type, and in no other; without gradients.

    The factors stay float32: torch's kernels on a device convert what they read and write.
    """
    (a, b), (cos, sin) = pairs.unbind(-1), rotary.unbind(-1)
    turned = torch.empty_like(pairs)
    torch.mul(pairs, cos.unsqueeze(-1), out=turned)
    turned[..., 0].addcmul_(b, sin, value=-1)
    turned[..., 1].addcmul_(a, sin)
    return turned
