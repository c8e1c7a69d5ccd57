"""DecodeVideo: a latent video becomes a VIDEO, frame by frame when it is saved.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from ..models.assembly import crop
from .api import io
from .footage import grid_of
from .host import decode_frames, latent_channels, spatial_stride
from .host.duck import temporal_stride
from .host.facts import rate_of
from .latent_dicts import FPS, real_frames, samples_of, shown_size
from .video import LazyVideo


def decode_cut(vae: Any, latent_1CTHW: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """The chunks_FHWC of a latent without what its frames were padded by."""
    for chunk_FHWC in decode_frames(vae, latent_1CTHW):
        yield crop(chunk_FHWC, size)


class DecodeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_DecodeVideo",
            display_name="Decode Video",
            category="PatchDiT/latent",
            description="Turn a latent video into a video. Frames are made while it is saved, so"
            " length costs no memory; for images use VAE Decode.",
            search_aliases=["latent to video", "vae decode video", "render video"],
            inputs=[
                io.Latent.Input(
                    "latent", tooltip="The latent video; every one of a batch becomes a video."
                ),
                io.Vae.Input("vae", tooltip="The autoencoder of the model that made the latent."),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=1.0,
                    tooltip="Frames per second; 0 takes what the latent was made or encoded with,"
                    " or else what the autoencoder's family makes.",
                    advanced=True,
                ),
                io.Audio.Input("audio", optional=True, tooltip="Sound to go with the video."),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video",
                    tooltip="The video, one for each latent of the batch.",
                    is_output_list=True,
                ),
            ],
        )

    @classmethod
    def execute(cls, latent, vae, fps, audio=None):
        samples_BCTHW = samples_of(latent, latent_channels(vae))
        size = shown_size(latent, samples_BCTHW.shape[-2:], spatial_stride(vae), grid_of(vae))
        frames = real_frames(latent, temporal_stride(vae))
        told = (size[1], size[0]), frames, fps or latent.get(FPS) or rate_of(vae), audio
        sources = [partial(decode_cut, vae, one_CTHW[None], size) for one_CTHW in samples_BCTHW]
        return io.NodeOutput([LazyVideo(source, *told) for source in sources])
