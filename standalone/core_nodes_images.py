"""Stand-ins for the core nodes that read, write and scale pictures."""

from __future__ import annotations

from torch import Tensor

from . import schema as io
from .folders import get_annotated_filepath, input_file_problem, list_input_files
from .images import read_image
from .scaling import METHODS, scale_images
from .ui import PreviewImage as ShownImages
from .ui import SavedImages, save_images


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
        return input_file_problem(image, "image")

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        return io.NodeOutput(*read_image(get_annotated_filepath(image)))


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


class ImageScale(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ImageScale",
            display_name="Upscale Image",
            category="image/upscaling",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("upscale_method", METHODS),
                io.Int.Input("width", default=512, min=0, max=16384, step=1),
                io.Int.Input("height", default=512, min=0, max=16384, step=1),
                io.Combo.Input("crop", ["disabled", "center"]),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, upscale_method, width, height, crop) -> io.NodeOutput:
        scaled = scale_images(image, width, height, upscale_method, crop == "center")
        return io.NodeOutput(scaled)


IMAGE_NODES: list[type[io.ComfyNode]] = [LoadImage, SaveImage, PreviewImage, ImageScale]
