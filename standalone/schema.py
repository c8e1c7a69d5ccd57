"""Stand-in for `comfy_api.latest.io`: how a node says what it takes and gives.

Holds the part that this pack uses, with ComfyUI's names. `ComfyNode.GET_NODE_INFO_V1` says the same
as a real ComfyUI's /object_info; tests/nodes compares the two.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .wires import (
    AnyType,
    Audio,
    Boolean,
    Clip,
    Combo,
    ComfyType,
    Conditioning,
    ControlAfterGenerate,
    Custom,
    Float,
    FolderType,
    Image,
    Input,
    Int,
    Latent,
    Mask,
    Model,
    MultiType,
    NumberDisplay,
    Output,
    Sigmas,
    String,
    UploadType,
    Vae,
    Video,
    WidgetInput,
)

__all__ = [
    "AnyType",
    "Audio",
    "Boolean",
    "Clip",
    "Combo",
    "ComfyNode",
    "ComfyType",
    "Conditioning",
    "ControlAfterGenerate",
    "Custom",
    "Float",
    "FolderType",
    "Hidden",
    "HiddenHolder",
    "Image",
    "Input",
    "Int",
    "Latent",
    "Mask",
    "Model",
    "MultiType",
    "NodeOutput",
    "NumberDisplay",
    "Output",
    "Schema",
    "Sigmas",
    "String",
    "UploadType",
    "Vae",
    "Video",
    "WidgetInput",
]


class Hidden(str, Enum):
    """What a node can ask of the host besides its inputs; read as `cls.hidden.<name>`."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


@dataclass(frozen=True)
class HiddenHolder:
    """The hidden values of one execution; None where the schema did not ask."""

    unique_id: str | None = None
    prompt: dict | None = None
    extra_pnginfo: dict | None = None


@dataclass
class Schema:
    """Everything that a node says of itself; the defaults are ComfyUI's."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    not_idempotent: bool = False
    essentials_category: str | None = None
    has_intermediate_output: bool = False

    def finalize(self) -> None:
        """Add what ComfyUI gives every output node, and ids to unnamed outputs; check ids."""
        self.hidden = list(self.hidden)
        if self.is_output_node:
            needed = (Hidden.prompt, Hidden.extra_pnginfo)
            self.hidden += [name for name in needed if name not in self.hidden]
        for index, output in enumerate(self.outputs):
            output.id = output.id or f"_{index}_{output.io_type}_"
        for kind, sockets in (("Input", self.inputs), ("Output", self.outputs)):
            twice = [id for id, n in Counter(socket.id for socket in sockets).items() if n > 1]
            if twice:
                raise ValueError(f"{kind} ids of {self.node_id} must be unique; {twice} are not.")

    def object_info(self, python_module: str) -> dict[str, Any]:
        """The node's entry in /object_info, as ComfyUI 0.21 lists it."""
        sockets: dict[str, dict[str, Any]] = {"required": {}}
        for socket in self.inputs:
            kind = "optional" if socket.optional else "required"
            sockets.setdefault(kind, {})[socket.id] = [socket.get_io_type(), socket.as_dict()]
        if self.hidden:
            sockets["hidden"] = {name.name: [name.value] for name in self.hidden}
        return {
            "input": sockets,
            "input_order": {kind: list(entries) for kind, entries in sockets.items()},
            "is_input_list": self.is_input_list,
            "output": [output.io_type for output in self.outputs],
            "output_is_list": [output.is_output_list for output in self.outputs],
            "output_name": [output.display_name or output.io_type for output in self.outputs],
            "output_tooltips": [output.tooltip or None for output in self.outputs],
            "output_matchtypes": None,
            "name": self.node_id,
            "display_name": self.display_name,
            "description": self.description,
            "python_module": python_module,
            "category": self.category,
            "output_node": self.is_output_node,
            "deprecated": self.is_deprecated,
            "experimental": self.is_experimental,
            "dev_only": self.is_dev_only,
            "api_node": False,
            "price_badge": None,
            "search_aliases": self.search_aliases or None,
            "essentials_category": self.essentials_category,
            "has_intermediate_output": self.has_intermediate_output,
        }


class NodeOutput:
    """What `execute` gives: one value for each output, and what to show on the canvas."""

    def __init__(self, *args: Any, ui: Any = None):
        self.args = args
        self.ui = ui

    @property
    def result(self) -> tuple | None:
        return self.args or None

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


class _Locked(type):
    """Class of a node while it executes: a node keeps no state."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"{cls.__name__} is locked while it executes; cannot set {name!r}.")


class ComfyNode:
    """Base of every node: `define_schema` says what it is, `execute` does it."""

    hidden: HiddenHolder = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError(f"{cls.__name__} has no define_schema.")

    # Nodes narrow the keyword arguments of these two to their own inputs, hence Any.
    execute: Any
    validate_inputs: Any = None  # typed-in values (None where linked) -> True, or what is wrong

    @classmethod
    def check_lazy_status(cls, **inputs: Any) -> list[str]:
        """Which of the lazy inputs (None until computed) to compute now; by default all."""
        return [name for name, value in inputs.items() if value is None]

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        schema = cls.define_schema()
        schema.finalize()
        return schema

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:
        return cls.GET_SCHEMA().object_info(cls.__module__)

    @classmethod
    def PREPARE_CLASS_CLONE(cls, hidden: HiddenHolder) -> type[ComfyNode]:
        """A locked copy of the class that carries one execution's hidden values."""
        return _Locked(cls.__name__, (cls,), {"hidden": hidden, "__module__": cls.__module__})
