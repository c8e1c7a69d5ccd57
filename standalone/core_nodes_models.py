"""Stand-ins for the core nodes that load models: text encoders, LoRAs and upscalers."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import torch

from ..models.lora import with_lora
from . import schema as io
from .folders import get_filename_list, get_full_path_or_raise
from .host import ProgressBar, get_torch_device, throw_if_interrupted
from .text_encoders import WanClip

UpscaleModel = io.Custom("UPSCALE_MODEL")


class CLIPLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CLIPLoader",
            display_name="Load CLIP",
            category="advanced/loaders",
            description="wan: umt5 xxl; other types need ComfyUI.",
            inputs=[
                io.Combo.Input("clip_name", get_filename_list("text_encoders")),
                io.Combo.Input("type", ["wan"]),
                io.Combo.Input("device", ["default", "cpu"], optional=True, advanced=True),
            ],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, clip_name: str, type: str, device: str = "default") -> io.NodeOutput:
        path = get_full_path_or_raise("text_encoders", clip_name)
        return io.NodeOutput(WanClip(path, torch.device("cpu") if device == "cpu" else None))


class LoraLoaderModelOnly(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LoraLoaderModelOnly",
            display_name="Load LoRA (Model)",
            category="loaders",
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input("lora_name", get_filename_list("loras")),
                io.Float.Input("strength_model", default=1.0, min=-100.0, max=100.0, step=0.01),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, lora_name: str, strength_model: float) -> io.NodeOutput:
        path = get_full_path_or_raise("loras", lora_name)
        network = with_lora(model.network, path, strength_model)
        return io.NodeOutput(replace(model, network=network))


class UpscaleModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="UpscaleModelLoader",
            display_name="Load Upscale Model",
            category="loaders",
            inputs=[io.Combo.Input("model_name", get_filename_list("upscale_models"))],
            outputs=[UpscaleModel.Output()],
        )

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        path = get_full_path_or_raise("upscale_models", model_name)
        if importlib.util.find_spec("spandrel") is None:
            raise ValueError(
                "Upscale models need spandrel where there is no ComfyUI: pip install spandrel."
            )
        try:
            import spandrel  # pyright: ignore[reportMissingImports]  # optional
        except ImportError as error:
            raise ValueError(
                f"Upscale models need all of spandrel's packages ({error})."
            ) from error
        try:
            model = spandrel.ModelLoader("cpu").load_from_file(path)
        except spandrel.UnsupportedModelError as error:
            raise ValueError(f"{model_name} is no upscale model that spandrel knows.") from error
        if not isinstance(model, spandrel.ImageModelDescriptor):
            raise ValueError(f"{model_name} does not work on single images; need one that does.")
        return io.NodeOutput(model.eval())


class ImageUpscaleWithModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ImageUpscaleWithModel",
            display_name="Upscale Image (using Model)",
            category="image/upscaling",
            inputs=[UpscaleModel.Input("upscale_model"), io.Image.Input("image")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    @torch.no_grad()
    def execute(cls, upscale_model: Any, image: torch.Tensor) -> io.NodeOutput:
        device, bar = get_torch_device(), ProgressBar(len(image))
        upscale_model.to(device)
        frames = []
        for frame_HWC in image:  # one at a time: a clip at four times its size is large
            throw_if_interrupted()
            large_1CHW = upscale_model(frame_HWC.movedim(-1, 0)[None].float().to(device))
            frames.append(large_1CHW[0].movedim(0, -1).clamp(0, 1).cpu())
            bar.update(1)
        upscale_model.to("cpu")
        return io.NodeOutput(torch.stack(frames))


MODEL_NODES: list[type[io.ComfyNode]] = [
    CLIPLoader,
    LoraLoaderModelOnly,
    UpscaleModelLoader,
    ImageUpscaleWithModel,
]
