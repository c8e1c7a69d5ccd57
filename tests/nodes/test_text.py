"""Prompts through our CLIP, as core's CLIPTextEncode calls it."""

from __future__ import annotations

import pytest
import torch

from patchdit.nodes import host


def encode(parts, text):
    clip = host.make_clip(parts.text, parts.tokenizer)
    ((context, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    assert extra["pooled_output"] is None
    return context


def test_text_is_padded_with_zeros(parts):
    context = encode(parts, "a red ball")
    used = len(parts.tokenizer.encode("a red ball"))
    assert context.shape == (1, 16, 32)
    assert context[0, :used].abs().sum(-1).min() > 0 and not context[0, used:].any()


def test_empty_prompt_is_all_padding(parts):
    assert not encode(parts, "").any()


@pytest.mark.parametrize("text", ["🦊🎉", "zxqv wörd", "红球", "\x00\n\t"])
def test_any_character_will_do(parts, text):
    context = encode(parts, text)
    assert torch.isfinite(context).all()
    assert text.isspace() or context.any()


def test_half_a_character_is_refused(parts):
    with pytest.raises(ValueError, match=r"half a character .* at place 3"):
        encode(parts, "a \ud83d ball")


def test_a_prompt_too_long_is_refused_whole(parts):
    with pytest.raises(ValueError, match="at most 16: shorten it"):
        encode(parts, "a red ball " * 1000)
