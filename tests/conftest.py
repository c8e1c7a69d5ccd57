"""Loads the checkout as the package `patchdit`, the way ComfyUI loads a custom node folder."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if "patchdit" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "patchdit", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["patchdit"] = package
    spec.loader.exec_module(package)
