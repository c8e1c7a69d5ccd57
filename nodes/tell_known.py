"""TellKnown: what a LATENT keeps, said in the prompts of models that are told so by them.

For the samplers of core and of other packs, which know nothing of `host.fill_mode`; Start Denoising
and the verbs do the same by themselves. B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from . import host
from .api import io
from .host.facts import stride_of
from .host.native import shown_to, with_known
from .host.shown import SHOWN, shown_in
from .latent_dicts import Latent, mask_of, samples_of
from .sockets import denoiser_input


class TellKnown(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_TellKnown",
            display_name="Tell What Is Known",
            category="PatchDiT/denoise",
            description="Tell an image-to-video or VACE model in its prompts what a latent keeps,"
            " as it was trained to hear it. For core's samplers; ours do so by themselves.",
            search_aliases=[
                "image to video conditioning",
                "vace",
                "i2v",
                "ksampler",
                "keep frames",
            ],
            inputs=[
                denoiser_input(),
                io.Vae.Input("vae", tooltip="The autoencoder that belongs to the model."),
                io.Conditioning.Input("positive", tooltip="What to show."),
                io.Conditioning.Input("negative", tooltip="What to avoid."),
                io.Latent.Input(
                    "latent",
                    tooltip="From a Prepare node or Pin Frames: what is known, a mask.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="The prompt, with what is known."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="The negative prompt, with what is known."
                ),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="For a sampler: without its mask, where the prompts say what is known.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, vae, positive, negative, latent):
        return io.NodeOutput(*tell_known(model, vae, positive, negative, latent))


def tell_known(
    model: object, vae: object, positive: list, negative: list, latent: Latent
) -> tuple[list, list, Latent]:
    """Prompts and LATENT for a sampler that fills by nothing but noise masks.

    Where the model is told by its prompts the mask goes: a sampler that also held the known cells
    at the step's noise level would fight with what the prompts say (docs/decisions/0013). All
    others get back what they gave.
    """
    samples_BCTHW = samples_of(latent)
    mask = mask_of(latent, samples_BCTHW.shape, stride_of(model))
    if mask is None or host.fill_mode(model, mask) != "native":
        return positive, negative, latent
    rest = {name: value for name, value in latent.items() if name != "noise_mask"}
    _, noted = shown_to(model, shown_in(latent, mask), mask, rest)
    shown = noted.pop(SHOWN, ())
    known = samples_BCTHW.float().cpu(), mask.cpu()
    return *with_known(model, vae, *known, positive, negative, shown), noted
