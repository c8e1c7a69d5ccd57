"""What every node says of itself, and that the stand-in says what a real ComfyUI says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
from pathlib import Path

import pytest

from patchdit.nodes import PatchDiTExtension

ROOT = Path(__file__).resolve().parents[2]
NODES = asyncio.run(PatchDiTExtension().get_node_list())
INFOS = sorted((ROOT / "tests" / "host" / "object_info").glob("*.json"))
OURS = ("python_module",)  # where the class was found, which is the host's business
FOLDED = {  # behind "advanced inputs", wherever a node has them
    *("solver", "shift", "seeds", "model_low", "boundary", "checkpoint", "dtype", "half"),
    *("window", "context", "generate_fps", "crossfade", "feather", "source_cfg", "batch_size"),
    *("any_model", "brush"),
}
PLAIN = {  # what nobody can do without, or tries first
    *("model", "positive", "negative", "vae", "latent", "video", "seed", "steps", "cfg"),
    *("prompt", "seconds", "width", "height", "strength", "direction", "mode", "weights"),
}


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_a_node_explains_itself(node):
    info = node.GET_NODE_INFO_V1()
    assert info["name"] == f"PatchDiT_{node.__name__}"
    assert info["category"].startswith("PatchDiT/")
    assert info["display_name"] and info["description"] and info["search_aliases"]
    inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
    untold = [name for name, (_, options) in inputs.items() if not options.get("tooltip")]
    assert untold == []
    assert all(info["output_tooltips"]) and len(info["output_tooltips"]) == len(info["output"])
    assert (ROOT / "web" / "docs" / f"{info['name']}.md").read_text().startswith("# ")


def test_what_few_need_is_folded_away_and_nothing_else():
    told: dict[str, set[bool]] = {}
    for node in NODES:
        for socket in node.GET_SCHEMA().inputs:
            told.setdefault(socket.id, set()).add(bool(socket.as_dict().get("advanced")))
    assert {name for name, kinds in told.items() if kinds == {True}} >= FOLDED
    assert {name for name, kinds in told.items() if kinds == {False}} >= PLAIN


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_execute_is_short_and_takes_what_the_schema_names(node):
    function = node.__dict__["execute"].__func__
    assert len(inspect.getsource(function).splitlines()) <= 16  # the decorator's line included
    schema = node.GET_SCHEMA()
    *names, last = list(inspect.signature(function).parameters.values())[1:]
    sockets = [socket.id for socket in schema.inputs]
    if last.kind is inspect.Parameter.VAR_KEYWORD:  # what several nodes share is read elsewhere
        assert {name.name for name in names} < set(sockets)
    else:
        assert [name.name for name in (*names, last)] == sockets


def test_nodes_never_import_nodes():
    """A node file takes from another node file nothing; what they share has a file of its own."""
    homes = {inspect.getsourcefile(node) for node in NODES}
    names = {Path(home).stem for home in homes}
    for home in homes:
        for statement in ast.walk(ast.parse(Path(home).read_text())):
            if isinstance(statement, ast.ImportFrom) and statement.level == 1:
                assert statement.module not in names, f"{home} imports {statement.module}"


def test_object_info_is_stored():
    assert INFOS, "tests/host writes object_info/<version>.json where a real ComfyUI is found"


@pytest.mark.parametrize("path", INFOS, ids=lambda path: path.stem)
def test_the_stand_in_says_what_comfyui_says(path):
    stored = json.loads(path.read_text())
    ours = {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in NODES}
    assert sorted(stored) == sorted(ours)
    for name, info in ours.items():
        said = {key: value for key, value in info.items() if key not in OURS}
        assert json.loads(json.dumps(said)) == {k: stored[name][k] for k in said}
