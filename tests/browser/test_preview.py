"""While a node denoises its whole clip plays on it; a button ends the run there, for this time."""

from __future__ import annotations

import base64
import json
import secrets

import cv2
import numpy as np
import pytest

from .page import ROOT

FINISH, STEP, EXTEND, BOARD = (
    f"PatchDiT_{name}" for name in ("FinishDenoising", "DenoiseStep", "ExtendVideo", "Storyboard")
)
CLIP, PICTURE, STOP = ".patchdit-clip", ".patchdit-clip-picture", ".patchdit-clip-stop"
STEPS = 1000
# far more than a test waits for, even where nothing else runs
LONG = {"steps": STEPS, "width": 96, "height": 96, "length_in": "seconds", "seconds": 6}
LONGER = {"width": 256, "height": 256}  # so that it goes on for some more pictures
LISTEN = """() => {
    Object.assign(window, { heard: [], sent: [], cores: [], asked: false });
    const { api } = app;
    for (const kind of ["success", "error", "interrupted", "cached"])
        api.addEventListener(`execution_${kind}`, ({ detail }) => heard.push([kind, detail]));
    api.addEventListener("patchdit.preview", ({ detail }) => sent.push(detail));
    api.addEventListener("b_preview", ({ detail }) => cores.push(detail));
    app.extensionManager.setting.set("Comfy.Execution.PreviewMethod", "latent2rgb");
}"""
IN_KSAMPLER = """() => {
    const of = kind => app.graph._nodes.find(one => one.comfyClass === `PatchDiT_${kind}`);
    const old = ["FlowSigmas", "StartDenoising", "FinishDenoising"].map(of);
    const [, start, finish] = old, sampler = LiteGraph.createNode("KSampler");
    sampler.pos = [...start.pos];
    sampler.widgets.find(one => one.name === "control_after_generate").value = "fixed";
    app.graph.add(sampler);
    for (const name of ["model", "positive", "negative", "latent"]) {
        const slot = start.inputs.findIndex(one => one.name === name);
        const place = sampler.inputs.findIndex(one => one.name.startsWith(name));
        start.getInputNode(slot).connect(start.getInputLink(slot).origin_slot, sampler, place);
    }
    for (const reader of finish.getOutputNodes(0))
        sampler.connect(0, reader, reader.inputs.findIndex(one => one.type === "LATENT"));
    old.forEach(one => app.graph.remove(one));
}"""
CORES = """id => {
    const images = app.graph.getNodeById(id).imgs ?? [];
    const shown = document.querySelectorAll(`[data-node-id="${id}"] img`);
    return [images.length, shown.length, Object.keys(app.nodePreviewImages).length];
}"""  # pictures of core's own on a node: in the classic renderer, in the Vue renderer, on any
OPEN = "([graph, name]) => app.loadGraphData(graph, true, true, name)"  # in a tab of its own
GO_BACK = "() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')"
WIDGETS = """id => {
    const node = app.graph.getNodeById(id);
    return [node.type, [...node.size], node.widgets.map(one => one.name)];
}"""
ON_NODE = "id => sent.some(one => one.image && String(one.node) === id)"
ENDED = "() => heard.some(([kind]) => kind !== 'cached')"


@pytest.fixture
def running(canvas):
    """`running()`: a template queued with far too many steps, its clip playing on a node.

    Each time with another seed: a run that was stopped is gone on with, wherever it was asked for.
    """
    page = canvas.page
    if not page.evaluate("() => 'heard' in window"):
        page.evaluate(LISTEN)
    page.evaluate("() => { asked = false; }")

    def run(
        template="text_to_video", kind=FINISH, first_steps=STEPS, change="", **more
    ) -> list[dict]:
        canvas.load(workflow(template))
        if change:
            page.evaluate(change)
        page.evaluate(
            """quick => {
                for (const node of app.graph._nodes)
                    for (const widget of node.widgets ?? [])
                        if (widget.name in quick) widget.value = quick[widget.name];
                const first = kind => app.graph._nodes.find(one => one.comfyClass === kind);
                const node = first(quick.kind), sigmas = first("PatchDiT_FlowSigmas");
                if (sigmas) sigmas.widgets[0].value = quick.first_steps;
                const offset = [120 - node.pos[0], 80 - node.pos[1]];
                Object.assign(app.canvas.ds, { scale: 1, offset });
            }""",
            {**LONG, **more, "weights": "tiny", "kind": kind, "first_steps": first_steps}
            | {"seed": secrets.randbelow(2**32)},
        )
        canvas.settle()
        before = canvas.unsized_nodes()
        queue(canvas)
        return before

    yield run
    if page.evaluate("() => asked"):
        page.evaluate("() => app.api.interrupt()")
        page.wait_for_function(ENDED)


