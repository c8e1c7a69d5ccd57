"""The one door to ComfyUI, or to the stand-in where there is none: what differs between the two.

What both have in common is asked for by name: duck (values on wires, any VAE), facts (what a MODEL
says of itself), native (how weights are told what is known), shown (which images a LATENT holds).

Only the absence of ComfyUI counts; an ImportError inside a real host is a defect to see.
Both sides offer:

- `make_model(network, vae)`, `make_clip(encoder, tokenizer)`, `make_vae(vae)`: values for wires.
- `load_video(file, dtype)`: the MODEL of a Wan file.
- `vae_dtype()`: what a VAE computes in here; `vae_layers()`: the layers that it is built of.
- `add_lora(model, path, strength, half)`: the MODEL with a LoRA file on it; the one given stays.
- `model_files(kind)` and `model_path(kind, name)`: what lies in the folders for models.
- `prepare_latent(model, latent)`: samples in the model's own space; `finish_latent` leads back.
- `fill_mode(model, mask)`: how known latents are held (see native.py).
- `guides_itself(model)`: whether another pack guides it in its own way.
- `as_denoiser(model, positive, negative, cfg)`: its `run(state, work)` calls `work(denoiser)`.
- `progress(total)` and `step_reporter(model, total, fps)`: report, and stop when the user cancels.
- `heed_stop()`: whether the node that runs was told to stop with what it has; `was_stopped()`:
  whether it did; `times_stopped()`: how often, for its fingerprint.
- `replace_nodes(register)`: node ids of the past (see ../replacements.py).
- `weights_folder()`: where users put weights of their own.
- `fingerprint(model)`: a sha256 of weights and patches, the same in every process.
- `journal_folder()`: where runs under way are written; it outlives a restart.
- `state_folders()`: where saved runs are looked for, first of all where `new_state_path(prefix)`
  makes a path for the next one.
"""

import importlib.util

from .duck import decode_frames, encode_frames, latent_channels, spatial_stride
from .facts import guides_itself
from .native import fill_mode

if importlib.util.find_spec("comfy_api") is None:
    from .alone import (
        as_denoiser,
        fingerprint,
        finish_latent,
        heed_stop,
        journal_folder,
        load_video,
        make_clip,
        make_model,
        make_vae,
        model_files,
        model_path,
        new_state_path,
        prepare_latent,
        progress,
        replace_nodes,
        state_folders,
        step_reporter,
        times_stopped,
        vae_dtype,
        vae_layers,
        was_stopped,
        weights_folder,
    )
    from .lora_alone import add_lora
else:
    from .comfyui import (
        as_denoiser,
        fingerprint,
        finish_latent,
        heed_stop,
        journal_folder,
        load_video,
        make_clip,
        make_model,
        make_vae,
        model_files,
        model_path,
        new_state_path,
        prepare_latent,
        progress,
        replace_nodes,
        state_folders,
        step_reporter,
        times_stopped,
        vae_dtype,
        vae_layers,
        was_stopped,
        weights_folder,
    )
    from .lora_comfyui import add_lora

__all__ = [
    "add_lora",
    "as_denoiser",
    "decode_frames",
    "encode_frames",
    "fill_mode",
    "fingerprint",
    "finish_latent",
    "guides_itself",
    "heed_stop",
    "journal_folder",
    "latent_channels",
    "load_video",
    "make_clip",
    "make_model",
    "make_vae",
    "model_files",
    "model_path",
    "new_state_path",
    "prepare_latent",
    "progress",
    "replace_nodes",
    "spatial_stride",
    "state_folders",
    "step_reporter",
    "times_stopped",
    "vae_dtype",
    "vae_layers",
    "was_stopped",
    "weights_folder",
]
