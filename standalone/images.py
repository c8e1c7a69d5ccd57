"""PNG files: pixels through OpenCV, text chunks (the workflow that made the picture) by hand."""

from __future__ import annotations

import json
import struct
import zlib

import cv2
import numpy as np
import torch
from torch import Tensor

from .folders import new_file

HEADER_END = 33  # signature (8 bytes) and the IHDR chunk (25): text may follow


def write_png(path: str, rgb: np.ndarray, metadata: dict | None = None, compression: int = 4):
    """Write uint8 [H,W,3]; each metadata value becomes a tEXt chunk of JSON, as in ComfyUI."""
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    _, encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, compression])
    data = encoded.tobytes()
    chunks = b"".join(_text_chunk(key, value) for key, value in (metadata or {}).items())
    with new_file(path) as partial, open(partial, "wb") as file:
        file.write(data[:HEADER_END] + chunks + data[HEADER_END:])


def read_image(path: str) -> tuple[Tensor, Tensor]:
    """Image [1,H,W,3] in 0..1 and mask [1,H,W] (1 = transparent; 64x64 zeros without alpha)."""
    data = np.fromfile(path, np.uint8)  # OpenCV itself opens no path outside a Windows code page
    pixels = decode(data, cv2.IMREAD_UNCHANGED)
    if pixels is not None and pixels.shape[2:] != (4,):
        # Without transparency once more: as RGB, turned the way the camera was held.
        pixels = decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise ValueError(
            f"Cannot read image {path!r}; need a picture, of at most OPENCV_IO_MAX_IMAGE_PIXELS,"
            " that OpenCV opens."
        )
    full = {"uint8": 255, "uint16": 65535}.get(pixels.dtype.name, 1)
    values = torch.from_numpy(pixels.astype(np.float32) / full)
    alpha = values[..., 3] if values.shape[-1] == 4 else None
    mask = torch.zeros(1, 64, 64) if alpha is None else 1 - alpha[None]
    return values[..., :3].flip(-1)[None], mask


def decode(data: np.ndarray, flags: int) -> np.ndarray | None:
    """The pixels of a picture's bytes, as `cv2.imdecode`; None where OpenCV does not open it."""
    try:
        return cv2.imdecode(data, flags)
    except cv2.error:  # empty, or with more pixels than OPENCV_IO_MAX_IMAGE_PIXELS
        return None


def to_uint8(image: Tensor) -> np.ndarray:
    """Float [H,W,3] in 0..1 to bytes, rounded."""
    return (image[..., :3] * 255).round().clamp(0, 255).byte().cpu().numpy()


def _text_chunk(key: str, value: object) -> bytes:
    body = b"tEXt" + key.encode("latin-1") + b"\0" + json.dumps(value).encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
