"""FinishVideo: the other end of every Prepare node, and of Pin Frames."""

from __future__ import annotations

from .api import io
from .sockets import verb_outputs
from .types import PlanWire
from .verbs import finish_plan


class FinishVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_FinishVideo",
            display_name="Finish Video",
            category="PatchDiT/extend",
            description="Put a clip together from a latent that a sampler denoised as a Prepare"
            " node or Pin Frames planned. What was known is pasted back exactly.",
            search_aliases=["finish extend", "finish stitch", "assemble video"],
            inputs=[
                io.Latent.Input("latent", tooltip="The planned latent, denoised."),
                PlanWire.Input(
                    "plan", tooltip="From the Prepare node, or the last Pin Frames, of the latent."
                ),
            ],
            outputs=verb_outputs(),
        )

    @classmethod
    def execute(cls, latent, plan):
        return io.NodeOutput(*finish_plan(plan, latent))
