"""What goes wrong on a canvas: two browsers at once, a server that dies, files that are broken."""

from __future__ import annotations

import json

import pytest

from .conftest import free_port, own_server
from .page import ROOT, SOON, ask, keep_picture, opened

MANY = 1000  # steps: far more than a test waits for
MENDED = (1, 58)  # the frontend; some before it wait for ever for a file that is no JSON
RUNNING = "() => fetch('/api/queue').then(a => a.json()).then(q => q.queue_running.length)"
BROKEN = {
    "cut off": '{"nodes": [{"id": 1, "type": "PatchDiT_Lo',
    "a list": "[]",
    "nothing": "",
    "no graph": '{"nodes": 3, "links": "none"}',
    "not text": "\x00\xff\x00",
}
CLIP, STOP = ".patchdit-clip:visible", ".patchdit-clip-stop"
LONG = {"steps": MANY, "width": 96, "height": 96, "length_in": "seconds", "seconds": 6}
ADD_VIEW = """async throws => {
    const files = await fetch("/api/extensions").then(answer => answer.json());
    const { addView } = await import(files.find(one => one.endsWith("/dom_view.js")));
    window.told = { refreshed: 0, ended: 0 };
    const node = window.viewed = LiteGraph.createNode("PatchDiT_FinishDenoising");
    const element = document.createElement("div");
    const refresh = () => {
        told.refreshed += 1;
        if (throws) throw new Error("no such thing");
    };
    const end = () => (told.ended += 1);
    addView(node, "of_a_test", { element, height: () => 20, refresh, end });
    document.body.append(element); // a leak counts although nothing shows it
}"""
REFRESHED = "() => [told.refreshed, told.ended]"
UNREAD = "Unable to find workflow in broken.json"
SIZES = "() => app.graph._nodes.map(node => [...node.size])"
BLOCKED = "() => app.extensionManager.spinner"  # nothing can be clicked on
CLOSE_PANEL = "() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)"
DROP = """([text, name]) => {
    const carried = new DataTransfer();
    carried.items.add(new File([text], name, { type: "application/json" }));
    const told = { bubbles: true, cancelable: true, dataTransfer: carried };
    document.querySelector("canvas").dispatchEvent(new DragEvent("drop", told));
}"""


def template(name: str = "text_to_video") -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def is_running(canvas) -> bool:
    return canvas.page.evaluate(RUNNING) > 0


def test_two_browsers_at_once_each_get_their_own_video(address, chromium):
    with opened(chromium, address) as first, opened(chromium, address) as second:
        for canvas, name in ((first, "text_to_video"), (second, "extend")):
            canvas.load(template(name))
        graphs = [first.serialized(), second.serialized()]
        first.queue(weights="tiny", steps=6, filename_prefix="first")
        second.queue(weights="tiny", steps=2, filename_prefix="second")
        assert [first.ended(), second.ended()] == ["success", "success"]
        for canvas, prefix, graph in zip((first, second), ("first", "second"), graphs, strict=True):
            names = [file["filename"] for file in canvas.files()]
            assert names and all(name.startswith(prefix) for name in names)
            kinds = [node["type"] for node in canvas.serialized()["nodes"]]
            assert kinds == [node["type"] for node in graph["nodes"]]
            assert canvas.complaints == []


