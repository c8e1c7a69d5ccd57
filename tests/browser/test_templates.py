"""Every template and blueprint on a real canvas: it opens, means the same, runs and comes back."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import pytest

from .conftest import READY, ROOT, VIEW

NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))
IN_BOTH_RENDERERS = {"text_to_video", "extend", "patches"}
UNKNOWN = """() => app.graph._nodes.map(node => node.type).filter(
    type => !(type in LiteGraph.registered_node_types))"""
BOXES = """() => app.graph._nodes.map(node => [node.title, node.pos[0], node.pos[1] - 30,
    node.pos[0] + node.size[0], node.pos[1] + node.size[1]])"""
PROMPT = "async () => (await app.graphToPrompt()).output"


def read(path: str) -> dict:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def show(canvas, graph: dict) -> None:
    canvas.load(graph)
    canvas.page.wait_for_timeout(600)


def untitled(prompt: dict) -> dict:
    """A prompt without titles, which name core's nodes as each host does."""
    return {id: {k: v for k, v in node.items() if k != "_meta"} for id, node in prompt.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_and_means_what_run_py_says(canvas, name):
    if canvas.vue and name not in IN_BOTH_RENDERERS:
        pytest.skip("one renderer is enough for this template")
    show(canvas, read(f"workflows/{name}.json"))
    assert canvas.page.evaluate(UNKNOWN) == []
    prompt = canvas.page.evaluate(PROMPT)
    assert untitled(prompt) == untitled(read(f"workflows/api/{name}.json"))
    if not canvas.vue:
        boxes = canvas.page.evaluate(BOXES)
        assert overlaps(boxes) == []


def overlaps(boxes: list) -> list[tuple[str, str]]:
    """Titles of nodes that lie on each other at the sizes that the canvas gives them."""
    found = []
    for i, (title, left, top, right, bottom) in enumerate(boxes):
        for other, x0, y0, x1, y1 in boxes[:i]:
            if left < x1 and x0 < right and top < y1 and y0 < bottom:
                found.append((title, other))
    return found


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_opens_as_one_node_and_unfolds_in_the_prompt(canvas, name):
    blueprint = read(f"subgraphs/{name}.json")
    (inner,) = blueprint["definitions"]["subgraphs"]
    show(canvas, blueprint)
    assert canvas.page.evaluate("() => app.graph._nodes.length") == 1
    assert canvas.page.evaluate("() => app.graph._nodes[0].has_errors ?? false") is False
    promoted = canvas.page.evaluate("() => app.graph._nodes[0].widgets.map(one => one.name)")
    assert len(promoted) == len(blueprint["nodes"][0]["properties"]["proxyWidgets"])
    prompt = canvas.page.evaluate(PROMPT)
    kinds = sorted(node["class_type"] for node in prompt.values())
    assert kinds == sorted(node["type"] for node in inner["nodes"])


def test_a_run_ends_in_a_video_which_brings_its_graph_back(canvas):
    """Queue, finish, show; then the saved mp4 dropped on an empty canvas."""
    page, graph = canvas.page, read("workflows/text_to_video.json")
    nodes = {node["type"]: node for node in graph["nodes"]}
    nodes["PatchDiT_LoadBlockworld"]["widgets_values"] = ["tiny"]
    nodes["PatchDiT_FlowSigmas"]["widgets_values"][0] = 2
    show(canvas, graph)
    before = canvas.unsized_nodes()
    page.evaluate("() => { app.nodeOutputs = {}; app.queuePrompt(0, 1); }")
    shown = "() => Object.values(app.nodeOutputs).flatMap(one => one.images ?? [])"
    page.wait_for_function(f"({shown})().length > 0", timeout=180_000)
    (file,) = page.evaluate(shown)
    assert file["filename"].endswith(".mp4")
    page.wait_for_selector("video", state="attached", timeout=20_000)
    page.evaluate("() => app.graph.clear()")
    page.evaluate(
        """async file => {
            const where = new URLSearchParams(file);
            const saved = await (await fetch(`/api/view?${where}`)).blob();
            await app.handleFile(new File([saved], file.filename, { type: "video/mp4" }));
        }""",
        file,
    )
    page.wait_for_function("count => app.graph._nodes.length === count", arg=len(before))
    page.wait_for_timeout(500)
    restored = canvas.unsized_nodes()
    saved = ("id", "type", "widgets_values")
    assert [[n.get(key) for key in saved] for n in restored] == [
        [n.get(key) for key in saved] for n in before
    ]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_names_are_in_the_language_of_the_canvas(address, chromium, language):
    headers = {"Content-Type": "application/json"}
    settings = f"{address}/api/settings"
    told = json.dumps({"Comfy.Locale": language, "Comfy.TutorialCompleted": True}).encode()
    urlopen(Request(settings, told, headers), timeout=30).close()
    page = chromium.new_page(viewport=VIEW)
    try:
        page.goto(address)
        page.wait_for_function(READY, timeout=120_000)
        for name in ("text_to_video", "extend"):
            page.evaluate("graph => app.loadGraphData(graph)", read(f"workflows/{name}.json"))
            page.wait_for_timeout(500)
            assert page.evaluate(UNKNOWN) == []
        words = read("locales/zh/nodeDefs.json")
        told = {"en": "Extend Video", "zh": words["PatchDiT_ExtendVideo"]["display_name"]}
        title = "() => LiteGraph.registered_node_types.PatchDiT_ExtendVideo.title"
        assert page.evaluate(title) == told[language]
    finally:
        page.close()
        urlopen(Request(settings, b'{"Comfy.Locale": "en"}', headers), timeout=30).close()
