"""PinFrames and ImageToVideo: images become known frames of a video that is still to be made."""

from __future__ import annotations

from .api import io
from .around_pins import pin_clip, plan_of
from .fitting import FITS
from .pinning import pin_images
from .sampling import Stoppable
from .sockets import (
    checkpoint_input,
    clip_inputs,
    low_inputs,
    sampling_inputs,
    seconds_input,
    verb_outputs,
)
from .types import PlanWire
from .verbs import Sampling, clip_of, finish_plan, journaled


def place_inputs() -> list:
    """frame, strength, fit and mask."""
    return [
        io.Int.Input(
            "frame",
            default=0,
            min=-8193,
            max=8192,
            tooltip="The frame that shows the (first) image: 0 is the first of the video,"
            " -1 the last.",
        ),
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="Share of the denoising steps for which the image is held; 1: to the"
            " end, less: the model may change it in the steps that remain.",
        ),
        io.Combo.Input(
            "fit",
            options=FITS,
            default="crop",
            tooltip="An image of another shape. crop: its middle; pad: all of it, and what"
            " it leaves free is generated; stretch: all of it, bent.",
        ),
        io.Mask.Input(
            "mask",
            optional=True,
            tooltip="The part of the image that is pinned (1); elsewhere (0) the frame is"
            " generated. Counts in whole patches of 16 or 32 pixels.",
        ),
    ]


class PinFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_PinFrames",
            display_name="Pin Frames",
            category="PatchDiT/pin",
            description="Make an image, or several in a row, known frames of a video to come: image"
            " to video, first and last frame, keyframes. Chain it for more pins.",
            search_aliases=[
                "image to video",
                "i2v",
                "first last frame",
                "keyframe",
                "start image",
                "end image",
                "flf2v",
            ],
            inputs=[
                io.Latent.Input(
                    "latent",
                    tooltip="The canvas: from Empty Video Latent, or from a Pin Frames before.",
                ),
                io.Vae.Input("vae", tooltip="The autoencoder that belongs to the model."),
                io.Image.Input(
                    "images", tooltip="One image, or several that are consecutive frames."
                ),
                *place_inputs(),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="The canvas with the pin, for a sampler."
                ),
                io.String.Output(display_name="report", tooltip="Which frames are pinned, how."),
                PlanWire.Output(
                    display_name="plan",
                    tooltip="For Finish Video, which shows the pinned images exactly as they are."
                    " After a Prepare node take that one's plan instead.",
                ),
            ],
        )

    @classmethod
    def execute(cls, latent, vae, images, frame, strength, fit, mask=None):
        pinned, report = pin_images(latent, vae, images, frame, strength, fit, mask)
        return io.NodeOutput(pinned, report, plan_of(pinned, vae, report))


class ImageToVideo(Stoppable, io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_ImageToVideo",
            display_name="Image to Video",
            category="PatchDiT/pin",
            description="Make a video of an image, or between a first and a last one: what is given"
            " is shown exactly as it is, and the time around it is generated. For more images, and"
            " for a sampler of your own, chain Pin Frames.",
            search_aliases=[
                "i2v",
                "animate image",
                "first last frame",
                "start image",
                "end image",
                "flf2v",
                "between two images",
            ],
            inputs=[
                *clip_inputs(),
                *sampling_inputs(),
                seconds_input(
                    "Length of the whole video; the nearest 1 + 4k frames are taken (LTX: 1 + 8k)."
                ),
                io.Image.Input(
                    "last_image",
                    optional=True,
                    tooltip="What the video ends with: one image, or its last frames.",
                ),
                *place_inputs(),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=8192,
                    step=2,
                    tooltip="Pixels across; 0: as the image, or as its shape asks for by height.",
                ),
                io.Int.Input(
                    "height", default=0, min=0, max=8192, step=2, tooltip="Pixels down, likewise."
                ),
                io.Float.Input(
                    "generate_fps",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=1.0,
                    tooltip="Frames per second of the video; 0: a latent's own, or else what the"
                    " model was trained at. Of a clip of another rate the frames nearest in time"
                    " are taken.",
                    advanced=True,
                ),
                checkpoint_input(),
                *low_inputs(),
            ],
            outputs=verb_outputs(),
        )

    @classmethod
    def execute(cls, video, vae, seed, seconds, last_image=None, **settings):
        clip = clip_of(video, vae, settings)
        latent, plan = pin_clip(clip, last_image, seconds, settings)
        run = Sampling.of(settings, seed, vae=vae).run
        made = journaled(settings["checkpoint"], lambda journal: run(latent, journal))
        return io.NodeOutput(*finish_plan(plan, made))
