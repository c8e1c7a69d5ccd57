"""A later version of the pack, in which a node's id has gone, in a real ComfyUI of its own."""

from __future__ import annotations

import shutil
from dataclasses import asdict

import pytest
from safetensors.torch import load_file

from patchdit.nodes.replacements import Replaced

from .conftest import PACK, ROOT, served
from .graphs import node

EMPTY = "REPLACED: tuple[Replaced, ...] = ()"
SET = {"aspect": "width x height", "length_in": "frames", "seconds": 2.0, "fps": 8.0}
RENAMED = {"width": "columns", "height": "rows", "frames": "length", "batch_size": "clips"}
GONE = Replaced(
    "PatchDiT_BlankLatent",
    "PatchDiT_EmptyVideoLatent",
    list(RENAMED.values()),
    [{"new_id": name, "set_value": value} for name, value in SET.items()]
    + [{"new_id": name, "old_id": old} for name, old in RENAMED.items()],
    [{"new_idx": 0, "old_idx": 1}],
)


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """The pack as it is, but that its table of replaced ids has one entry."""
    base = tmp_path_factory.mktemp("later")
    pack = base / "custom_nodes" / PACK
    pack.mkdir(parents=True)
    for name in ("__init__.py", "models", "web", "locales"):
        (pack / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "nodes", pack / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
    table = pack / "nodes" / "replacements.py"
    text = table.read_text(encoding="utf-8")
    assert text.count(EMPTY) == 1
    table.write_text(text.replace(EMPTY, f"{EMPTY[:-2]}({GONE!r},)"), encoding="utf-8")
    with served(base) as server:
        yield server


def test_the_host_tells_the_canvas_of_it(later):
    told = later.get("node_replacements")[GONE.old_node_id]
    assert told == [asdict(GONE)]


def test_an_old_workflow_runs_with_the_new_node(later):
    """Its second output is the new node's first."""
    old = node(GONE.old_node_id, columns=96, rows=64, length=5, clips=2)
    save = node("SaveLatent", samples=["1", 1], filename_prefix="latent")
    outputs = later.run({"1": old | {"_meta": {}}, "2": save | {"_meta": {}}})
    latent = load_file(str(later.output(outputs["2"]["latents"][0])))["latent_tensor"]
    assert (len(latent), *latent.shape[2:]) == (2, 2, 8, 12)
