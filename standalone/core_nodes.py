"""Stand-ins for the core nodes that our workflows use: ids, inputs and outputs are ComfyUI's."""

from __future__ import annotations

import json
import logging
import os
from fractions import Fraction
from typing import Any

from torch import Tensor

from . import folders
from . import schema as io
from .core_nodes_images import IMAGE_NODES
from .core_nodes_models import MODEL_NODES
from .folders import (
    get_annotated_filepath,
    get_output_directory,
    input_file_problem,
    list_input_files,
    new_file,
)
from .mp4 import VideoCodec, VideoContainer
from .ui import PreviewVideo, SavedResult, workflow_of
from .video import (
    VideoComponents,
    VideoFromComponents,
    VideoFromFile,
    VideoInput,
)


class LoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LoadVideo",
            display_name="Load Video",
            category="video",
            inputs=[
                io.Combo.Input("file", list_input_files("video"), upload=io.UploadType.video),
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        return input_file_problem(file, "video")

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        video = VideoFromFile(get_annotated_filepath(file))
        video.get_dimensions()
        return io.NodeOutput(video)


class GetVideoComponents(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GetVideoComponents",
            display_name="Get Video Components",
            category="video",
            description="Extracts all components from a video: frames, audio, and framerate.",
            inputs=[io.Video.Input("video", tooltip="The video to extract components from.")],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Float.Output(display_name="fps"),
            ],
        )

    @classmethod
    def execute(cls, video: VideoInput) -> io.NodeOutput:
        c = video.get_components()
        return io.NodeOutput(c.images, c.audio, float(c.frame_rate))


class CreateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CreateVideo",
            display_name="Create Video",
            category="video",
            description="Create a video from images.",
            inputs=[
                io.Image.Input("images", tooltip="The images to create a video from."),
                io.Float.Input("fps", default=30.0, min=1.0, max=120.0, step=1.0),
                io.Audio.Input("audio", optional=True, tooltip="The audio to add to the video."),
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def execute(cls, images: Tensor, fps: float, audio: dict | None = None) -> io.NodeOutput:
        return io.NodeOutput(VideoFromComponents(VideoComponents(images, Fraction(fps), audio)))


class SaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SaveVideo",
            display_name="Save Video",
            category="video",
            inputs=[
                io.Video.Input("video", tooltip="The video to save."),
                io.String.Input("filename_prefix", default="video/ComfyUI"),
                io.Combo.Input("format", VideoContainer.as_input(), default="auto"),
                io.Combo.Input("codec", VideoCodec.as_input(), default="auto"),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, video: VideoInput, filename_prefix, format, codec) -> io.NodeOutput:
        root, name, counter, subfolder, _ = folders.get_save_image_path(
            filename_prefix, get_output_directory(), *video.get_dimensions()
        )
        file = f"{name}_{counter:05}_.{VideoContainer.get_extension(format)}"
        with new_file(os.path.join(root, file)) as path:
            video.save_to(
                path,
                format=VideoContainer(format),
                codec=VideoCodec(codec),
                metadata=workflow_of(cls) or None,
            )
        saved = SavedResult(file, subfolder, io.FolderType.output)
        return io.NodeOutput(ui=PreviewVideo([saved]))


class PreviewAny(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PreviewAny",
            display_name="Preview as Text",
            category="utils",
            inputs=[io.AnyType.Input("source")],
            outputs=[io.String.Output()],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, source: Any = None) -> io.NodeOutput:
        text = source if isinstance(source, str) else as_text(source)
        logging.info("%s", text)
        return io.NodeOutput(text, ui={"text": (text,)})


def as_text(value: Any) -> str:
    """JSON where the value has it, else as Python shows it."""
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)
    try:
        return json.dumps(value, indent=4)
    except (TypeError, ValueError):
        return str(value)


class CLIPTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CLIPTextEncode",
            display_name="CLIP Text Encode (Prompt)",
            category="conditioning",
            inputs=[
                io.String.Input("text", multiline=True, dynamic_prompts=True),
                io.Clip.Input("clip", tooltip="The CLIP model used for encoding the text."),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, text: str, clip) -> io.NodeOutput:
        return io.NodeOutput(clip.encode_from_tokens_scheduled(clip.tokenize(text)))


class VAEDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VAEDecode",
            display_name="VAE Decode",
            category="latent",
            inputs=[
                io.Latent.Input("samples", tooltip="The latent to be decoded."),
                io.Vae.Input("vae", tooltip="The VAE model used for decoding the latent."),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, samples: dict, vae) -> io.NodeOutput:
        return io.NodeOutput(vae.decode(samples["samples"]).flatten(0, -4))


class VAEEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VAEEncode",
            display_name="VAE Encode",
            category="latent",
            inputs=[io.Image.Input("pixels"), io.Vae.Input("vae")],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, pixels: Tensor, vae) -> io.NodeOutput:
        return io.NodeOutput({"samples": vae.encode(pixels)})


CORE_NODES: list[type[io.ComfyNode]] = [
    LoadVideo,
    GetVideoComponents,
    CreateVideo,
    SaveVideo,
    CLIPTextEncode,
    VAEDecode,
    VAEEncode,
    PreviewAny,
    *IMAGE_NODES,
    *MODEL_NODES,
]
