"""A page with a host's canvas, and what the tests do and ask there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[2]
VIEW = {"width": 1500, "height": 1100}
PATIENCE = int(os.environ.get("PATCHDIT_PATIENCE", 300))  # seconds that anything may take
SOON = PATIENCE / 5  # the same for what follows at once on an idle machine
# the host opens a graph by itself, which would otherwise come after ours
READY = "() => window.app?.vueAppReady === true && app.graph?._nodes?.length > 0"
DRAWN = """() => [Boolean(LiteGraph.vueNodesMode),
    document.querySelector(".lg-node[data-node-id]") !== null]"""  # nodes of the Vue renderer
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # words on nodes from afar too, for the pictures
}
PLACES = """() => [app.canvas.ds.scale, ...app.canvas.ds.offset, app.graph._nodes.length,
    ...[...document.querySelectorAll(".patchdit-view")].flatMap(one => {
        const { x, y, width, height } = one.getBoundingClientRect();
        return [x, y, width, height, one.textContent].map(String);
    })]"""
FIT = """() => {
    const boxes = [...app.graph._nodes, ...app.graph._groups];
    const left = Math.min(...boxes.map(one => one.pos[0]));
    const top = Math.min(...boxes.map(one => one.pos[1])) - 40;
    const right = Math.max(...boxes.map(one => one.pos[0] + one.size[0]));
    const bottom = Math.max(...boxes.map(one => one.pos[1] + one.size[1]));
    const scale = Math.min(1400 / (right - left), 980 / (bottom - top), 1);
    Object.assign(app.canvas.ds, { scale, offset: [80 / scale - left, 90 / scale - top] });
    app.canvas.setDirty(true, true);
}"""
QUEUE = """quick => {
    for (const node of app.graph._nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name in quick) widget.value = quick[widget.name];
    app.nodeOutputs = {};
    window.patchditEnded = null;
    const { api } = app;
    if (!window.patchditHears) {
        for (const kind of ["success", "error", "interrupted"])
            api.addEventListener(`execution_${kind}`, ({ detail }) => {
                const told = detail.exception_message ? ` ${detail.exception_message}` : "";
                window.patchditEnded = kind + told;
            });
        const post = api.queuePrompt;
        api.queuePrompt = async function (...given) {
            try {
                return await post.apply(this, given);
            } catch (error) {
                window.patchditEnded = `refused: ${JSON.stringify(error.response ?? error)}`;
                throw error;
            }
        };
        window.patchditHears = true;
    }
    app.queuePrompt(0, 1);
}"""


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
        self.page.evaluate("graph => app.loadGraphData(graph)", graph)
        self.settle()

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
        self.page.wait_for_selector(".patchdit-view", state="attached")
        self.settle()

    def fit(self) -> None:
        """Look at the whole graph."""
        self.page.evaluate(FIT)
        self.settle()

    def run(self, **quick: Any) -> str:
        """Queue the graph with the tiny weights and few steps; how that ends.

        `quick` are values for the widgets of these names, wherever there are some.
        """
        self.queue(**{"weights": "tiny", "steps": 2, **quick})
        return self.ended()

    def queue(self, **quick: Any) -> None:
        self.page.evaluate(QUEUE, {"control_after_generate": "fixed", **quick})

    def ended(self) -> str:
        """success, error, interrupted, or the host's refusal, once it is known."""
        return self.page.wait_for_function("() => window.patchditEnded").json_value()

    def files(self) -> list[dict]:
        """The videos that nodes show."""
        shown = "() => Object.values(app.nodeOutputs).flatMap(one => one.images ?? [])"
        return [one for one in self.page.evaluate(shown) if one["filename"].endswith(".mp4")]

    def settle(self) -> None:
        """Wait until nothing on the canvas moves or changes its size any more."""
        before = None
        for _ in range(10 * PATIENCE):
            self.page.wait_for_timeout(200)
            now = self.page.evaluate(PLACES)
            if now == before:
                return
            before = now
        raise AssertionError("The canvas does not come to rest.")

    def until(self, read: Callable[[], Any], wanted: Any) -> None:
        """Wait for a value that the canvas comes to; AssertionError where it never does."""
        end = time.monotonic() + SOON
        while (found := read()) != wanted and time.monotonic() < end:
            self.page.wait_for_timeout(100)
        assert found == wanted

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
        self.settle()

    def frontend(self) -> tuple[int, ...]:
        """The first two numbers of the version of the host's frontend."""
        told = self.page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
        return tuple(map(int, told.split(".")[:2]))

    def reload(self) -> None:
        """Open the page anew; the frontend finds the graph again."""
        count = len(self.serialized()["nodes"])
        self.page.wait_for_timeout(3000)  # it keeps a draft some time after an edit
        self.page.reload()
        self.page.wait_for_function(READY)
        self.page.wait_for_function("count => app.graph._nodes.length === count", arg=count)
        self.settle()

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
        self.page.wait_for_timeout(500)
        self.settle()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(*end, steps=5)
        mouse.up()
        self.settle()

    def box(self, selector: str, place: int = 0) -> dict:
        return self.page.locator(selector).nth(place).bounding_box()


def ask(address: str, path: str, body: Any = None) -> Any:
    """The JSON that a host answers; with a body, to a POST of it."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{address}{path}", data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=PATIENCE) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def complain(canvas: Canvas, words: str, source: str) -> None:
    """Keep what our own scripts say wrong; the rest of a host's console is its own business."""
    ours = "patchdit" in f"{words} {source}".lower() and "/api/" not in source
    if ours and "Content Security Policy" not in words:  # the frontend asks comfy.org about nodes
        canvas.complaints.append(f"{words} ({source})")


@contextmanager
def opened(chromium: Any, address: str, vue=False, language="en", window=VIEW):
    """A canvas in a browser of its own, ready, in one renderer and one language."""
    settings = {"Comfy.VueNodes.Enabled": vue, "Comfy.Locale": language}
    ask(address, "/api/settings", SETTINGS | settings)
    page = chromium.new_page(viewport=window)
    page.set_default_timeout(1000 * PATIENCE)
    canvas = Canvas(page, vue)
    page.on("pageerror", lambda error: complain(canvas, str(error), error.stack or ""))
    page.on(
        "console",
        lambda said: (
            complain(canvas, said.text, said.location.get("url", "")) if said.type == "error" else 0
        ),
    )
    try:
        page.goto(address)
        page.wait_for_function(READY)
        canvas.settle()
        assert page.evaluate(DRAWN) == [vue, vue]
        yield canvas
    finally:
        page.close()


def keep_picture(canvas: Canvas, name: str) -> None:
    """The canvas as a picture, where PATCHDIT_SCREENSHOTS names a folder."""
    folder = os.environ.get("PATCHDIT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        canvas.page.screenshot(path=Path(folder) / f"{name}.png")
