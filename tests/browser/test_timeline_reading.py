"""What a timeline makes of a graph: any values, muted nodes, subgraphs, files that change."""

from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest

from .test_timeline import BOARD, EXTEND, SHOT, SHOTS, STITCH, labels

FPS = 8
UNKNOWN = "length unknown"
TICKS = "() => document.querySelectorAll('.patchdit-tick').length"
TOTAL = ".patchdit-total"
MODE = """([kind, mode]) => {
    app.graph._nodes.filter(one => one.comfyClass === kind)[1].mode = mode;
}"""
WIDEN = """kind => {
    app.graph._nodes.find(one => one.comfyClass === kind).setSize([1e6, 700]);
    app.canvas.setDirty(true, true);
}"""
SUBGRAPH = """([kinds, copies]) => {  // of the nodes of these kinds; look into it, or stay outside
    const inside = app.graph._nodes.filter(one => kinds.includes(one.comfyClass));
    const { subgraph, node } = app.graph.convertToSubgraph(new Set(inside));
    for (let copy = 1; copy < copies; copy++) app.graph.add(node.clone());
    if (kinds.includes("PatchDiT_Storyboard")) app.canvas.setGraph(subgraph);
}"""
UPLOAD = """async ([name, data]) => {
    const form = new FormData();
    const bytes = Uint8Array.from(atob(data), one => one.charCodeAt(0));
    form.append("image", new File([bytes], name, { type: "video/mp4" }));
    form.append("overwrite", "true");
    const answer = await app.api.fetchApi("/upload/image", { method: "POST", body: form });
    window.dispatchEvent(new Event("focus"));  // as when one comes back from another program
    return answer.status;
}"""
LOAD_VIDEO = """([kind, name]) => {
    const node = app.graph._nodes.find(one => one.comfyClass === kind);
    const load = LiteGraph.createNode("LoadVideo");
    load.pos = [node.pos[0] - 400, node.pos[1]];
    app.graph.add(load);
    load.widgets.find(one => one.name === "file").value = name;
    load.connect(0, node, node.inputs.findIndex(one => one.name === "video"));
}"""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1e12, "600 s"),  # the widget's largest
        (1e300, "600 s"),
        (-5, "0.05 s"),
        ("abc", UNKNOWN),
        (None, UNKNOWN),
        (float("nan"), UNKNOWN),
        ([2], UNKNOWN),
    ],
)
def test_a_length_of_any_kind_is_within_the_widgets_limits_or_unknown(canvas, seconds, said):
    canvas.open("storyboard", BOARD)
    canvas.set(SHOT, "seconds", seconds)
    canvas.set(SHOT, "prompt", 5, 1)
    words = [f"1  moves right in a meadow, {said}", "2  5, 2 s", *SHOTS[2:]]
    canvas.until(lambda: labels(canvas), words)
    assert canvas.page.evaluate(TICKS) <= 101
    total = canvas.page.locator(TOTAL).inner_text()
    assert total == ("more than 6 s" if said == UNKNOWN else f"{float(said[:-2]) + 6:g} s")
    edge = canvas.page.locator(".patchdit-edge-right").first
    assert edge.is_hidden() is (said == UNKNOWN)  # nothing to pull at


def test_a_ruler_longer_than_its_ticks_has_few_of_them(canvas):
    """A node wider than any screen, and a length that no tick was made for."""
    canvas.open("storyboard", BOARD)
    for place in range(4):
        canvas.set(SHOT, "seconds", 600, place)
    canvas.until(lambda: canvas.page.locator(TOTAL).inner_text(), "2400 s")
    assert 2 < canvas.page.evaluate(TICKS) <= 101
    canvas.page.evaluate(WIDEN, BOARD)
    canvas.until(lambda: canvas.page.evaluate(TICKS), 101)


def test_a_transform_of_unknown_length_leaves_the_clips_unknown(canvas):
    canvas.open("stitch", STITCH)
    canvas.set(STITCH, "seconds", "long")
    words = [f"{label}, {UNKNOWN}" for label in ("A", "A becomes B", "B")]
    canvas.until(lambda: labels(canvas), words)
    assert canvas.page.locator(TOTAL).inner_text() == UNKNOWN


def test_a_cut_beyond_the_end_keeps_the_clip(canvas):
    canvas.open("extend", EXTEND)
    canvas.set(EXTEND, "from_frame", 10**9)
    canvas.until(lambda: labels(canvas)[0], "clip to frame 1000000, 2 s")


@pytest.mark.parametrize(("mode", "shown"), [(2, ["1", "2"]), (4, ["1", "2", "3"])])
def test_shots_before_a_muted_one_are_not_filmed_and_a_bypassed_one_is_left_out(
    canvas, mode, shown
):
    canvas.open("storyboard", BOARD)
    canvas.page.evaluate(MODE, [SHOT, mode])
    canvas.until(lambda: [one.split("  ")[0] for one in labels(canvas)], shown)
    sent = canvas.page.evaluate("() => app.graphToPrompt()")["output"]
    shot = next(one for one in sent.values() if one["class_type"] == BOARD)["inputs"]["shots"]
    filmed = 0
    while shot:
        filmed += 1
        shot = sent[shot[0]]["inputs"].get("previous")
    assert filmed == len(shown)


@pytest.mark.parametrize(("kinds", "copies"), [([BOARD], 1), ([SHOT], 1), ([SHOT], 2)])
def test_shots_on_the_other_side_of_a_subgraphs_edge(canvas, kinds, copies):
    canvas.open("storyboard", BOARD)
    canvas.page.evaluate(SUBGRAPH, [kinds, copies])
    canvas.settle()
    canvas.until(lambda: labels(canvas), SHOTS)


def test_a_subgraph_used_twice_may_be_given_any_shots(canvas):
    canvas.open("storyboard", BOARD)
    canvas.page.evaluate(SUBGRAPH, [[BOARD], 2])
    canvas.settle()
    canvas.until(lambda: labels(canvas), [f"shots from elsewhere, {UNKNOWN}"])
    assert canvas.page.locator(TOTAL).inner_text() == UNKNOWN


def test_a_file_that_was_not_there_or_becomes_another_is_measured_again(canvas, request):
    """By its name in the input folder, and by the same as hosts write it with the folder's."""
    name = f"{request.node.callspec.id}.mp4"
    canvas.open("extend", EXTEND)
    canvas.page.evaluate(LOAD_VIDEO, [EXTEND, name])
    canvas.until(lambda: labels(canvas)[0], f"clip, {UNKNOWN}")
    for frames, said in ((2 * FPS, "clip, 2 s"), (6 * FPS, "clip, 6 s")):
        assert canvas.page.evaluate(UPLOAD, [name, clip(frames)]) == 200
        canvas.until(lambda: labels(canvas)[0], said)
    canvas.set("LoadVideo", "file", f"{name} [input]")
    canvas.until(lambda: labels(canvas)[0], "clip, 6 s")
    canvas.set("LoadVideo", "file", f"{name} [output]")
    canvas.until(lambda: labels(canvas)[0], f"clip, {UNKNOWN}")


def clip(frames: int) -> str:
    """A video of grey frames, FPS in a second, as base64."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=FPS)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return base64.b64encode(file.getvalue()).decode()
