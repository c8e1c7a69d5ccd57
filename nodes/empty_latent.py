"""EmptyVideoLatent: the size and length of a video that is still to be made."""

from __future__ import annotations

import torch

from ..models.video_vae import nearest_valid
from .api import io
from .aspects import ASPECTS, CUSTOM, ratio_of
from .cells import USUAL, Cells, cells_of, latent_shape
from .latent_dicts import DEFAULT_FPS, FPS, LONGEST, frames_for


class EmptyVideoLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_EmptyVideoLatent",
            display_name="Empty Video Latent",
            category="PatchDiT/latent",
            description="The canvas of a video that is still to be made: its size and its length.",
            search_aliases=["empty latent video", "video size", "aspect ratio", "blank video"],
            inputs=[
                io.Combo.Input(
                    "aspect",
                    options=list(ASPECTS),
                    default=CUSTOM,
                    tooltip="Take width x height as they are, or a shape whose short side is the"
                    " smaller of the two.",
                ),
                io.Int.Input(
                    "width", default=64, min=16, max=8192, step=USUAL.grid, tooltip="Pixels across."
                ),
                io.Int.Input(
                    "height", default=64, min=16, max=8192, step=USUAL.grid, tooltip="Pixels down."
                ),
                io.Combo.Input(
                    "length_in",
                    options=["seconds", "frames"],
                    default="seconds",
                    tooltip="Which of the two lengths below counts.",
                ),
                io.Float.Input(
                    "seconds",
                    default=2.0,
                    min=0.0,
                    max=LONGEST,
                    step=0.125,
                    round=0.001,
                    tooltip="Length in seconds; the nearest 1 + 4k frames are taken.",
                ),
                io.Int.Input(
                    "frames",
                    default=17,
                    min=1,
                    max=8193,
                    step=4,
                    tooltip="Length in frames, 1 + 4k of them: 1 (an image), 5, 9, 13 ...; LTX:"
                    " 1 + 8k.",
                ),
                io.Float.Input(
                    "fps",
                    default=DEFAULT_FPS,
                    min=1.0,
                    max=120.0,
                    step=1.0,
                    tooltip="Frames per second; Blockworld was trained at 8, Wan at 16 or 24.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How many videos to make at once.",
                    advanced=True,
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The autoencoder of the model, which tells the size of a latent: Wan"
                    " 2.2 TI2V-5B needs it. Blockworld and Wan 2.1 do not.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="An empty latent video for a sampler."
                ),
                io.Int.Output(display_name="frames", tooltip="Frames of the video to come."),
                io.Float.Output(display_name="fps", tooltip="Frames per second."),
            ],
        )

    @classmethod
    def execute(cls, aspect, width, height, length_in, seconds, frames, fps, batch_size, vae=None):
        cells = USUAL if vae is None else cells_of(vae)
        width, height = frame_size(aspect, width, height, cells)
        frames = frames_for(seconds, fps, cells.frames) if length_in == "seconds" else frames
        samples = torch.zeros(latent_shape(width, height, frames, batch_size, cells))
        latent = {"samples": samples, "downscale_ratio_spacial": cells.stride, FPS: fps}
        return io.NodeOutput(latent, frames, fps)


def frame_size(aspect: str, width: int, height: int, cells: Cells = USUAL) -> tuple[int, int]:
    """Width and height in pixels; a named aspect takes the smaller of the two as short side."""
    ratio = ratio_of(aspect)
    for name, size in (("width", width), ("height", height)):
        valid = nearest_valid(size, cells.grid)
        if size not in valid:
            raise ValueError(
                f"A video's {name} is a multiple of {cells.grid} pixels; got {size},"
                f" nearest {' or '.join(map(str, valid))}."
            )
    if ratio is None:
        return width, height
    short, unit = min(width, height), min(ratio)
    width, height = (cells.grid * round(short * side / unit / cells.grid) for side in ratio)
    return width, height
