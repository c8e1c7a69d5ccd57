"""What a node may ask of the device that models run on, in ComfyUI or without.

Both sides offer:

- `describe(model) -> Described`: what of a MODEL decides its cost.
- `compute_device()`, `device_name(device)`: where models run, and its name.
- `room(model) -> int | None`: bytes there for the weights and the work of a MODEL; None: unknown.
- `decode_memory(vae, shape_BCTHW) -> int`: bytes that decoding a latent takes at its peak.
- `speed_file() -> Path`: where measured speeds are kept, among the host's own files of the user's.
"""

import importlib.util

if importlib.util.find_spec("comfy_api") is None:
    from .device_alone import (
        compute_device,
        decode_memory,
        describe,
        device_name,
        room,
        speed_file,
    )
else:
    from .device_comfyui import (
        compute_device,
        decode_memory,
        describe,
        device_name,
        room,
        speed_file,
    )

__all__ = ["compute_device", "decode_memory", "describe", "device_name", "room", "speed_file"]
