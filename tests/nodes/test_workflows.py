"""The shipped workflows: both forms say the same, and every node in them is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patchdit.standalone.ui_format import to_api_format

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
TEMPLATES = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_template_and_api_form_are_the_same_graph(path, node_classes):
    prompt = to_api_format(json.loads(path.read_text()), node_classes)
    stored = json.loads((FOLDER / "api" / path.name).read_text())
    assert {id: node["class_type"] for id, node in prompt.items()} == {
        id: node["class_type"] for id, node in stored.items()
    }
    for id, node in stored.items():
        assert prompt[id]["inputs"] == node["inputs"], node["class_type"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_nodes_of_a_template_do_not_overlap(path):
    boxes = [
        (*node["pos"], node["pos"][0] + node["size"][0], node["pos"][1] + node["size"][1])
        for node in json.loads(path.read_text())["nodes"]
    ]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
            assert apart, (a, b)
