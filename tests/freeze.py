"""Keep the templates and blueprints of a release: `python -m patchdit.tests.freeze`.

They go to tests/released/<major.minor> of pyproject.toml's version, where tests/test_released.py
opens them from then on; beside them stands in api/ what each means today.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

from patchdit.nodes import PatchDiTExtension
from patchdit.standalone.core_nodes import CORE_NODES
from patchdit.standalone.ui_format import to_api_format

ROOT = Path(__file__).resolve().parents[1]


def present_version() -> str:
    """major.minor of pyproject.toml."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(\d+\.\d+)\.', project, re.MULTILINE)
    return version


def held(blueprint: dict[str, Any]) -> dict[str, Any]:
    """The graph within a blueprint."""
    (graph,) = blueprint["definitions"]["subgraphs"]
    return graph


def freeze(folder: Path) -> None:
    """Write what workflows/ and subgraphs/ hold to a folder of tests/released."""
    nodes = [*CORE_NODES, *asyncio.run(PatchDiTExtension().get_node_list())]
    classes = {node.GET_SCHEMA().node_id: node for node in nodes}
    for source, target in (("workflows", folder), ("subgraphs", folder / "subgraphs")):
        (target / "api").mkdir(parents=True, exist_ok=True)
        for path in (ROOT / source).glob("*.json"):
            shutil.copy(path, target / path.name)
            graph = json.loads(path.read_text(encoding="utf-8"))
            graph = held(graph) if source == "subgraphs" else graph
            text = json.dumps(to_api_format(graph, classes), ensure_ascii=False, indent=2)
            (target / "api" / path.name).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    freeze(ROOT / "tests" / "released" / present_version())
