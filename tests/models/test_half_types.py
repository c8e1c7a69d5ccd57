"""What a pass in bfloat16 or float16 makes on a device: nothing of L x D in float32 but in norms.

Meta tensors take the way that tensors on a device take, without values. L tokens, D width.
"""

from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from patchdit.models import attention
from patchdit.models.blocks import TimeTable, TokenSet
from patchdit.models.config import TransformerConfig
from patchdit.models.rotary import rotate_complex
from patchdit.models.transformer import PatchDiT

CONFIG = TransformerConfig(
    256, 512, heads=2, layers=2, text_width=32, text_length=8, position_features=4
)
GRID = 4, 8, 8  # frames, and patches of each
TOKENS = 4 * 8 * 8


class Wide(TorchDispatchMode):
    """The operations that make a float32 tensor of L x D values or more, but for those of norms."""

    def __init__(self):
        super().__init__()
        self.norms, self.seen = 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            wide = isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32
            if wide and not self.norms and tensor.numel() >= TOKENS * CONFIG.width:
                self.seen.add(str(func))
        return made

    def enter(self, *_):
        self.norms += 1

    def leave(self, *_):
        self.norms -= 1


@contextmanager
def watched(network):
    """Norms are left out: torch spells theirs out here, and has a kernel for each on CUDA."""
    wide = Wide()
    hooks = []
    for module in network.modules():
        if isinstance(module, torch.nn.RMSNorm | torch.nn.LayerNorm):
            hooks.append(module.register_forward_pre_hook(wide.enter))
            hooks.append(module.register_forward_hook(wide.leave))
    with torch.no_grad(), wide:
        yield wide
    for hook in hooks:
        hook.remove()


def times_of(network, distinct, per_token):
    """The tables of `distinct` timesteps: for all, one for each latent frame, or for each token."""

    def time_tables(tokens, dtype):
        embedded = network.time_embedding(torch.empty(distinct, 256, dtype=dtype, device="meta"))
        six = network.time_projection(embedded).unflatten(-1, (6, -1))
        index = torch.zeros(1, TOKENS if per_token else 4, dtype=torch.long, device="meta")
        return tuple(TimeTable.of(r, index, per_token) for r in (six, embedded.unsqueeze(1)))

    return time_tables


def attend(q_BNLH, k_BNSH, v_BNSH, mask=None):
    """In the place of a device's kernel, which torch spells out for meta tensors."""
    assert q_BNLH.dtype == k_BNSH.dtype == v_BNSH.dtype
    return torch.empty_like(q_BNLH)


def a_pass(dtype, distinct=1, per_token=False):
    network = PatchDiT(CONFIG, attention=attend, device="meta", dtype=dtype).eval()
    network.time_tables = times_of(network, distinct, per_token)
    like = {"device": "meta", "dtype": dtype}
    positions = torch.stack(torch.meshgrid(*map(torch.arange, GRID), indexing="ij"), -1)
    tokens = TokenSet(
        torch.empty(1, TOKENS, CONFIG.in_channels * 4, **like),
        positions.flatten(0, 2).to("meta"),
        torch.empty(1, TOKENS if per_token else 1, device="meta"),
        (TOKENS,),
    )
    with watched(network) as wide:
        text = network.text_keys_values(torch.empty(1, 8, 32, **like))
        velocity = network.run(tokens, text)
    assert velocity.shape == (1, TOKENS, CONFIG.out_channels * 4) and velocity.dtype == dtype
    return wide.seen


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("distinct", "per_token"), [(1, False), (4, False), (3, True)])
def test_nothing_makes_a_round_trip_through_float32(dtype, distinct, per_token):
    assert a_pass(dtype, distinct, per_token) == set()


def test_a_round_trip_would_be_seen(monkeypatch):
    def by_float32(x, rotary):
        return rotate_complex(x.unflatten(-1, (-1, 2)), rotary).flatten(-2)

    monkeypatch.setattr(attention, "rotate", by_float32)
    assert "aten._to_copy.default" in a_pass(torch.bfloat16)
    assert a_pass(torch.float32) != set()
