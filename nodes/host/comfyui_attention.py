"""Attention inside ComfyUI: by the user's backend, and with what other packs hang onto it.

B batch, L tokens, D width, S tokens that are seen, N heads, H head size.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from typing import Any

from comfy.cli_args import args
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

from ...models.attention import sdpa
from ...models.blocks import Block

ASKED_FOR = (  # the command line's words for a backend
    "use_split_cross_attention",
    "use_quad_cross_attention",
    "use_pytorch_cross_attention",
    "use_sage_attention",
    "use_flash_attention",
)


class HostAttention:
    """Attention by the backend that ComfyUI was started with.

    On a CPU where none was asked for it is torch's: core would take its slow one that saves memory.

    `transformer_options` are those of the call under way, which backends and overrides read. Kept
    here, not in a context variable, so that torch.compile can follow; core's compile node leaves
    things of that name out of its guards.
    """

    def __init__(self):
        self.transformer_options: dict[str, Any] = {}
        self.asked_for = any(getattr(args, name, False) for name in ASKED_FOR)

    def __call__(
        self, q_BNLH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        options = self.transformer_options
        chosen = self.asked_for or "optimized_attention_override" in options
        if mask is not None or (q_BNLH.device.type == "cpu" and not chosen):
            return sdpa(q_BNLH, k_BNSH, v_BNSH, mask)
        shape = {"skip_reshape": True, "skip_output_reshape": True}
        return optimized_attention(
            q_BNLH, k_BNSH, v_BNSH, q_BNLH.shape[1], transformer_options=options, **shape
        )


class AttentionPatches:
    """What other packs hang onto a block's attention, called as core's Wan blocks call it.

    `attn1_patch` gets what self-attention found, x (B,L,D), before its last projection, with the
    turned q and k (B,L,N,H); `attn2_patch` gets the tokens x (B,L,D) once they have seen the text.
    Each returns x anew.
    """

    def __init__(self, block: Block, attend: HostAttention):
        self.attend = attend
        self.x_BLD: Tensor | None = None  # the tokens before they see the text
        block.self_attn.attention = self.among_tokens
        block.norm3.register_forward_pre_hook(self.before_text)
        block.cross_attn.register_forward_hook(self.after_text)

    def named(self, name: str) -> list:
        return self.attend.transformer_options.get("patches", {}).get(name, [])

    def among_tokens(
        self, q_BNLH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        out_BNLH = self.attend(q_BNLH, k_BNSH, v_BNSH, mask)
        for patch in self.named("attn1_patch"):
            given = {"q": q_BNLH.transpose(1, 2), "k": k_BNSH.transpose(1, 2)}
            x_BLD = patch({"x": out_BNLH.transpose(1, 2).flatten(2), **given, **self.options})
            out_BNLH = x_BLD.unflatten(-1, (q_BNLH.shape[1], -1)).transpose(1, 2)
        return out_BNLH

    def before_text(self, _module: Any, args: tuple[Tensor]) -> None:
        if self.named("attn2_patch"):
            self.x_BLD = args[0]

    def after_text(self, _module: Any, _args: Any, y_BLD: Tensor) -> Tensor:
        """What to add to the tokens, so that they become what the patches make of them."""
        before_BLD, self.x_BLD = self.x_BLD, None
        if before_BLD is None:
            return y_BLD
        x_BLD = before_BLD + y_BLD
        for patch in self.named("attn2_patch"):
            x_BLD = patch({"x": x_BLD, **self.options})
        return x_BLD - before_BLD

    @property
    def options(self) -> dict[str, Any]:
        return {"transformer_options": self.attend.transformer_options}
