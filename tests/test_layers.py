"""The direction of imports: __init__ -> nodes -> models -> torch, and who may know which host."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("models", "nodes", "standalone", "training", "benchmarks")
# What each layer may import of the pack; training and benchmarks are scripts on top of everything.
ALLOWED = {
    "models": {"models"},
    "nodes": {"nodes", "models", "standalone"},
    "standalone": {"standalone", "models"},
    "training": {"training", "models"},
    "benchmarks": {"benchmarks", "training", "models", "nodes", "standalone"},
}
HOST = ("comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "server", "nodes")
LIGHT = ("numpy", "torch", "safetensors", "tokenizers", "cv2")
INSIDE = "speed_inside.py"  # run by ComfyUI's own Python, to be timed beside it
OPTIONAL = ("gguf", "psutil")  # used where they are installed


def files(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Absolute names of the modules a file imports, wherever; ours begin with patchdit."""
    package = ["patchdit", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join([*base, name]) for name in names}
    return found


def own(path: Path) -> set[str]:
    """Layers of the pack that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("patchdit.")}


def hosts(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in HOST}


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer):
    assert files(layer)
    for path in files(layer):
        assert own(path) <= ALLOWED[layer], path


def test_models_need_no_host_and_few_libraries():
    standard = __import__("sys").stdlib_module_names
    for path in files("models"):
        for name in imports(path):
            top = name.split(".")[0]
            assert top in standard or top in LIGHT + OPTIONAL or top == "patchdit", (path, name)


def test_only_api_and_host_know_comfyui_or_its_stand_in():
    for path in files("nodes"):
        relative = path.relative_to(ROOT / "nodes")
        if relative.parts[0] in ("api.py", "host", "host.py"):
            continue
        assert not hosts(path), path
        assert "standalone" not in own(path), path
    for layer in ("models", "standalone", "training", "benchmarks"):
        for path in files(layer):
            assert path.name == INSIDE or not hosts(path), path


def test_node_files_do_not_import_each_other():
    """A node shares what it needs through files that hold no node."""
    holds_node = {p.stem for p in files("nodes") if "io.ComfyNode" in p.read_text()}
    assert holds_node
    for path in files("nodes"):
        if path.name == "__init__.py":
            continue
        others = {n.split(".")[2] for n in imports(path) if n.startswith("patchdit.nodes.")}
        assert not others & holds_node, path


def test_nobody_edits_the_import_path():
    for layer in LAYERS:
        for path in files(layer):
            assert path.name == INSIDE or "sys.path" not in path.read_text(), path


def test_no_file_is_a_bag_of_helpers():
    names = {path.stem for layer in LAYERS for path in files(layer)}
    assert not names & {"utils", "helpers", "common", "misc"}
