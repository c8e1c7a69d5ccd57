"""A graph that cannot run, queued from the canvas: the nodes to blame are marked and named."""

from __future__ import annotations

import json
import re

import pytest

from .page import ROOT, SOON, keep_picture

CIRCLE = """() => {
    const kind = "PatchDiT_ExtendVideo";
    const [one, other] = app.graph._nodes.filter(node => node.comfyClass === kind);
    const place = sockets => sockets.findIndex(({ name }) => name === "video");
    one.connect(place(one.outputs), other, place(other.inputs));
    other.connect(place(other.outputs), one, place(one.inputs));
}"""
OUTSIDE = """() => {
    const [first] = app.graph._nodes.filter(node => node.comfyClass === "PatchDiT_ExtendVideo");
    const node = LiteGraph.createNode("LoadVideo");
    Object.assign(node, { title: "Clip of another", pos: [first.pos[0], first.pos[1] - 400] });
    app.graph.add(node);
    node.widgets.find(one => one.name === "file").value = "../../secret.mp4";
    node.connect(0, first, first.inputs.findIndex(one => one.name === "video"));
}"""
PREFIX = """() => {
    const node = app.graph._nodes.find(one => one.comfyClass === "SaveVideo");
    node.title = "Save it elsewhere";
    node.widgets.find(one => one.name === "filename_prefix").value = "../../secret";
}"""
MARKED = "() => app.graph._nodes.filter(one => one.has_errors).map(one => one.title)"
MORE = re.compile("View details|See Errors", re.IGNORECASE)  # on the message
CLOSE_PANEL = "() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)"


@pytest.fixture
def edited(canvas, request):
    """`edited(template, change)`: queued like that; how it ended. The page is left as it was."""

    def edit(name: str, change: str) -> str:
        canvas.load(template(name))
        canvas.page.evaluate(change)
        canvas.fit()
        canvas.queue(weights="tiny", steps=2)
        return canvas.ended()

    yield edit
    keep_picture(canvas, f"told_{request.node.name}")
    canvas.page.evaluate(CLOSE_PANEL)
    canvas.load(template("text_to_video"))
    canvas.reload()  # the host's complaints stay on the screen for good


def template(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def assert_named(canvas, titles: list[str]) -> None:
    """What the host's message leads to names the nodes; the Vue renderer's nodes are text too."""
    canvas.page.get_by_text(MORE).first.click()
    for title in titles:
        named = canvas.page.get_by_text(title).filter(visible=True)
        canvas.until(lambda named=named: named.count() > canvas.vue, True)


@pytest.mark.parametrize(
    ("change", "titles", "words"),
    [
        (CIRCLE, ["Extend backwards", "Extend forwards"], "circular|cycle"),
        (OUTSIDE, ["Clip of another"], "Invalid input|Custom validation failed"),
    ],
    ids=["circle", "outside"],
)
def test_what_cannot_run_is_told_at_its_nodes(canvas, edited, change, titles, words):
    assert edited("extend_chain", change).startswith("refused")
    assert sorted(canvas.page.evaluate(MARKED)) == titles
    assert_named(canvas, titles)
    told = canvas.page.get_by_text(re.compile(words, re.IGNORECASE)).filter(visible=True)
    told.first.wait_for(timeout=1000 * SOON)


def test_a_file_name_that_leads_out_of_the_folder_is_told_by_its_node(canvas, edited):
    assert edited("text_to_video", PREFIX).startswith("error")
    assert_named(canvas, ["Save it elsewhere"])
