"""Run a workflow without ComfyUI: run.py WORKFLOW.json --set NODE.INPUT=VALUE --output DIR"""

import importlib.util
import io
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def load_pack():
    """Import this folder as the package `patchdit`, as ComfyUI imports a pack."""
    spec = importlib.util.spec_from_file_location(
        "patchdit", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    package = sys.modules["patchdit"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):  # a prompt or a path may not fit a Windows code page
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    pack = load_pack()
    sys.exit(importlib.import_module("patchdit.standalone.cli").main(pack.comfy_entrypoint))
