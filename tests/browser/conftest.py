"""Chromium on a canvas of this pack: that of a real ComfyUI, where one is found, and our own.

Every test runs on each host in both renderers of nodes. PATCHDIT_SCREENSHOTS names a folder that
keeps a picture of the canvas after every test.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from ..host.conftest import comfyui, parts, wan_weights, weights

__all__ = ["comfyui", "parts", "wan_weights", "weights"]  # fixtures of the tests of the host

ROOT = Path(__file__).resolve().parents[2]
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
# the host opens a graph by itself, which would otherwise come after ours
READY = "() => window.app?.vueAppReady === true && app.graph?._nodes?.length > 0"
VIEW = {"width": 1500, "height": 1100}


@pytest.fixture(scope="session")
def own_canvas(weights, tmp_path_factory):
    """The address of `make canvas` in a folder of its own, with the tiny weights."""
    pytest.importorskip("comfyui_frontend_package", reason="the frontend package is not installed")
    base = tmp_path_factory.mktemp("canvas")
    shutil.copytree(weights, base / "models" / "patchdit" / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "canvas.py"), "--port", str(port)]
    with open(base / "log.txt", "w") as log:
        process = subprocess.Popen(
            [*command, "--base-directory", str(base)], cwd=base, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(url, process, base / "log.txt")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def wait_until_up(url: str, process: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
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


@dataclass
class Canvas:
    """A page with a host's canvas, and what the tests ask of it."""

    page: Any
    vue: bool
    complaints: list[str] = field(default_factory=list)

    def open(self, template: str, kind: str) -> dict:
        """Load workflows/<template>.json and look at its node of a kind; return the JSON."""
        graph = json.loads((ROOT / "workflows" / f"{template}.json").read_text())
        self.load(graph)
        self.look_at(kind)
        return graph

    def load(self, graph: dict) -> None:
        self.complaints.clear()
        self.page.evaluate("graph => app.loadGraphData(graph)", graph)

    def look_at(self, kind: str) -> None:
        """Move the canvas so that the view of the first node of a kind is on the screen."""
        self.page.evaluate(
            """kind => {
                const node = app.graph._nodes.find(one => one.comfyClass === kind);
                const offset = [120 - node.pos[0], 80 - node.pos[1]];
                Object.assign(app.canvas.ds, { scale: 1, offset });
                app.canvas.setDirty(true, true);
            }""",
            kind,
        )
        self.page.wait_for_selector(".patchdit-view", state="attached", timeout=20_000)
        self.page.wait_for_timeout(500)

    def widget(self, kind: str, name: str, place: int = 0) -> Any:
        """The value of a widget of the node of a kind, of several the one at a place."""
        return self.page.evaluate(
            """([kind, name, place]) => app.graph._nodes.filter(one => one.comfyClass === kind)
                [place].widgets.find(one => one.name === name).value""",
            [kind, name, place],
        )

    def set(self, kind: str, name: str, value: Any, place: int = 0) -> None:
        self.page.evaluate(
            """([kind, name, value, place]) => {
                const node = app.graph._nodes.filter(one => one.comfyClass === kind)[place];
                node.widgets.find(one => one.name === name).value = value;
            }""",
            [kind, name, value, place],
        )
        self.page.wait_for_timeout(250)

    def serialized(self) -> dict:
        return self.page.evaluate("() => app.graph.serialize()")

    def unsized_nodes(self) -> list[dict]:
        """The saved nodes without their sizes, which the Vue renderer measures anew."""
        return [
            {key: value for key, value in node.items() if key != "size"}
            for node in self.serialized()["nodes"]
        ]

    def undo(self) -> None:
        self.page.keyboard.press("Control+z")
        self.page.wait_for_timeout(900)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(*end, steps=5)
        mouse.up()
        self.page.wait_for_timeout(200)

    def box(self, selector: str, place: int = 0) -> dict:
        return self.page.locator(selector).nth(place).bounding_box()


def complain(canvas: Canvas, words: str, source: str) -> None:
    """Keep what our own scripts say wrong; the rest of a host's console is its own business."""
    if "patchdit" in f"{words} {source}".lower() and "/api/" not in source:
        canvas.complaints.append(f"{words} ({source})")


@pytest.fixture(scope="session", params=["own", "comfyui"])
def address(request):
    """A host that serves the pack."""
    if request.param == "own":
        return request.getfixturevalue("own_canvas")
    return request.getfixturevalue("comfyui").url


@pytest.fixture(scope="session", params=["classic", "vue"])
def session_canvas(request, address, chromium):
    vue = request.param == "vue"
    settings = {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": vue}
    headers = {"Content-Type": "application/json"}
    told = Request(f"{address}/api/settings", json.dumps(settings).encode(), headers)
    urlopen(told, timeout=30).close()
    page = chromium.new_page(viewport=VIEW)
    canvas = Canvas(page, vue)
    page.on("pageerror", lambda error: complain(canvas, str(error), error.stack or ""))
    page.on(
        "console",
        lambda said: (
            complain(canvas, said.text, said.location.get("url", "")) if said.type == "error" else 0
        ),
    )
    page.goto(address)
    page.wait_for_function(READY, timeout=120_000)
    page.wait_for_timeout(1500)
    yield canvas
    page.close()


@pytest.fixture
def canvas(session_canvas, request):
    """The canvas of a host in one renderer; a complaint of our scripts fails the test."""
    session_canvas.complaints.clear()
    yield session_canvas
    folder = os.environ.get("PATCHDIT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        session_canvas.page.screenshot(path=Path(folder) / f"{request.node.name}.png")
    assert session_canvas.complaints == []
