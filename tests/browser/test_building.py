"""A graph made by hand: nodes dragged in, wired with the mouse, run, left and found again."""

from __future__ import annotations

import json

from .page import ROOT

SEARCH = "input[placeholder^='Search']"  # of the node library, in an older frontend "Search..."
LOAD, EMPTY, DECODE, SAVE = (
    *(f"PatchDiT_{name}" for name in ("LoadBlockworld", "EmptyVideoLatent", "DecodeVideo")),
    "SaveVideo",
)
PLACES = {  # of the node library's names, in pixels of the window
    "Load Blockworld": (LOAD, (480, 150)),
    "Empty Video Latent": (EMPTY, (480, 420)),
    "Decode Video": (DECODE, (820, 150)),
    "Save Video": (SAVE, (1130, 150)),
}
WIRES = [(LOAD, "vae", DECODE, "vae"), (EMPTY, "latent", DECODE, "latent")]
SOCKET = """([kind, name, isInput]) => {
    const node = app.graph._nodes.find(one => one.comfyClass === kind);
    const slot = node[isInput ? "inputs" : "outputs"].findIndex(one => one.name === name);
    const [x, y] = isInput ? node.getInputPos(slot) : node.getOutputPos(slot);
    const { left, top } = app.canvas.canvas.getBoundingClientRect();
    const { scale, offset } = app.canvas.ds;
    return [left + (x + offset[0]) * scale, top + (y + offset[1]) * scale];
}"""


def drag_in(canvas, name: str, place: tuple[int, int]) -> None:
    """A node from the library at the left onto the canvas."""
    page = canvas.page
    page.locator(SEARCH).fill(name)
    item = page.get_by_role("treeitem").filter(has_text=name).last
    item.wait_for()
    box, before = item.bounding_box(), len(canvas.serialized()["nodes"])
    canvas.drag((box["x"] + 60, box["y"] + 10), place)
    canvas.until(lambda: len(canvas.serialized()["nodes"]), before + 1)


def wire(canvas, source: str, output: str, target: str, wanted: str) -> None:
    start = canvas.page.evaluate(SOCKET, [source, output, False])
    canvas.drag(start, canvas.page.evaluate(SOCKET, [target, wanted, True]))


def test_a_video_from_an_empty_canvas(canvas):
    page = canvas.page
    canvas.load({"nodes": [], "links": [], "version": 0.4})
    page.evaluate("() => Object.assign(app.canvas.ds, { scale: 1, offset: [0, 0] })")
    if not page.locator(SEARCH).is_visible():
        page.keyboard.press("n")
    for name, (kind, place) in PLACES.items():
        drag_in(canvas, name, place)
        assert canvas.serialized()["nodes"][-1]["type"] == kind
    for source, output, target, wanted in [*WIRES, (DECODE, "video", SAVE, "video")]:
        wire(canvas, source, output, target, wanted)
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    kinds = {id: node["class_type"] for id, node in sent.items()}
    joined = {
        (kinds[value[0]], node["class_type"], name)
        for node in sent.values()
        for name, value in node["inputs"].items()
        if isinstance(value, list)
    }
    assert joined == {
        (LOAD, DECODE, "vae"),
        (EMPTY, DECODE, "latent"),
        (DECODE, SAVE, "video"),
    }
    assert canvas.run(width=64, height=64, seconds=1) == "success"
    assert len(canvas.files()) == 1


def test_an_edit_is_still_there_after_a_reload(canvas):
    """An edge dragged on the timeline, the page loaded anew: the same graph."""
    page = canvas.page
    canvas.load(json.loads((ROOT / "workflows" / "storyboard.json").read_text()))
    canvas.look_at("PatchDiT_Storyboard")
    segment = page.locator(".patchdit-segment").nth(1)
    segment.focus()
    page.keyboard.press("Shift+ArrowRight")
    assert canvas.widget("PatchDiT_Shot", "seconds", 1) == 3
    before = canvas.serialized()
    canvas.reload()
    after = canvas.serialized()
    kept = ("id", "type", "pos", "widgets_values", "inputs", "outputs")
    assert [[n.get(k) for k in kept] for n in after["nodes"]] == [
        [n.get(k) for k in kept] for n in before["nodes"]
    ]
    assert after["links"] == before["links"]
    assert canvas.widget("PatchDiT_Shot", "seconds", 1) == 3
