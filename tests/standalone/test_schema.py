"""What the stand-in says of nodes is what a real ComfyUI 0.21 said of the same ones."""

import importlib.util
import json
from pathlib import Path

import pytest

from patchdit.nodes import api
from patchdit.standalone import schema
from patchdit.standalone.core_nodes import CORE_NODES

HERE = Path(__file__).parent
CORE = json.loads((HERE / "core_nodes.json").read_text())


def test_every_wire_and_option_is_listed_as_comfyui_lists_it():
    spec = importlib.util.spec_from_file_location("schema_zoo", HERE / "schema_zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ours = json.loads(json.dumps(module.zoo(schema).GET_NODE_INFO_V1()))
    del ours["python_module"]
    assert ours == json.loads((HERE / "schema_zoo.json").read_text())


@pytest.mark.parametrize("node", CORE_NODES, ids=lambda node: node.__name__)
def test_core_nodes_have_cores_sockets(node, session):
    ours = node.GET_NODE_INFO_V1()
    theirs = CORE[ours["name"]]
    for kind in ("required", "optional"):
        types = {name: entry[0] for name, entry in ours["input"].get(kind, {}).items()}
        assert types == theirs["inputs"][kind]
        assert list(types) == list(theirs["inputs"][kind])
    for key in ("output", "output_name", "output_node", "category"):
        assert ours[key] == theirs[key]


def test_ids_used_twice_are_refused():
    class Twice(schema.ComfyNode):
        @classmethod
        def define_schema(cls):
            return schema.Schema("Twice", inputs=[schema.Int.Input("a"), schema.Mask.Input("a")])

    with pytest.raises(ValueError, match=r"Input ids of Twice must be unique; \['a'\] are not\."):
        Twice.GET_SCHEMA()


def test_a_host_that_is_found_but_broken_is_not_passed_over(monkeypatch):
    """Without ComfyUI the nodes get the stand-in; a ComfyUI that fails to import is an error."""
    assert api.io is schema
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    loader = api.__spec__.loader
    with pytest.raises(ModuleNotFoundError, match="comfy_api"):
        exec(loader.get_code(api.__name__), {"__name__": "patchdit.nodes.api"})
