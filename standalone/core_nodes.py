"""Stand-ins for the core nodes that our workflows use: ids, inputs and outputs are ComfyUI's."""

from __future__ import annotations

import os
from fractions import Fraction

from torch import Tensor

from . import folders
from . import schema as io
from .folders import get_annotated_filepath, get_output_directory, list_input_files, new_file
from .images import read_image
from .mp4 import VideoCodec, VideoContainer
from .ui import PreviewImage as ShownImages
from .ui import PreviewVideo, SavedImages, SavedResult, save_images, workflow_of
from .video import (
    VideoComponents,
    VideoFromComponents,
    VideoFromFile,
    VideoInput,
)


def _found(name: str | None, kind: str) -> bool | str:
    """True, also for a name that a link will bring, or what to tell of a file that is not there."""
    if name is None:
        return True
    path = get_annotated_filepath(str(name))
    known = ", ".join(list_input_files(kind)[:20]) or f"no {kind}"
    return os.path.isfile(path) or f"there is no {kind} {path}; the input folder has: {known}."


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
        return _found(file, "video")

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        video = VideoFromFile(get_annotated_filepath(file))
        video.get_dimensions()
        return io.NodeOutput(video)


class LoadImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LoadImage",
            display_name="Load Image",
            category="image",
            inputs=[
                io.Combo.Input("image", list_input_files("image"), upload=io.UploadType.image),
            ],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def validate_inputs(cls, image: str | None) -> bool | str:
        return _found(image, "image")

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        return io.NodeOutput(*read_image(get_annotated_filepath(image)))


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


class SaveImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SaveImage",
            display_name="Save Image",
            category="image",
            inputs=[
                io.Image.Input("images", tooltip="The images to save."),
                io.String.Input("filename_prefix", default="ComfyUI"),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images: Tensor, filename_prefix: str) -> io.NodeOutput:
        saved = save_images(images, filename_prefix, io.FolderType.output, cls)
        return io.NodeOutput(ui=SavedImages(saved))


class PreviewImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PreviewImage",
            display_name="Preview Image",
            category="image",
            inputs=[io.Image.Input("images")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images: Tensor) -> io.NodeOutput:
        return io.NodeOutput(ui=ShownImages(images, cls=cls))


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
    LoadImage,
    GetVideoComponents,
    CreateVideo,
    SaveVideo,
    SaveImage,
    PreviewImage,
    CLIPTextEncode,
    VAEDecode,
    VAEEncode,
]