def queue(canvas) -> None:
    """Queue the graph as it is, and wait until its clip plays."""
    canvas.page.evaluate(
        """() => {
            heard.length = sent.length = cores.length = 0, asked = true;
            for (const node of app.graph._nodes)
                for (const widget of node.widgets ?? [])
                    if (widget.name === "control_after_generate") widget.value = "fixed";
            app.queuePrompt(0, 1);
        }"""
    )
    canvas.page.wait_for_selector(f"{PICTURE}:visible")
    canvas.page.wait_for_function("() => sent.some(one => one.image)")


def hear_more(canvas) -> None:
    """Wait for one more picture, which comes whatever workflow is open."""
    canvas.page.evaluate("() => { sent.length = 0; }")
    canvas.page.wait_for_function("() => sent.some(one => one.image)")
    canvas.page.wait_for_timeout(300)  # for as long as it would take to be drawn


def size_of(canvas, kind: str = FINISH) -> list[float]:
    """The saved size of the first node of a kind."""
    found = next(node for node in canvas.serialized()["nodes"] if node["type"] == kind)
    return list(found["size"])


def end_of(canvas) -> str:
    canvas.page.wait_for_function(ENDED)
    return canvas.page.evaluate("() => heard.find(([kind]) => kind !== 'cached')[0]")


def node_id(canvas, kind: str = FINISH) -> str:
    """The id of the first node of a kind."""
    return canvas.page.evaluate(
        "kind => String(app.graph._nodes.find(one => one.comfyClass === kind).id)", kind
    )


