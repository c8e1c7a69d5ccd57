"""FlowSigmas: the noise levels that a run of a flow model goes through."""

from __future__ import annotations

from math import prod

from ..models.config import PatchSize
from ..models.flow import shift_for, shifted_sigmas
from .api import io
from .clips import Latent, samples_of


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
                    tooltip="How far to lean towards high noise: 1 is even steps, 0 goes by the"
                    " number of tokens, as Blockworld was trained.",
                    advanced=True,
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
    def execute(cls, latent, steps, denoise, shift):
        shift = shift or shift_for(token_count(latent))
        return io.NodeOutput(shifted_sigmas(steps, shift, denoise))


def token_count(latent: Latent) -> int:
    """Tokens of one video of the latent, in the patches that Blockworld and Wan share."""
    cells = prod(samples_of(latent).shape[2:])
    return max(1, cells // prod(PatchSize()))
