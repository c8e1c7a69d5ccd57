"""Which attention our networks take in a real ComfyUI's process, on a CPU and on a device.

test_inside.py runs this file by ComfyUI's own Python. Meta tensors stand for those on a device.
"""

from __future__ import annotations

import comfy.ldm.modules.attention as core
import pytest
import torch
from comfy.cli_args import args

from patchdit.nodes.host import comfyui_attention
from patchdit.nodes.host.comfyui_attention import ASKED_FOR, HostAttention


def qkv(device="cpu"):
    """(B,N,L,H), as our network holds them."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(3, 1, 2, 8, 128, generator=generator).to(device))


@pytest.fixture
def calls(monkeypatch):
    """What the backend that ComfyUI was started with is called with; here that is torch's."""
    calls = []

    def watched(*given, **said):
        calls.append((given, said))
        return core.attention_pytorch(*given, **said)

    monkeypatch.setattr(comfyui_attention, "optimized_attention", watched)
    return calls


def test_on_a_device_it_is_the_hosts(calls, monkeypatch):
    """With heads apart in and out, and the options that packs hang onto a call."""
    monkeypatch.setattr(comfyui_attention, "sdpa", lambda *_: pytest.fail("torch's own"))
    attend, (q, k, v) = HostAttention(), qkv("meta")
    attend.transformer_options = {"a pack's": 1}
    assert attend(q, k, v).shape == q.shape
    (((*given, heads), said),) = calls
    assert all(a is b for a, b in zip(given, (q, k, v), strict=True)) and heads == 2
    options = {"transformer_options": attend.transformer_options}
    assert said == {"skip_reshape": True, "skip_output_reshape": True, **options}


def test_on_a_cpu_it_is_torchs_where_none_was_asked_for(calls):
    q, k, v = qkv()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.equal(HostAttention()(q, k, v), expected)
    assert not calls


@pytest.mark.parametrize("name", ASKED_FOR)
def test_on_a_cpu_it_is_the_one_asked_for(calls, monkeypatch, name):
    assert getattr(args, name) is False  # the command line has this word, and it was not said
    monkeypatch.setattr(args, name, True)
    HostAttention()(*qkv())
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["split", "sub_quad", "pytorch", "basic"])
@pytest.mark.parametrize("seen", [8, 3])
def test_whichever_it_is_it_gives_the_same(monkeypatch, name, seen):
    backend = getattr(core, f"attention_{name}")
    monkeypatch.setattr(comfyui_attention, "optimized_attention", backend)
    monkeypatch.setattr(args, "use_split_cross_attention", True)
    q, k, v = qkv()
    k, v = k[:, :, :seen], v[:, :, :seen]
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(HostAttention()(q, k, v), expected)


def test_a_mask_is_torchs(calls, monkeypatch):
    """Core's backends count a mask's axes each in its own way; ours says which key a query sees."""
    monkeypatch.setattr(args, "use_split_cross_attention", True)
    (q, k, v), mask = qkv(), torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert torch.equal(HostAttention()(q, k, v, mask), expected)
    assert not calls
