"""The ONE door to the machinery behind the nodes: ComfyUI's, or the stand-in where there is none.

Only the absence of ComfyUI counts; an ImportError inside a real host is a defect to see.
Both sides offer:

- `make_model(network, vae)`, `make_clip(encoder, tokenizer)`, `make_vae(vae)`: values for wires.
- `prepare_latent(model, latent)`: samples in the model's own space; `finish_latent` leads back.
- `fill_mode(model)`: how known latents are held, "frames" or "replace".
- `as_denoiser(model, positive, negative, cfg)`: its `run(state, work)` calls `work(denoiser)`.
- `progress(total)` and `step_reporter(model, total)`: report, and stop when the user cancels.
- `weights_folder()`: where users put weights of their own.
"""

import importlib.util

from .duck import decode_frames, encode_frames, latent_channels, spatial_stride

if importlib.util.find_spec("comfy_api") is None:
    from .alone import (
        as_denoiser,
        fill_mode,
        finish_latent,
        make_clip,
        make_model,
        make_vae,
        prepare_latent,
        progress,
        step_reporter,
        weights_folder,
    )
else:
    from .comfyui import (
        as_denoiser,
        fill_mode,
        finish_latent,
        make_clip,
        make_model,
        make_vae,
        prepare_latent,
        progress,
        step_reporter,
        weights_folder,
    )

__all__ = [
    "as_denoiser",
    "decode_frames",
    "encode_frames",
    "fill_mode",
    "finish_latent",
    "latent_channels",
    "make_clip",
    "make_model",
    "make_vae",
    "prepare_latent",
    "progress",
    "spatial_stride",
    "step_reporter",
    "weights_folder",
]
