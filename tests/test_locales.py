"""The words of the canvas: every node, input and output in every language, none left over."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from patchdit.locales.make_locales import (
    LANGUAGES,
    MENUS,
    WIRES,
    Translation,
    english,
    files_of,
    key,
    literal,
    node_classes,
)

ROOT = Path(__file__).resolve().parents[1]
NODES = [node.GET_NODE_INFO_V1() for node in node_classes()]
ARROW = re.compile(r"→|->")
HAN = re.compile(r"[\u4e00-\u9fff]")


def stored(language: str, name: str) -> dict:
    return json.loads((ROOT / "locales" / language / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_files_are_up_to_date(language):
    for name, text in files_of(language).items():
        path = ROOT / "locales" / language / name
        assert path.read_text(encoding="utf-8") == text, "run: python locales/make_locales.py"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_has_words_and_there_are_no_others(language):
    words = stored(language, "nodeDefs.json")
    assert sorted(words) == sorted(info["name"] for info in NODES)
    for info in NODES:
        told = words[info["name"]]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert list(told["inputs"]) == [key(name) for name in inputs]
        assert list(told["outputs"]) == [str(place) for place in range(len(info["output"]))]
        sockets = [*told["inputs"].values(), *told["outputs"].values()]
        assert all(socket["name"] and socket["tooltip"] for socket in sockets)
        assert told["display_name"] and told["description"]


def test_english_is_what_the_schemas_say():
    words = english()
    for info in NODES:
        told = words[info["name"]]
        assert (told["display_name"], told["description"]) == (
            info["display_name"],
            info["description"],
        )
        assert [o["tooltip"] for o in told["outputs"].values()] == info["output_tooltips"]


def test_chinese_has_all_words_and_none_too_many():
    translation = Translation.read("zh")
    for name, words in english().items():
        translation.node(name, words)
    translation.main()
    assert translation.missing == set(), "translate these in locales/zh/words.json"
    assert translation.unused == set(), "these are said by no node any more"
    assert all(HAN.search(sentence) for sentence in translation.sentences.values())


def test_chinese_keeps_the_numbers():
    number = re.compile(r"\d+(?:\.\d+)?")
    for source, target in Translation.read("zh").sentences.items():
        assert set(number.findall(source)) <= set(number.findall(target)), source


def test_chinese_explains_the_values_of_a_combo_by_their_own_names():
    """The menu shows the values themselves in every language."""
    sentences, seen = Translation.read("zh").sentences, 0
    for info in NODES:
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        for kind, options in inputs.values():
            values = options.get("options", []) if kind == "COMBO" else []
            named = [str(value) for value in values if f"{value}: " in options["tooltip"]]
            seen += len(named)
            assert all(value in sentences[options["tooltip"]] for value in named), named
    assert seen > 20


@pytest.mark.parametrize("language", LANGUAGES)
def test_messages_hold_no_bare_syntax(language):
    """Braces, @ and | are vue-i18n's own; as text they stand in {'...'}."""
    for name in ("main.json", "nodeDefs.json"):
        text = json.dumps(stored(language, name), ensure_ascii=False)
        strings = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
        for string in strings:
            assert not re.search(r"[{}@|]", re.sub(r"\{'[{}@|]'\}", "", string)), string


def test_literal():
    assert literal("a {b} c|d @e") == "a {'{'}b{'}'} c{'|'}d {'@'}e"
    assert key("a.b") == "a_b"


def test_menus_and_wires():
    """Our menus and wires by name; none that core names, since a pack's words replace core's."""
    menus = {part for info in NODES for part in info["category"].split("/")[1:]}
    core = {"latent", "sampling", "video", "image", "mask", "loaders", "conditioning", "save"}
    assert menus - core <= set(MENUS) and not set(MENUS) & core
    words = stored("zh", "main.json")
    assert set(words["nodeCategories"]) == set(MENUS)
    assert set(words["dataTypes"]) == set(WIRES) == set(stored("en", "main.json")["dataTypes"])


@pytest.mark.parametrize("info", NODES, ids=lambda info: info["name"])
def test_help_in_both_languages(info):
    """`docs/<id>/<language>.md` comes before `docs/<id>.md`, by which all others are served."""
    docs = ROOT / "web" / "docs"
    title, text = (docs / info["name"] / "zh.md").read_text(encoding="utf-8").split("\n", 1)
    assert title == f"# {stored('zh', 'nodeDefs.json')[info['name']]['display_name']}"
    assert len(HAN.findall(text)) > 20
    english = (docs / f"{info['name']}.md").read_text(encoding="utf-8")
    assert english.startswith("# ")
    picture = f"{info['name']}.jpg"  # the frontend looks for it in docs/
    assert f"]({picture})" in text and f"]({picture})" in english
    assert (docs / picture).read_bytes().startswith(b"\xff\xd8")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", [info["name"] for info in NODES])
def test_help_shows_how_the_node_is_wired(name, language):
    """In one line at least: an arrow from or to a node that is called by its name."""
    titles = [words["display_name"] for words in stored(language, "nodeDefs.json").values()]
    place = f"{name}.md" if language == "en" else f"{name}/{language}.md"
    lines = (ROOT / "web" / "docs" / place).read_text(encoding="utf-8").splitlines()
    wirings = [line for line in lines if ARROW.search(line)]
    assert any(title in line for line in wirings for title in titles), place
