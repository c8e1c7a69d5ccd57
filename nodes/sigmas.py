"""FlowSigmas: the noise levels that a run of a flow model goes through."""

from __future__ import annotations

import logging
from typing import Any

from ..models.config import WAN_PATCH
from ..models.flow import shift_for, shifted_sigmas
from .api import io
from .host.facts import patch_of, shift_of
from .latent_dicts import samples_of

LARGEST = 30  # usual shifts are below: above, nearly all steps are at nearly pure noise


class FlowSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_FlowSigmas",
            display_name="Flow Sigmas",
            category="PatchDiT/denoise",
            description="Noise levels from 1 down to 0, leaning towards 1 the more there is to"
            " denoise.",
            search_aliases=["scheduler", "flow shift", "sigmas", "schedule", "timesteps"],
            inputs=[
                io.Latent.Input(
                    "latent", tooltip="The latent to denoise: its size sets the shift."
                ),
                io.Int.Input(
                    "steps", default=20, min=1, max=1000, tooltip="How many steps to take."
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="1 starts from pure noise; less keeps that much of the latent.",
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How far to lean towards high noise: 1 is even steps, 0 is the model's"
                    " own where it is connected, else it goes by the number of tokens, as"
                    " Blockworld was trained.",
                    advanced=True,
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that the levels are for; needed for Wan and others if shift"
                    " is 0.",
                ),
            ],
            outputs=[
                io.Sigmas.Output(
                    display_name="sigmas",
                    tooltip="Noise levels for Start Denoising or a core custom sampler.",
                )
            ],
        )

    @classmethod
    def execute(cls, latent, steps, denoise, shift, model=None):
        patch = WAN_PATCH if model is None else patch_of(model)
        shift = shift or usual_shift(model, patch.tokens(samples_of(latent).shape[2:]))
        return io.NodeOutput(shifted_sigmas(steps, shift, denoise))


def usual_shift(model: Any | None, tokens: int) -> float:
    """The shift that a model was trained with; without one Blockworld's, with a warning if odd."""
    if model is not None:
        return shift_of(model, tokens)
    shift = shift_for(tokens)
    if shift > LARGEST:
        logging.warning(
            "Flow Sigmas: shift 0 without a model goes by Blockworld's rule, which for %d tokens is"
            " %.0f; connect the model or, for Wan, set shift to 3 to 8.",
            tokens,
            shift,
        )
    return shift