def test_a_server_that_is_killed_in_a_run_loses_nothing_saved(own_base, chromium):
    """Started again it has the saved workflow; the open canvas keeps its graph and runs it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    kept = "/api/userdata/workflows%2Fmine.json"
    with own_server(own_base, port) as server, opened(chromium, address) as canvas:
        page = canvas.page
        canvas.load(template())
        ask(address, f"{kept}?overwrite=true", canvas.serialized())
        saved = ask(address, kept)
        before, sizes = canvas.unsized_nodes(), page.evaluate(SIZES)
        canvas.queue(weights="tiny", **LONG)
        page.wait_for_selector(CLIP)
        server.kill()
        server.wait()
        page.evaluate("stop => document.querySelector(stop).click()", STOP)
        page.wait_for_timeout(1000)
        assert page.locator(STOP).inner_text() == "Stop here and decode"  # still, or again
        with own_server(own_base, port):
            assert ask(address, kept) == saved == canvas_of(saved)
            reached = "() => fetch('/api/queue').then(answer => answer.ok).catch(() => false)"
            page.wait_for_function(reached)
            page.wait_for_function("() => app.api.socket?.readyState === WebSocket.OPEN")
            page.wait_for_selector(CLIP, state="detached", timeout=1000 * SOON)
            nodes = canvas.unsized_nodes()
            assert [one["type"] for one in nodes] == [one["type"] for one in before]
            assert page.evaluate(SIZES) == sizes
            assert canvas.run(length_in="frames") == "success" and canvas.files()
            keep_picture(canvas, "after_a_kill")
            assert canvas.complaints == []


def canvas_of(workflow: dict) -> dict:
    """The workflow, which has to be a whole one."""
    assert workflow["nodes"] and workflow["links"]
    return workflow


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_dropped_is_told_and_leaves_the_canvas_usable(canvas, kind):
    canvas.load(template())
    nodes = canvas.unsized_nodes()
    canvas.page.evaluate(DROP, [BROKEN[kind], "broken.json"])
    if kind == "a list" or (kind != "no graph" and canvas.frontend() >= MENDED):
        canvas.page.get_by_text(UNREAD).first.wait_for(timeout=1000 * SOON)
    canvas.page.wait_for_timeout(1500)
    canvas.settle()
    if kind != "no graph":  # which the frontend takes for an empty one
        assert canvas.unsized_nodes() == nodes
    if canvas.page.evaluate(BLOCKED) and canvas.frontend() < MENDED:
        canvas.reload()
        assert canvas.unsized_nodes() == nodes
    assert not canvas.page.evaluate(BLOCKED)
    canvas.load(template())
    assert canvas.unsized_nodes() == nodes
    canvas.reload()  # the host's complaints stay on the screen for good


def test_a_node_that_is_gone_is_named_and_the_rest_stays(canvas):
    """A workflow of another version: one node unknown, one widget of which nothing was known."""
    graph = template()
    decode = next(node for node in graph["nodes"] if node["type"] == "PatchDiT_DecodeVideo")
    decode["type"] = "PatchDiT_FromTheFuture"
    sigmas = next(node for node in graph["nodes"] if node["type"] == "PatchDiT_FlowSigmas")
    sigmas["widgets_values"] = [*sigmas["widgets_values"], "a widget of tomorrow"]
    canvas.load(graph)
    page = canvas.page
    more = page.get_by_text("Show missing nodes")  # in an older frontend a click away
    named = page.get_by_text("FromTheFuture")
    named.or_(more).first.wait_for()
    if more.is_visible():
        more.click()
        page.get_by_role("button", name="Expand").last.click()
    named.first.wait_for()
    page.evaluate(CLOSE_PANEL)
    kinds = {node["type"]: node for node in canvas.serialized()["nodes"]}
    assert "PatchDiT_FromTheFuture" in kinds  # saved again it is still there
    assert canvas.widget("PatchDiT_FlowSigmas", "steps") == sigmas["widgets_values"][0]
    page.keyboard.press("Escape")


def test_a_view_lives_as_long_as_its_node_is_in_the_graph(canvas):
    """One of a node that enters no graph, as a copy in the clipboard does not, costs nothing."""
    page = canvas.page
    page.evaluate(ADD_VIEW, False)
    page.wait_for_timeout(500)
    assert page.evaluate(REFRESHED) == [0, 0]
    for ended in (0, 1):  # put back it goes on
        page.evaluate("() => { told.refreshed = 0; app.graph.add(viewed); }")
        page.wait_for_function("() => told.refreshed > 1")
        page.evaluate("() => app.graph.remove(viewed)")
        count = page.evaluate("() => told.refreshed")
        page.wait_for_timeout(500)
        assert page.evaluate(REFRESHED) == [count, ended + 1]
    canvas.load(template())


def test_the_view_of_a_node_in_a_subgraph_ends_with_the_workflow(canvas):
    """Nobody calls `onRemoved` of such a node."""
    page = canvas.page
    page.evaluate(ADD_VIEW, False)
    page.evaluate("() => { app.graph.add(viewed); }")
    page.evaluate("() => { app.graph.convertToSubgraph(new Set([viewed])); }")
    page.wait_for_timeout(500)
    canvas.load(template())
    before = page.evaluate("() => told.refreshed")
    page.wait_for_timeout(500)
    assert page.evaluate("() => told.refreshed") == before


def test_a_view_that_throws_is_told_once_and_holds_no_other_up(canvas):
    page = canvas.page
    page.evaluate(ADD_VIEW, True)
    page.evaluate("() => { app.graph.add(viewed); }")
    page.wait_for_function("() => told.refreshed > 3")
    page.evaluate(ADD_VIEW, False)
    page.evaluate("() => { app.graph.add(viewed); }")
    page.wait_for_function("() => told.refreshed > 3")
    assert len(canvas.complaints) == 1
    assert "PatchDiT_FinishDenoising" in canvas.complaints[0]
    assert "no such thing" in canvas.complaints[0]
    canvas.complaints.clear()
    canvas.load(template())
