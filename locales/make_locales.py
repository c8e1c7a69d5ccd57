"""Write the nodes' words for the canvas: `python locales/make_locales.py`.

ComfyUI reads `locales/<language>/{main,nodeDefs}.json` of every pack. English is what the schemas
say. Another language is a `words.json` written by hand, {"names": {...}, "sentences": {...}} from
English, so that what several nodes share is translated once and what changes here is seen there;
a name may be given for one node alone, as "<node id>.<input or output>".
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import patchdit.nodes
from patchdit.nodes.api import io

FOLDER = Path(__file__).parent
LANGUAGES = ("en", "zh")
# The words of vue-i18n's message syntax: a name in braces, a link, a choice of plurals.
SPECIAL = re.compile(r"[{}@|]")
WIRES = {"PATCHES": "patches", "DENOISE_STATE": "denoise state", "PLAN": "plan", "SHOTS": "shots"}
MENUS = ("load", "denoise", "extend", "stitch", "pin", "patches", "patchify", "storyboard", "remix")
MENUS += ("reframe", "loop", "measure")  # not "latent", which is core's to name


def literal(text: str) -> str:
    """Text as the frontend's messages spell it: {'{'} is a brace that is meant as one."""
    return SPECIAL.sub(lambda match: "{'" + match[0] + "'}", text)


def key(name: str) -> str:
    """A name as a part of the frontend's path to a message, which dots separate."""
    return name.replace(".", "_")


def node_classes() -> list[type[io.ComfyNode]]:
    """Every node that a file of nodes/ defines."""
    classes = []
    for file in pkgutil.iter_modules(patchdit.nodes.__path__):
        module = importlib.import_module(f"patchdit.nodes.{file.name}")
        classes += [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, io.ComfyNode)
            and value.__module__ == module.__name__
        ]
    return classes


def english() -> dict[str, dict[str, Any]]:
    """nodeDefs.json in English: every node, input and output by its place."""
    infos = sorted((node.GET_NODE_INFO_V1() for node in node_classes()), key=lambda i: i["name"])
    return {key(info["name"]): words_of(info) for info in infos}


def words_of(info: dict[str, Any]) -> dict[str, Any]:
    """What a node, as /object_info describes it, says in words."""
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {
            key(name): {"name": options.get("display_name") or name, "tooltip": options["tooltip"]}
            for name, (_, options) in inputs.items()
        },
        "outputs": {
            str(place): {"name": name, "tooltip": tooltip}
            for place, (name, tooltip) in enumerate(outputs)
        },
    }


@dataclass
class Translation:
    """Words of a language; `used` and `missing` are found while nodes are translated."""

    names: dict[str, str]
    sentences: dict[str, str]
    used: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, language: str) -> Translation:
        return cls(**json.loads((FOLDER / language / "words.json").read_text(encoding="utf-8")))

    @property
    def unused(self) -> set[str]:
        return {*self.names, *self.sentences} - self.used

    def name(self, english: str, node: str = "") -> str:
        own = f"{node}.{english}"
        return self.find(self.names, own if own in self.names else english)

    def sentence(self, english: str) -> str:
        return self.find(self.sentences, english)

    def find(self, words: dict[str, str], english: str) -> str:
        """The word, or English where there is none."""
        (self.used if english in words else self.missing).add(english)
        return words.get(english, english)

    def node(self, node: str, words: dict[str, Any]) -> dict[str, Any]:
        """A node's words in this language."""

        def sockets(kind: str) -> dict[str, dict[str, str]]:
            return {
                place: {
                    "name": self.name(socket["name"], node),
                    "tooltip": self.sentence(socket["tooltip"]),
                }
                for place, socket in words[kind].items()
            }

        return {
            "display_name": self.name(words["display_name"]),
            "description": self.sentence(words["description"]),
            "inputs": sockets("inputs"),
            "outputs": sockets("outputs"),
        }

    def main(self) -> dict[str, Any]:
        """main.json: menus, and the kinds of wires that are ours."""
        return {
            "nodeCategories": {menu: self.name(f"menu.{menu}") for menu in MENUS},
            "dataTypes": {wire: self.name(name) for wire, name in WIRES.items()},
        }


def files_of(language: str) -> dict[str, str]:
    """The files of a language by name, as they should be."""
    nodes = english()
    if language == "en":
        main: dict[str, Any] = {"dataTypes": WIRES}
    else:
        translation = Translation.read(language)
        nodes = {name: translation.node(name, words) for name, words in nodes.items()}
        main = translation.main()
    return {"main.json": text_of(main), "nodeDefs.json": text_of(nodes)}


def text_of(words: dict[str, Any]) -> str:
    """JSON whose values are spelt as the frontend's messages are."""

    def spelt(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: spelt(inner) for name, inner in value.items()}
        return literal(value)

    return json.dumps(spelt(words), ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    for language in LANGUAGES:
        for name, text in files_of(language).items():
            (FOLDER / language / name).write_text(text, encoding="utf-8")
