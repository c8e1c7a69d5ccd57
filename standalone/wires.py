"""Inputs, outputs and wire types of nodes, under the names of `comfy_api.latest.io`.

An option left at None is not listed in /object_info. Where ComfyUI takes an option by position, the
stand-in wants it by name, so what runs here runs there.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import torch


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"
    gradient_slider = "gradientslider"


class ControlAfterGenerate(str, Enum):
    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


def _set_only(**options: Any) -> dict[str, Any]:
    """The options that somebody set."""
    return {name: value for name, value in options.items() if value is not None}


class Input:
    """A socket of a node: what arrives over a wire."""

    io_type = "*"

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        *,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: dict | None = None,
        advanced: bool | None = None,
    ):
        self.id = id
        self.optional = optional
        self.lazy = bool(lazy)
        self._options = _set_only(
            display_name=display_name,
            tooltip=tooltip,
            lazy=lazy,
            advanced=advanced,
            **(extra_dict or {}),
        )

    def get_io_type(self) -> str:
        return self.io_type

    def as_dict(self) -> dict[str, Any]:
        """The options as /object_info lists them, those left at None dropped."""
        return dict(self._options)


class WidgetInput(Input):
    """An input that a person can also type into."""

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        *,
        default: Any = None,
        socketless: bool | None = None,
        force_input: bool | None = None,
        **common: Any,
    ):
        super().__init__(id, display_name, **common)
        self.default = default
        self.force_input = bool(force_input)
        self._options |= _set_only(default=default, socketless=socketless, forceInput=force_input)


class Output:
    """A socket that a node fills."""

    io_type = "*"

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        *,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ):
        self.id = id
        self.display_name = display_name or id
        self.tooltip = tooltip
        self.is_output_list = is_output_list


class ComfyType:
    """A wire type; each subclass gets Input and Output classes that carry its name."""

    io_type = "*"
    Type: Any = Any

    class Input(Input):
        pass

    class Output(Output):
        pass

    def __init_subclass__(cls):
        for socket in ("Input", "Output"):
            base = getattr(cls, socket)
            setattr(cls, socket, type(socket, (base,), {"io_type": cls.io_type}))


def Custom(io_type: str) -> type[ComfyType]:
    """A wire type of one's own."""
    return type(io_type, (ComfyType,), {"io_type": io_type})


class Boolean(ComfyType):
    io_type = "BOOLEAN"
    Type = bool

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            *,
            label_on: str | None = None,
            label_off: str | None = None,
            **common: Any,
        ):
            super().__init__(id, display_name, **common)
            self._options |= _set_only(label_on=label_on, label_off=label_off)


class Int(ComfyType):
    io_type = "INT"
    Type = int

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            *,
            min: int | None = None,
            max: int | None = None,
            step: int | None = None,
            control_after_generate: bool | ControlAfterGenerate | None = None,
            display_mode: NumberDisplay | None = None,
            **common: Any,
        ):
            super().__init__(id, display_name, **common)
            self._options |= _set_only(
                min=min,
                max=max,
                step=step,
                control_after_generate=control_after_generate,
                display=display_mode.value if display_mode else None,
            )


class Float(ComfyType):
    io_type = "FLOAT"
    Type = float

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            *,
            min: float | None = None,
            max: float | None = None,
            step: float | None = None,
            round: float | None = None,
            display_mode: NumberDisplay | None = None,
            **common: Any,
        ):
            super().__init__(id, display_name, **common)
            self._options |= _set_only(
                min=min, max=max, step=step, round=round, display=display_mode
            )


class String(ComfyType):
    io_type = "STRING"
    Type = str

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            *,
            multiline: bool = False,
            placeholder: str | None = None,
            dynamic_prompts: bool | None = None,
            **common: Any,
        ):
            super().__init__(id, display_name, **common)
            self._options |= _set_only(
                multiline=multiline, placeholder=placeholder, dynamicPrompts=dynamic_prompts
            )


class Combo(ComfyType):
    io_type = "COMBO"
    Type = str

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            options: Sequence[str | int] | type[Enum],
            display_name: str | None = None,
            *,
            default: str | int | Enum | None = None,
            control_after_generate: bool | ControlAfterGenerate | None = None,
            upload: UploadType | None = None,
            image_folder: FolderType | None = None,
            **common: Any,
        ):
            default = default.value if isinstance(default, Enum) else default
            super().__init__(id, display_name, default=default, **common)
            if isinstance(options, type):
                options = [member.value for member in options]
            self.options = list(options)
            self._options |= _set_only(
                multiselect=False,
                options=self.options,
                control_after_generate=control_after_generate,
                image_folder=image_folder.value if image_folder else None,
                **({upload.value: True} if upload else {}),
            )


class Image(ComfyType):
    io_type = "IMAGE"
    Type = torch.Tensor


class Mask(ComfyType):
    io_type = "MASK"
    Type = torch.Tensor


class Latent(ComfyType):
    io_type = "LATENT"
    Type = dict[str, Any]


class Conditioning(ComfyType):
    io_type = "CONDITIONING"
    Type = list


class Sigmas(ComfyType):
    io_type = "SIGMAS"
    Type = torch.Tensor


class Model(ComfyType):
    io_type = "MODEL"


class Clip(ComfyType):
    io_type = "CLIP"


class Vae(ComfyType):
    io_type = "VAE"


class Audio(ComfyType):
    io_type = "AUDIO"
    Type = dict[str, Any]


class Video(ComfyType):
    io_type = "VIDEO"


class AnyType(ComfyType):
    io_type = "*"


class MultiType:
    """An input that takes any of several wire types."""

    class Input(Input):
        def __init__(
            self,
            id: str,
            types: Sequence[type[ComfyType]],
            display_name: str | None = None,
            **common: Any,
        ):
            super().__init__(id, display_name, **common)
            self.io_type = ",".join(dict.fromkeys(wire.io_type for wire in types))
