"""LoadVideoModel and LoadVideoVAE: the open checkpoints that people use, as MODEL and VAE."""

from __future__ import annotations

from ..models.checkpoints_vae import find_video_vae, load_video_vae
from ..models.families import VideoModelFile, find_video_model
from . import host
from .api import io
from .host import device
from .sockets import half_input

MODELS, VAES = "diffusion_models", "vae"  # ComfyUI's folders
DTYPES = ["auto", "bf16", "fp16", "fp32", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"]
ABILITIES = {
    "wan2.1-t2v": "text to video",
    "wan2.1-i2v": "image to video",
    "wan2.1-flf2v": "first and last frame to video",
    "wan2.1-vace": "text to video, in-filling and control videos",
    "wan2.1-fun-inp": "image to video, first and last frame",
    "wan2.2-t2v": "text to video",
    "wan2.2-i2v": "image to video",
    "wan2.2-ti2v": "text and image to video, a noise level per frame",
}


class LoadVideoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_LoadVideoModel",
            display_name="Load Video Model",
            category="PatchDiT/load",
            description="A Wan 2.1 or 2.2 video model in any of its public file layouts. Works with"
            " the core samplers, LoRA loaders and model patches too.",
            search_aliases=["wan", "unet loader", "load diffusion model", "gguf", "video model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=host.model_files(MODELS),
                    tooltip="A file in models/diffusion_models: original, ComfyUI or diffusers"
                    " names; of several shards, any one.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=DTYPES,
                    default="auto",
                    advanced=True,
                    tooltip="Number format of the weights. auto: what the file and the device are"
                    " best at; fp8 halves the memory of a 16-bit file.",
                ),
                half_input(
                    "Which half of Wan 2.2 14B, high or low noise, to load of a file that"
                    " holds both, or that a file is whose name does not say. auto: by its names."
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The model; works with the core samplers too."
                ),
                io.String.Output(
                    display_name="info", tooltip="Family, size and format of the file in words."
                ),
            ],
        )

    @classmethod
    def execute(cls, model_name, dtype="auto", half="auto"):
        path = host.model_path(MODELS, model_name)
        file = find_video_model(path, "" if half == "auto" else half)
        check_family(file)
        model = host.load_video(file, dtype)
        info = describe(file, device.describe(model).weight_bytes)
        return io.NodeOutput(model, info, ui={"text": (info,)})


class LoadVideoVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_LoadVideoVAE",
            display_name="Load Video VAE",
            category="PatchDiT/load",
            description="The Wan 2.1 or 2.2 video autoencoder. It encodes and decodes a few frames"
            " at a time, so memory does not grow with the length of the clip.",
            search_aliases=["wan vae", "load vae", "video vae"],
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=host.model_files(VAES),
                    tooltip="A file in models/vae: the Wan 2.1 VAE for all models but Wan 2.2"
                    " TI2V-5B, which needs the Wan 2.2 VAE.",
                ),
            ],
            outputs=[
                io.Vae.Output(
                    display_name="vae", tooltip="The autoencoder; works with core VAE Decode too."
                ),
            ],
        )

    @classmethod
    def execute(cls, vae_name):
        file = find_video_vae(host.model_path(VAES, vae_name))
        vae = load_video_vae(file, host.vae_dtype(), host.vae_layers())
        return io.NodeOutput(host.make_vae(vae))


def check_family(file: VideoModelFile) -> None:
    """ValueError for our own weights, whose latents only their own VAE knows."""
    if file.family not in ABILITIES:
        raise ValueError(
            f"{file.path.name} is a {file.label} transformer; put its folder into models/patchdit"
            " and choose it in Load Blockworld."
        )


def describe(file: VideoModelFile, weight_bytes: int) -> str:
    """What a file holds and is good for, what its weights take in memory, what else it needs."""
    words = [file.label, f"{weight_bytes / 2**30:.1f} GB in memory", ABILITIES[file.family]]
    if file.noise:
        other = "low" if file.noise == "high" else "high"
        words.append(f"half of a pair: load the {other}-noise half too")
    words.append("Wan 2.2 VAE" if file.config.out_channels == 48 else "Wan 2.1 VAE")
    return "; ".join(words)
