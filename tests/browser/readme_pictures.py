"""Draws docs/canvas_*.jpg, the canvas in README, by the shipped model, with Debian's chromium.

python -m patchdit.tests.browser.readme_pictures
"""

from __future__ import annotations

import io
import json

from PIL import Image

from .help_pictures import canvas_for_pictures
from .page import ROOT, Canvas

FOLDER = ROOT / "docs"
SETTINGS = {
    "Comfy.Sidebar.Size": "small",
    "Comfy.Workflow.WorkflowTabsPosition": "Sidebar",
}
SHIPPED = {"weights": "blockworld-mini", "steps": 20}
SELECT = "PatchDiT_SelectPatches"
MIDWAY = """() => {
    for (const video of document.querySelectorAll("video"))
        Object.assign(video, { controls: false, currentTime: 1 });
}"""
BRUSH = """kind => {
    const first = kind => app.graph._nodes.find(one => one.comfyClass === kind);
    const node = first(kind);
    node.title = "Select Patches";
    node.widgets.find(one => one.name === "by").value = "brush";
    node.widgets.find(one => one.name === "brush").value = "5x4x4 0:5-6,9-10";
    first("PatchDiT_DecodeVideo").connect(
        0, node, node.inputs.findIndex(one => one.name === "frames"));
}"""

LOOK = """([kind, left, top, scale]) => {
    const node = app.graph._nodes.find(one => one.comfyClass === kind);
    const offset = [left / scale - node.pos[0], top / scale - node.pos[1]];
    Object.assign(app.canvas.ds, { scale, offset });
    app.canvas.setDirty(true, true);
}"""


def main() -> None:
    with canvas_for_pictures(**SETTINGS) as canvas:
        for draw in (text_to_video, timeline, brush):
            draw(canvas)
            picture = Image.open(io.BytesIO(canvas.page.screenshot())).convert("RGB")
            picture.save(FOLDER / f"canvas_{draw.__name__}.jpg", quality=85, optimize=True)


def text_to_video(canvas: Canvas) -> None:
    show(canvas, "text_to_video", height=740)
    canvas.fit()


def timeline(canvas: Canvas) -> None:
    show(canvas, "storyboard", height=740)
    look(canvas, "PatchDiT_Storyboard", left=640, top=150, scale=0.88)


def brush(canvas: Canvas) -> None:
    show(canvas, "patches", height=860, change=BRUSH)
    look(canvas, SELECT, left=300, top=150, scale=0.84)


def show(canvas: Canvas, template: str, height: int, change: str = "() => 0") -> None:
    """A template run with the shipped model; what pops up when it is done has gone again."""
    canvas.page.set_viewport_size({"width": 1600, "height": height})
    path = ROOT / "workflows" / f"{template}.json"
    canvas.load(json.loads(path.read_text(encoding="utf-8")))
    canvas.page.evaluate(change, SELECT)
    ended = canvas.run(**SHIPPED)
    assert ended == "success", ended
    canvas.page.wait_for_timeout(9000)
    canvas.page.evaluate(MIDWAY)


def look(canvas: Canvas, kind: str, left: float, top: float, scale: float) -> None:
    """Move the first node of a kind to this place in the window, in pixels."""
    canvas.page.evaluate(LOOK, [kind, left, top, scale])
    canvas.settle()


if __name__ == "__main__":
    main()
