"""Every template and blueprint ever released opens against today's nodes and means what it meant.

released/<version>/ holds the templates of that version as they were, api/ their API form; of its
blueprints likewise subgraphs/, and subgraphs/api/ what they hold.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from patchdit.nodes.replacements import REPLACED, Replaced, register
from patchdit.standalone.graph import find_problems, read_graph
from patchdit.standalone.host import Session, use_session
from patchdit.standalone.ui_format import SILENT, to_api_format

from .freeze import held, present_version
from .nodes.conftest import node_classes

__all__ = ["node_classes"]

FOLDER = Path(__file__).parent / "released"
ROOT = FOLDER.parents[1]
TEMPLATES = sorted(FOLDER.glob("*/*.json"))
BLUEPRINTS = sorted(FOLDER.glob("*/subgraphs/*.json"))
each_template = pytest.mark.parametrize(
    "path", TEMPLATES, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
each_graph = pytest.mark.parametrize(
    "path", [*TEMPLATES, *BLUEPRINTS], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
FILES = {"model_name", "vae_name", "clip_name", "image", "file"}  # that a user has, or not


def read(path: Path) -> dict:
    """A template, or what a blueprint holds."""
    graph = json.loads(path.read_text(encoding="utf-8"))
    if path in BLUEPRINTS:
        return held(graph)
    return graph


def test_the_first_release_is_kept():
    kept = {path.stem for path in TEMPLATES if path.parent.name == "0.1"}
    assert {"text_to_video", "extend", "stitch", "loop", "patches", "storyboard"} <= kept
    assert {path.stem for path in (FOLDER / "0.1" / "api").glob("*.json")} == kept


def test_the_present_version_has_its_folder():
    """Whoever raises the version keeps all templates and blueprints of that release."""
    kept = FOLDER / present_version()
    for there, here in (("", "workflows"), ("subgraphs", "subgraphs")):
        names = sorted(path.name for path in (ROOT / here).glob("*.json"))
        for folder in (kept / there, kept / there / "api"):
            found = sorted(path.name for path in folder.glob("*.json"))
            assert names and found == names, "run: python -m patchdit.tests.freeze"


@each_graph
def test_every_node_is_known_or_replaced(path, node_classes):
    replaced = {entry.old_node_id for entry in REPLACED}
    known = {*node_classes, *replaced, *SILENT, "Reroute"}
    assert {node["type"] for node in read(path)["nodes"]} <= known


@each_graph
def test_saved_sockets_are_those_of_today(path, node_classes):
    """Outputs by place, inputs by name; a link's type still fits both its ends."""
    template = read(path)
    nodes = {node["id"]: node for node in template["nodes"]}
    for node in nodes.values():
        if node["type"] not in node_classes:
            continue
        schema = node_classes[node["type"]].GET_SCHEMA()
        today = [socket.io_type for socket in schema.outputs]
        assert [output["type"] for output in node["outputs"]] == today[: len(node["outputs"])]
        types = {socket.id: set(socket.get_io_type().split(",")) for socket in schema.inputs}
        for socket in node["inputs"]:
            assert socket["name"] in types, (node["type"], socket["name"])
            assert fits(types[socket["name"]], set(socket["type"].split(",")))
    for link in template["links"]:
        _, source, slot, target, place, kind = link.values() if isinstance(link, dict) else link
        if source in nodes:  # else an end of a blueprint
            assert nodes[source]["outputs"][slot]["type"] == kind
        if target in nodes:
            taken = nodes[target]["inputs"][place]["type"]
            assert fits(set(taken.split(",")), set(kind.split(",")))


def fits(taken: set[str], given: set[str]) -> bool:
    return bool(taken & given) or "*" in taken


@each_graph
def test_every_saved_value_still_lands_on_its_own_input(path, node_classes):
    """Widgets may only be appended: what the release said is a part of what today's nodes read."""
    prompt = to_api_format(read(path), node_classes)
    released = read(path.parent / "api" / path.name)
    assert prompt.keys() == released.keys()
    for id, then in released.items():
        now = prompt[id]
        assert now["class_type"] == then["class_type"]
        assert {name: now["inputs"].get(name) for name in then["inputs"]} == then["inputs"]


@each_template
def test_it_is_valid_today(path, node_classes, tmp_path):
    """Ranges and choices included, and inputs added since have a default; but for its files."""
    with use_session(Session(tmp_path, tmp_path, tmp_path)):
        graph = read_graph(to_api_format(read(path), node_classes), node_classes)
        problems = find_problems(graph)
    assert [problem for problem in problems if problem.input not in FILES] == []


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_released_blueprint_still_shows_its_widgets(path, node_classes):
    nodes = {str(node["id"]): node["type"] for node in read(path)["nodes"]}
    (outer,) = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    for id, widget in outer["properties"]["proxyWidgets"]:
        assert widget in {socket.id for socket in node_classes[nodes[id]].GET_SCHEMA().inputs}


def test_a_replaced_node_is_told_to_the_host():
    told = []

    async def tell(entry):
        told.append(entry)

    host_api = SimpleNamespace(node_replacement=SimpleNamespace(register=tell))
    mapping = [{"new_id": "video", "old_id": "clip"}, {"new_id": "steps", "set_value": 20}]
    table = (Replaced("PatchDiT_Longer", "PatchDiT_ExtendVideo", ["steps"], mapping),)
    asyncio.run(register(host_api, lambda **fields: fields, table))
    assert told == [
        {
            "old_node_id": "PatchDiT_Longer",
            "new_node_id": "PatchDiT_ExtendVideo",
            "old_widget_ids": ["steps"],
            "input_mapping": mapping,
            "output_mapping": None,
        }
    ]


def test_replaced_ids_are_gone_and_their_successors_are_there(node_classes):
    for entry in REPLACED:
        assert entry.old_node_id not in node_classes
        assert entry.new_node_id in node_classes