def test_the_whole_clip_plays_on_the_node_while_it_runs(canvas, running):
    before = running()
    page = canvas.page
    told = page.evaluate("() => sent.filter(one => one.image).at(-1)")
    assert told["node"] == node_id(canvas) and told["total"] == STEPS
    data = base64.b64decode(told["image"].partition(",")[2])
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert sheet is not None
    rows = -(-told["frames"] // told["columns"])
    assert told["frames"] > 1
    assert sheet.shape == (rows * told["height"], told["columns"] * told["width"], 3)
    frame = page.locator(PICTURE).get_attribute("data-frame")
    moved = f"frame => document.querySelector('{PICTURE}').dataset.frame !== frame"
    page.wait_for_function(moved, arg=frame)
    assert page.locator(".patchdit-clip-step").inner_text().endswith(f" of {STEPS}")
    clip, node = canvas.box(CLIP), canvas.box(PICTURE)
    assert node["width"] > 100 and clip["height"] >= node["height"]
    page.evaluate("() => app.api.interrupt()")
    assert end_of(canvas) == "interrupted"
    page.wait_for_selector(CLIP, state="hidden")
    assert canvas.unsized_nodes() == before


def test_stop_here_goes_on_with_the_prediction_and_is_not_kept(canvas, running):
    """By the keyboard; queued again the node runs anew, from the step that it was stopped at."""
    running()
    page = canvas.page
    page.locator(STOP).focus()
    page.keyboard.press("Enter")
    assert end_of(canvas) == "success"
    page.wait_for_selector(CLIP, state="hidden")
    last = page.evaluate("() => sent.at(-1).step")
    assert 0 < last < STEPS
    queue(canvas)
    first = page.evaluate("() => sent.find(one => one.image).step")
    assert last < first < STEPS
    cached = page.evaluate("() => heard.filter(([kind]) => kind === 'cached').at(-1)[1].nodes")
    assert node_id(canvas) not in cached
    page.locator(STOP).click()
    assert end_of(canvas) == "success"


@pytest.mark.parametrize(
    ("template", "kind", "first_steps"),
    [("steps", STEP, STEPS), ("extend", EXTEND, 2), ("storyboard", BOARD, STEPS)],
)
def test_every_node_that_denoises_plays_and_stops(canvas, running, template, kind, first_steps):
    """`first_steps` of the clip that the verb is given."""
    running(template, kind, first_steps)
    page = canvas.page
    page.wait_for_function(ON_NODE, arg=node_id(canvas, kind))
    told = page.evaluate("() => sent.filter(one => one.image).at(-1)")
    assert told["frames"] > 1 and told["total"] == STEPS
    picture = page.locator(f"{PICTURE}:visible")
    frame = picture.get_attribute("data-frame")
    canvas.until(lambda: picture.get_attribute("data-frame") == frame, False)
    page.locator(f"{STOP}:visible").click()
    assert end_of(canvas) == "success"
    page.wait_for_selector(f"{CLIP}:visible", state="detached")
    last = page.evaluate("id => sent.findLast(one => one.node === id).step", told["node"])
    assert 0 < last < STEPS


def test_cores_sampler_plays_the_clip_in_place_of_its_first_frame(canvas, running):
    """Without the button: a node of core's that was stopped would be cached as if it were whole."""
    page = canvas.page
    if not page.evaluate("() => 'KSampler' in LiteGraph.registered_node_types"):
        pytest.skip("our own canvas has none of core's samplers")
    before = running(kind="KSampler", change=IN_KSAMPLER)
    id = node_id(canvas, "KSampler")
    told = page.evaluate("() => sent.filter(one => one.image).at(-1)")
    assert told["node"] == id and told["frames"] > 1 and told["total"] == STEPS
    picture = page.locator(f"{PICTURE}:visible")
    frame = picture.get_attribute("data-frame")
    canvas.until(lambda: picture.get_attribute("data-frame") == frame, False)
    page.wait_for_function("() => cores.length > 1")
    page.wait_for_timeout(500)  # for as long as it would take to be drawn
    assert page.evaluate(CORES, id) == [0, 0, 0]
    assert page.locator(f"{CLIP} button:visible").all_inner_texts() == ["Pause"]
    assert page.locator(f"{CLIP}:visible .patchdit-clip-step").inner_text().endswith(f" of {STEPS}")
    page.evaluate("() => app.api.interrupt()")
    assert end_of(canvas) == "interrupted"
    page.wait_for_selector(f"{CLIP}:visible", state="detached")
    assert canvas.unsized_nodes() == before


def test_pausing(canvas, running):
    running()
    page = canvas.page
    button = page.locator(f"{CLIP} button").first
    assert button.inner_text() == "Pause"
    button.click()
    page.wait_for_timeout(300)
    frame = page.locator(PICTURE).get_attribute("data-frame")
    page.wait_for_timeout(1500)
    assert page.locator(PICTURE).get_attribute("data-frame") == frame
    assert button.inner_text() == "Play"


@pytest.mark.parametrize("other", ["a note", "the same template"])
def test_the_clip_stays_with_the_workflow_that_was_queued(canvas, running, other):
    """In another one a node of the same id, of whatever kind, is left alone."""
    before = running(**LONGER)
    page = canvas.page
    id, size = node_id(canvas), size_of(canvas)
    graph = note(int(id)) if other == "a note" else workflow("text_to_video")
    page.evaluate(OPEN, [graph, f"{secrets.token_hex(4)}.json"])
    canvas.settle()
    theirs = page.evaluate(WIDGETS, id)
    hear_more(canvas)
    assert page.locator(f"{CLIP}:visible").count() == 0
    assert page.evaluate(WIDGETS, id) == theirs
    page.evaluate(GO_BACK)
    page.wait_for_selector(f"{PICTURE}:visible")
    assert canvas.unsized_nodes() == before
    page.evaluate("() => app.api.interrupt()")
    assert end_of(canvas) == "interrupted"
    page.wait_for_selector(f"{CLIP}:visible", state="detached")
    if not canvas.vue:  # whose nodes are as high as what is in them
        assert size_of(canvas) == size
        assert page.evaluate(WIDGETS, id)[1] == pytest.approx(size)


def test_the_clip_goes_on_after_a_reload(canvas, running):
    running(**LONGER)
    page = canvas.page
    canvas.reload()
    page.evaluate(LISTEN)
    page.evaluate("() => { asked = true; }")
    page.wait_for_selector(f"{PICTURE}:visible")
    page.evaluate(OPEN, [note(int(node_id(canvas))), "another.json"])
    hear_more(canvas)
    assert page.locator(f"{CLIP}:visible").count() == 0
    page.evaluate(GO_BACK)
    page.wait_for_selector(f"{PICTURE}:visible")


def test_a_size_that_was_dragged_in_the_run_is_kept(canvas, running):
    """What is saved is the node without the clip, at any time; in Vue only a width is kept."""
    running(**LONGER)
    page = canvas.page
    wider, higher = 80, 0 if canvas.vue else 70
    size = page.evaluate(
        """([id, wider, higher]) => {
            const node = app.graph.getNodeById(id), saved = node.serialize().size;
            node.setSize([node.size[0] + wider, node.size[1] + higher]);
            return [...saved];
        }""",
        [node_id(canvas), wider, higher],
    )
    hear_more(canvas)
    canvas.settle()
    page.evaluate("() => app.api.interrupt()")
    assert end_of(canvas) == "interrupted"
    page.wait_for_selector(f"{CLIP}:visible", state="detached")
    canvas.settle()
    after = size_of(canvas)
    assert after == pytest.approx([size[0] + wider, size[1] + higher], abs=2)


def workflow(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def note(id: int) -> dict:
    """A workflow of one note."""
    place = {"pos": [200, 200], "size": [200, 100], "flags": {}, "order": 0, "mode": 0}
    node = {"id": id, "type": "Note", **place, "properties": {}, "widgets_values": ["hello"]}
    about = {"id": "11111111-1111-4111-8111-111111111111", "version": 0.4}
    return about | {"last_node_id": id, "last_link_id": 0, "nodes": [node], "links": []}
