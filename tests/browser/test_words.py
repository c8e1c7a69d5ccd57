"""What our views say has a Chinese word each; no browser is needed to see that."""

from __future__ import annotations

import re

from .page import ROOT

SCRIPTS = ROOT / "web" / "js"
CHOICE = re.compile(r'\bsay\(\s*[\w.]+ \? ("(?:[^"\\]|\\.)*") : ("(?:[^"\\]|\\.)*")')
PLAIN = re.compile(r'\b(?:say|tool)\(\s*("(?:[^"\\]|\\.)*")(?:, ("(?:[^"\\]|\\.)*"))?')
ENTRY = re.compile(r'^ {2}(?:"((?:[^"\\]|\\.)*)"|(\w+)):\s+"([^"]*)",$', re.MULTILINE)
VALUE = re.compile(r"\{\w+\}")


def said() -> set[str]:
    texts = "".join(path.read_text() for path in SCRIPTS.glob("*.js") if path.stem != "words")
    found = [
        word for pattern in (CHOICE, PLAIN) for words in pattern.findall(texts) for word in words
    ]
    return {word[1:-1] for word in found if word}


def test_every_text_has_a_chinese_one_with_the_same_values_and_none_is_left_over():
    entries = ENTRY.findall((SCRIPTS / "words.js").read_text())
    chinese = {quoted or plain: translation for quoted, plain, translation in entries}
    assert set(chinese) == said() and len(chinese) > 40
    for english, translation in chinese.items():
        assert sorted(VALUE.findall(translation)) == sorted(VALUE.findall(english)), english
        assert re.search(r"[\u4e00-\u9fff]|\{n\} / \{total\}", translation), english
