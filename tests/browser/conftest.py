"""Chromium on a canvas of this pack: that of a real ComfyUI, where one is found, and our own.

Every test runs on each host in both renderers of nodes, with --smoke only what smoke.py names.
PATCHDIT_SCREENSHOTS names a folder that keeps a picture of the canvas after every test.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from ..host.conftest import ComfyUI, comfyui, parts, wan_weights, weights
from ..host.template_files import write_upscaler, write_wan_template_files
from .page import PATIENCE, ROOT, keep_picture, opened
from .smoke import chosen

__all__ = ["comfyui", "parts", "wan_weights", "weights"]  # fixtures of the tests of the host

SKIPPED = pytest.StashKey[bool]()
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--smoke", action="store_true", help="only what tests/browser/smoke.py names")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--smoke"):
        items[:], left_out = chosen(items)
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if report.when == "call":
        item.stash[SKIPPED] = report.skipped
    return report


@pytest.fixture(scope="session")
def own_base(weights, tmp_path_factory) -> Path:
    """A base directory for `make canvas`, with the tiny weights."""
    pytest.importorskip("comfyui_frontend_package", reason="the frontend package is not installed")
    base = tmp_path_factory.mktemp("canvas")
    shutil.copytree(weights, base / "models" / "patchdit" / "tiny")
    if find_spec("spandrel"):
        write_upscaler(base / "models")
    return base


@pytest.fixture(scope="session")
def own_canvas(own_base) -> Iterator[str]:
    """The address of `make canvas` in a folder of its own."""
    port = free_port()
    with own_server(own_base, port):
        yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def own_server(base: Path, port: int) -> Iterator[subprocess.Popen]:
    """The process of `make canvas`, up and listening; it is stopped in the end."""
    command = [sys.executable, str(ROOT / "canvas.py"), "--port", str(port)]
    with open(base / "log.txt", "w") as log:
        process = subprocess.Popen(
            [*command, "--base-directory", str(base)], cwd=base, stdout=log, stderr=log
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}", process, base / "log.txt")
        yield process
    finally:
        process.terminate()
        process.wait(30)


def wait_until_up(url: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            urlopen(f"{url}/api/system_stats", timeout=5).close()
            return
        except (URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-4000:])


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium found")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def stocked_comfyui(comfyui) -> ComfyUI:
    """A real ComfyUI with a tiny file for every loader of a template."""
    write_upscaler(comfyui.base / "models")
    write_wan_template_files(comfyui.base)
    return comfyui


@pytest.fixture(scope="session", params=["own", "comfyui"])
def address(request):
    """A host that serves the pack."""
    if request.param == "own":
        return request.getfixturevalue("own_canvas")
    return request.getfixturevalue("stocked_comfyui").url


@pytest.fixture(scope="session", params=["classic", "vue"])
def session_canvas(request, address, chromium):
    with opened(chromium, address, vue=request.param == "vue") as canvas:
        yield canvas


@pytest.fixture
def canvas(session_canvas, request):
    """The canvas of a host in one renderer; a complaint of our scripts fails the test."""
    session_canvas.complaints.clear()
    yield session_canvas
    if not request.node.stash.get(SKIPPED, False):  # else it is still that of the test before
        keep_picture(session_canvas, request.node.name)
    assert session_canvas.complaints == []
