"""A graph made by hand: nodes dragged in, wired with the mouse, run, left and found again."""

from __future__ import annotations

import colorsys
import json
from itertools import combinations

import cv2
import numpy as np
import pytest

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

COLOURS = """() => Object.keys(LiteGraph.registered_node_types)
    .filter(type => type.startsWith("PatchDiT_"))
    .map(type => LiteGraph.createNode(type))
    .map(node => [node.constructor.category.split("/").at(-1), [node.color, node.bgcolor]])"""
NEUTRAL = ("load", "latent", "denoise", "measure")
TEXTS = {"dark": ("#999999", "#aaaaaa"), "light": ("#222222", "#444444")}  # ComfyUI's, title first
READABLE = 4.5  # contrast of WCAG AA
DISTINCT = 8  # CIE76; from 2.3 on one can tell two colours that touch
WORN = "() => app.graph._nodes.map(one => [one.color || null, one.bgcolor || null])"
BODY = """place => {  // of a node beside its widgets, where nothing else is drawn
    const { pos, size } = app.graph._nodes[place], { scale, offset } = app.canvas.ds;
    const { left, top } = app.canvas.canvas.getBoundingClientRect();
    const [x, y] = [pos[0] + size[0] - 4, pos[1] + size[1] / 2];
    return [left + (x + offset[0]) * scale, top + (y + offset[1]) * scale];
}"""
RED, GREEN = ("#322", "#533"), ("#232", "#353")  # of ComfyUI's own menu of colours


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


def rgb(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def lab(colour: str) -> np.ndarray:
    """CIE L*a*b*, in which distances are as they are seen."""
    return cv2.cvtColor(np.float32([[rgb(colour)]]), cv2.COLOR_RGB2LAB)[0, 0]


def lightened(colour: str) -> list[float]:
    """As ComfyUI shows a node's colour in a light theme."""
    hue, light, saturation = colorsys.rgb_to_hls(*rgb(colour))
    return list(colorsys.hls_to_rgb(hue, min(light + 0.5, 1), saturation))


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of WCAG 2.2, 1 to 21."""

    def luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_page_says_that_it_is_a_preview_host(canvas, request):
    badge = canvas.page.get_by_text("PatchDiT preview host")
    own = request.node.callspec.params["address"] == "own"
    canvas.until(lambda: badge.count() == 1 and badge.is_visible(), own)


def test_a_node_wears_the_colour_of_its_verb_and_can_be_read(canvas):
    found = canvas.page.evaluate(COLOURS)
    worn = {verb: tuple(colours) for verb, colours in found}
    assert len(worn) > 10 and all(tuple(colours) == worn[verb] for verb, colours in found)
    assert len({worn[verb] for verb in NEUTRAL}) == 1 and worn["patches"] == worn["patchify"]
    verbs = [worn[verb] for verb in worn if verb not in (*NEUTRAL, "patchify")]
    for one, other in combinations([worn["load"], *verbs], 2):
        apart = np.linalg.norm(lab(one[1]) - lab(other[1]))
        assert apart > DISTINCT, (one, other)
    for colours in worn.values():
        for colour, dark, light in zip(colours, TEXTS["dark"], TEXTS["light"], strict=True):
            assert contrast(rgb(colour), rgb(dark)) >= READABLE, colour
            assert contrast(lightened(colour), rgb(light)) >= READABLE, colour


def test_a_chosen_colour_stays(canvas):
    """Of the file, of the user, and none at all; the prompt knows of no colour."""
    page = canvas.page
    kinds = [LOAD, "PatchDiT_LoopVideo", "PatchDiT_LoopVideo", "PatchDiT_LoopVideo", EMPTY]
    nodes = [
        {"id": place, "type": kind, "pos": [120 + 420 * place, 150], "size": [380, 560]}
        for place, kind in enumerate(kinds, 1)
    ]
    nodes[1] |= {"color": RED[0], "bgcolor": RED[1]}
    nodes[4] |= {"bgcolor": GREEN[1]}
    canvas.load({"nodes": nodes, "links": [], "version": 0.4})
    page.evaluate("() => Object.assign(app.canvas.ds, { scale: 0.6, offset: [0, 0] })")
    ours = {verb: list(colours) for verb, colours in page.evaluate(COLOURS)}
    page.evaluate(
        """() => {  // as the menu of colours does it
            const { node_colors } = app.canvas.constructor;
            app.graph._nodes[0].setColorOption(node_colors.green);
            app.graph._nodes[2].setColorOption(null);
            app.canvas.setDirty(true, true);
        }"""
    )
    chosen = [list(GREEN), list(RED), [None, None], ours["loop"], [None, GREEN[1]]]
    assert page.evaluate(WORN) == chosen
    canvas.settle()
    assert pixel(canvas, page.evaluate(BODY, 3)) == pytest.approx(rgb(ours["loop"][1]), abs=0.02)
    canvas.load(canvas.serialized())
    assert page.evaluate(WORN) == chosen
    canvas.reload()
    assert page.evaluate(WORN) == chosen
    assert "color" not in json.dumps(page.evaluate("() => app.graphToPrompt()")["output"])


def pixel(canvas, place: list[float]) -> list[float]:
    """What is on the screen at a place, red, green and blue from 0 to 1."""
    clip = {"x": place[0], "y": place[1], "width": 1, "height": 1}
    data = np.frombuffer(canvas.page.screenshot(clip=clip), np.uint8)
    return [float(one) / 255 for one in cv2.imdecode(data, cv2.IMREAD_COLOR)[0, 0, ::-1]]
