"""The shipped workflows: both forms say the same, and every node in them is known."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import av
import pytest

from patchdit.nodes import host
from patchdit.standalone.executor import run
from patchdit.standalone.graph import read_graph
from patchdit.standalone.host import Session, use_session
from patchdit.standalone.ui_format import to_api_format

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
TEMPLATES = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_template_and_api_form_are_the_same_graph(path, node_classes):
    prompt = to_api_format(json.loads(path.read_text(encoding="utf-8")), node_classes)
    for node in prompt.values():  # the canvas names a node in the API form, titled or not
        display_name = node_classes[node["class_type"]].GET_SCHEMA().display_name
        node.setdefault("_meta", {"title": display_name})
    assert prompt == json.loads((FOLDER / "api" / path.name).read_text(encoding="utf-8"))


def test_every_template_has_an_api_form():
    assert [path.name for path in TEMPLATES] == sorted(p.name for p in (FOLDER / "api").iterdir())
    assert TEMPLATES


def test_text_to_video_runs_without_comfyui(node_classes, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "weights_folder", lambda: weights.parent)
    prompt = json.loads((FOLDER / "api" / "text_to_video.json").read_text())
    prompt["1"]["inputs"]["weights"] = weights.name
    prompt["2"]["inputs"]["text"] = "a red ball"
    prompt["5"]["inputs"]["steps"] = 3
    told = []
    session = Session(tmp_path, tmp_path, tmp_path, lambda *step: told.append(step))
    with use_session(session):
        graph = read_graph(prompt, node_classes)
        shown = asyncio.run(run(graph, None, lambda node: None))
    (file,) = shown["9"]["images"]
    with av.open(str(tmp_path / file["subfolder"] / file["filename"])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 17
    assert [step for step in told if step[0] == "7"] == [("7", i, 3) for i in (1, 2, 3)]
    assert [step for step in told if step[0] == "9"][-1] == ("9", 17, 17)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_nodes_of_a_template_do_not_overlap(path):
    boxes = [box(node) for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
            assert apart, (a, b)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_nodes_of_a_template_stand_in_a_group_and_left_of_their_readers(path):
    """A template reads from left to right, under headings; only notes stand alone."""
    template = json.loads(path.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in template["nodes"]}
    groups = [group["bounding"] for group in template["groups"]]
    for node in nodes.values():
        left, top, right, bottom = box(node)
        inside = [
            x <= left and y <= top and right <= x + w and bottom <= y + h for x, y, w, h in groups
        ]
        assert sum(inside) == (node["type"] != "MarkdownNote"), node["type"]
    for _, source, _, target, _, _ in template["links"]:
        assert box(nodes[source])[2] < box(nodes[target])[0]


def box(node):
    """Left, top, right and bottom of a node, its title bar of 30 pixels included."""
    (left, top), (width, height) = node["pos"], node["size"]
    return left, top - 30, left + width, top + height
