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
    assert context.any() == any(letter in "zxqvwrd红球" for letter in text)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("一段视频：红色的球", "一：红色的球"),
        ("我们看到蓝色的圆环", "蓝色的圆环"),
        ("a red ball 🎈 bounces", "a red ball  bounces"),
        ("🎈", ""),
    ],
)
def test_what_the_vocabulary_spells_in_bytes_is_not_read(parts, text, known):
    """Captions have none, so they would be noise between the words that the model knows."""
    tokenizer = parts.tokenizer
    assert len(tokenizer.encode(text)) > len(tokenizer.encode(known))
    assert torch.equal(tokenizer.batch([text], 80), tokenizer.batch([known], 80))


def test_half_a_character_is_refused(parts):
    with pytest.raises(ValueError, match=r"half a character .* at place 3"):
        encode(parts, "a \ud83d ball")


def test_a_prompt_too_long_is_refused_whole(parts):
    with pytest.raises(ValueError, match="at most 16: shorten it"):
        encode(parts, "a red ball " * 1000)
