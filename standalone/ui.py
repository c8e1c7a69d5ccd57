"""Stand-in for `comfy_api.latest.ui`: what a node shows once it has run."""

from __future__ import annotations

import os
import secrets
from typing import Any

from torch import Tensor

from .folders import get_directory, get_save_image_path
from .images import to_uint8, write_png
from .schema import ComfyNode, FolderType


class SavedResult(dict):
    """A file that a node wrote, named as ComfyUI's /view names it."""

    def __init__(self, filename: str, subfolder: str, type: FolderType):
        super().__init__(filename=filename, subfolder=subfolder, type=FolderType(type).value)


class SavedImages:
    def __init__(self, results: list[SavedResult], is_animated: bool = False):
        self.results = results
        self.is_animated = is_animated

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.results} | ({"animated": (True,)} if self.is_animated else {})


class PreviewVideo:
    def __init__(self, values: list[SavedResult]):
        self.values = values

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": (True,)}


class PreviewImage:
    """Pictures in the temporary folder, for the canvas to show."""

    def __init__(self, image: Tensor, animated: bool = False, cls: type[ComfyNode] | None = None):
        prefix = f"ComfyUI_temp_{secrets.token_hex(3)}"
        self.values = save_images(image, prefix, FolderType.temp, cls, compression=1)
        self.animated = animated

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": (self.animated,)}


def save_images(
    images: Tensor,
    filename_prefix: str,
    folder: FolderType,
    cls: type[ComfyNode] | None = None,
    compression: int = 4,
) -> list[SavedResult]:
    """Write [B,H,W,3] as numbered PNG files that carry the workflow of the node `cls`."""
    height, width = images.shape[1:3]
    root, name, counter, subfolder, _ = get_save_image_path(
        filename_prefix, get_directory(folder), width, height
    )
    metadata = workflow_of(cls)
    results = []
    for index, image in enumerate(images):
        batch_name = name.replace("%batch_num%", str(index))
        file = f"{batch_name}_{counter + index:05}_.png"
        write_png(os.path.join(root, file), to_uint8(image), metadata, compression)
        results.append(SavedResult(file, subfolder, folder))
    return results


def workflow_of(cls: type[ComfyNode] | None) -> dict[str, Any]:
    """The prompt and the workflow of the running node, as saved files carry them."""
    if cls is None:
        return {}
    prompt = {} if cls.hidden.prompt is None else {"prompt": cls.hidden.prompt}
    return {**(cls.hidden.extra_pnginfo or {}), **prompt}
