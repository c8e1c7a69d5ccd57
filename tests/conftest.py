"""Loads the checkout as the package `patchdit`, the way ComfyUI loads a custom node folder."""

import importlib.util
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

if "patchdit" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "patchdit", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["patchdit"] = package
    spec.loader.exec_module(package)


@contextmanager
def small_disk():
    resource = pytest.importorskip("resource", reason="needs Unix's limits")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def full_disk():
    """`with full_disk():` no file grows beyond 512 bytes; it ends before pytest itself writes."""
    return small_disk
