"""The node API, chosen once: ComfyUI's own, or `standalone.api` on a machine without ComfyUI.

Only the absence of the package counts. An ImportError inside a real host is a defect to see.
"""

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING or importlib.util.find_spec("comfy_api") is None:
    from ..standalone.api import ComfyExtension, Input, InputImpl, Types, io, ui
else:
    from comfy_api.latest import ComfyExtension, Input, InputImpl, Types, io, ui

__all__ = ["ComfyExtension", "Input", "InputImpl", "Types", "io", "ui"]
