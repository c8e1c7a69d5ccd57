"""Make the shipped vocabulary from captions: `python training/make_tokenizer.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from patchdit.training.blockworld import sample_scene
from patchdit.training.captions import caption

VOCABULARY = 1536
OUT = Path(__file__).parent.parent / "models" / "weights" / "blockworld-mini-tokenizer.json"


def main() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(3000)]
    texts = [caption(scene, rng) for scene in scenes for _ in range(6)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    # A Chinese character is a token of its own; other words keep the space before them.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s*\p{Han}"), "isolated"),
            pre_tokenizers.Split(Regex(r"\s?[\p{L}\p{N}-]+|[^\p{L}\p{N}]"), "isolated"),
        ]
    )
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    letters = [chr(c) for c in range(32, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<pad>", *bytes_], initial_alphabet=letters
    )
    tokenizer.train_from_iterator(texts, trainer)
    OUT.parent.mkdir(exist_ok=True)
    tokenizer.save(str(OUT), pretty=False)
    lengths = [len(tokenizer.encode(text).ids) for text in texts]
    print(f"{OUT}: {tokenizer.get_vocab_size()} tokens; captions of up to {max(lengths)} tokens")


if __name__ == "__main__":
    main()
