"""Stand-in for the part of `comfy_api.latest` that this pack uses, under the same names.

`schema` plays `io`, `video` the VIDEO values, `ui` what a node shows. nodes/api.py is the only
importer outside this folder.
"""

from __future__ import annotations

from typing import Any

import torch

from . import schema as io
from . import ui
from .mp4 import VideoCodec, VideoContainer
from .video import (
    VideoComponents,
    VideoFromComponents,
    VideoFromFile,
    VideoInput,
)


class ComfyExtension:
    """What a pack's `comfy_entrypoint` returns."""

    async def on_load(self) -> None:
        """Run once before the nodes are listed."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        raise NotImplementedError(f"{type(self).__name__} lists no nodes.")


class Input:
    """The values on the wires, for annotations and subclasses."""

    Image = torch.Tensor
    Mask = torch.Tensor
    Audio = dict[str, Any]
    Latent = dict[str, Any]
    Video = VideoInput


class InputImpl:
    VideoFromFile = VideoFromFile
    VideoFromComponents = VideoFromComponents


class Types:
    VideoCodec = VideoCodec
    VideoContainer = VideoContainer
    VideoComponents = VideoComponents


__all__ = ["ComfyExtension", "Input", "InputImpl", "Types", "io", "ui"]
