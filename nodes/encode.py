"""EncodeVideo: a VIDEO, or a batch of images as one clip, becomes a latent video.

B batch, C channels, T/H/W latent frames/rows/columns, F pixel frames.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..models.timeline import STRIDE, whole_groups
from .api import io
from .footage import check_frames, frames_of
from .host import encode_frames, progress
from .host.duck import temporal_stride
from .host.facts import rate_of
from .latent_dicts import FPS, FRAMES, latent_length

FITS = ["pad", "trim", "error"]


class EncodeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_EncodeVideo",
            display_name="Encode Video",
            category="PatchDiT/latent",
            description="Turn a video, or a batch of images as one clip, into a latent video.",
            search_aliases=["video to latent", "vae encode video", "compress video"],
            inputs=[
                io.MultiType.Input(
                    "video",
                    [io.Video, io.Image],
                    tooltip="A video, or images that are the frames of one clip. Both sides must be"
                    " multiples of 16 pixels; LTX: of 32.",
                ),
                io.Vae.Input("vae", tooltip="The autoencoder of the model you will use."),
                io.Combo.Input(
                    "fit",
                    options=FITS,
                    default="pad",
                    tooltip="What to do when the clip is not 1 + 4k frames long. pad: repeat the"
                    " last frame and cut it off again when decoding; trim: drop frames at the end;"
                    " error: stop.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=1.0,
                    tooltip="Frames per second of images; 0: what the autoencoder's family makes."
                    " A video brings its own.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The latent video."),
                io.Audio.Output(
                    display_name="audio",
                    tooltip="The video's sound, for Decode Video; nothing where it has none.",
                ),
                io.Float.Output(display_name="fps", tooltip="Frames per second."),
            ],
        )

    @classmethod
    def execute(cls, video, vae, fit, fps):
        frames_FHWC, audio, fps = frames_of(video, fps or rate_of(vae))
        check_frames(frames_FHWC)
        fitted_FHWC = fit_length(frames_FHWC, fit, temporal_stride(vae))
        samples_BCTHW = encode_frames(vae, fitted_FHWC, progress(len(fitted_FHWC)))
        latent: dict[str, Any] = {"samples": samples_BCTHW, FPS: fps}
        if len(fitted_FHWC) > len(frames_FHWC):
            latent[FRAMES] = len(frames_FHWC)
        return io.NodeOutput(latent, audio, fps)


def fit_length(frames_FHWC: Tensor, fit: str, stride: int = STRIDE) -> Tensor:
    """1 + `stride` k frames: the last repeated ("pad"), those over dropped ("trim"), or error."""
    frames = len(frames_FHWC)
    over = (frames - 1) % stride
    if fit == "trim":
        return frames_FHWC[: frames - over]
    if fit == "pad":
        return whole_groups(frames_FHWC, stride)
    latent_length(frames, stride)
    return frames_FHWC
