"""Every template and blueprint on a real canvas: it opens, means the same, runs and comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.util import find_spec

import pytest

from ..host.template_files import QUICK, with_small_text_encoder
from .page import ROOT, ask, keep_picture, opened

NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
RELEASED = sorted((ROOT / "tests" / "released").glob("*/*.json"))
BLUEPRINTS = sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))
WAN = [name for name in NAMES if name.startswith("wan_")]
RUNS = [name for name in NAMES if name not in WAN]
SHORT = {"merge_patches": {"text": "a red ball"}}  # the tiny weights read 16 tokens
UPSCALES = "restyle_extend_upscale"
WINDOW = {"width": 1600, "height": 900}
NOTE = "How to use this · 使用说明"
LEGIBLE = 0.4  # of the size of a node: its words can still be read
IN_BOTH_RENDERERS = {"text_to_video", "extend", "patches"}
UNKNOWN = """() => app.graph._nodes.map(node => node.type).filter(
    type => !(type in LiteGraph.registered_node_types))"""
PREVIEW = "video-preview"  # some frontends send it with Load Video, where its file is there
# title, left, top, right and bottom of every node, as large as its renderer draws it
BOXES = """() => app.graph._nodes.map(node => {
    const { scale } = app.canvas.ds;
    const drawn = document.querySelector(`.lg-node[data-node-id="${node.id}"]`);
    const [width, height] = drawn
        ? [drawn.getBoundingClientRect().width / scale,
            drawn.getBoundingClientRect().height / scale - 30]
        : node.size;
    const [x, y] = node.pos;
    return [node.title, x, y - 30, x + width, y + height].map(
        value => typeof value === "number" ? Math.round(value) : value);
})"""
GROUPS = """() => app.graph._groups.map(({ title, pos, size }) =>
    [title, pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]])"""
WIDE = """() => {  // groups whose box ends before their title does
    const pen = document.createElement("canvas").getContext("2d");
    return app.graph._groups.filter(group => {
        pen.font = `${group.font_size}px Arial`;
        return pen.measureText(group.title).width > group.size[0] - 8;
    }).map(group => group.title);
}"""
UNSEEN = """() => app.graph._nodes.filter(one => one.type === "MarkdownNote").map(note => {
    const drawn = document.querySelector(`.lg-node[data-node-id="${note.id}"]`);
    const text = drawn ? drawn.querySelector(".comfy-markdown-content")
        : note.widgets[0].element.querySelector(".ProseMirror");
    const box = (drawn ?? note.widgets[0].element).getBoundingClientRect();
    return text.lastElementChild.getBoundingClientRect().bottom - box.bottom;
}).filter(below => below > 1)"""
DIFFERENT = """([family, characters]) => new Set([...characters].map(character => {
    const pen = new OffscreenCanvas(40, 40).getContext("2d");
    pen.font = `30px ${family}`;
    pen.fillText(character, 5, 33);
    return String(pen.getImageData(0, 0, 40, 40).data);
})).size"""
SHOW_ALL = "() => app.extensionManager.command.execute('Comfy.Canvas.FitView')"
UNSAVED = """() => app.graph._nodes.filter(node => node.type === "SaveVideo"
    && !app.nodeOutputs[node.id]?.images?.length).map(node => node.title)"""
PLAYING = "() => [...document.querySelectorAll('video')].some(one => one.videoWidth > 0)"
PROMPT = "async () => (await app.graphToPrompt()).output"


def read(path: str) -> dict:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def meaning(prompt: dict) -> dict:
    """A prompt without titles, which name core's nodes as each host does, nor preview widgets."""
    return {
        id: {
            "class_type": node["class_type"],
            "inputs": {k: v for k, v in node["inputs"].items() if k != PREVIEW},
        }
        for id, node in prompt.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_and_means_what_run_py_says(canvas, name):
    page = canvas.page
    canvas.load(read(f"workflows/{name}.json"))
    assert page.evaluate(UNKNOWN) == []
    prompt = page.evaluate(PROMPT)
    assert meaning(prompt) == meaning(read(f"workflows/api/{name}.json"))
    canvas.fit()
    boxes, groups = page.evaluate(BOXES), page.evaluate(GROUPS)
    assert overlaps(boxes) == [] and overlaps(groups) == []
    alone = [title for title, *box in boxes if not any(holds(one, box) for _, *one in groups)]
    assert alone == [NOTE]
    assert page.evaluate(WIDE) == [] and page.evaluate(UNSEEN) == []


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_released_workflow_still_means_what_it_did(canvas, path):
    """Inputs that were added since are there too, with their defaults."""
    if canvas.vue and path.stem not in IN_BOTH_RENDERERS:
        pytest.skip("one renderer is enough for this workflow")
    canvas.load(json.loads(path.read_text(encoding="utf-8")))
    assert canvas.page.evaluate(UNKNOWN) == []
    now = meaning(canvas.page.evaluate(PROMPT))
    then = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    assert now.keys() == then.keys()
    for id, node in meaning(then).items():
        assert now[id]["class_type"] == node["class_type"]
        assert now[id]["inputs"] | node["inputs"] == now[id]["inputs"]


def holds(outer: list[float], inner: list[float]) -> bool:
    left, top, right, bottom = inner
    return outer[0] <= left and outer[1] <= top and right <= outer[2] and bottom <= outer[3]


def overlaps(boxes: list) -> list[tuple[str, str]]:
    """Titles of nodes, or groups, that lie on each other at the sizes that the canvas gives."""
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
    canvas.load(blueprint)
    assert canvas.page.evaluate("() => app.graph._nodes.length") == 1
    assert canvas.page.evaluate("() => app.graph._nodes[0].has_errors ?? false") is False
    promoted = canvas.page.evaluate("() => app.graph._nodes[0].widgets.map(one => one.name)")
    assert len(promoted) == len(blueprint["nodes"][0]["properties"]["proxyWidgets"])
    prompt = canvas.page.evaluate(PROMPT)
    kinds = sorted(node["class_type"] for node in prompt.values())
    assert kinds == sorted(node["type"] for node in inner["nodes"])


def test_a_blueprint_runs(canvas):
    """Between a loader and a Save Video, its widgets set from outside."""
    if canvas.vue:
        pytest.skip("one renderer is enough to run a blueprint")
    canvas.load(read("subgraphs/Text to Video (PatchDiT).json"))
    canvas.page.evaluate(
        """() => {
            const [blueprint] = app.graph._nodes;
            const [model, save] = ["PatchDiT_LoadBlockworld", "SaveVideo"].map(kind => {
                const node = LiteGraph.createNode(kind);
                app.graph.add(node);
                return node;
            });
            model.pos = [blueprint.pos[0] - 400, blueprint.pos[1]];
            save.pos = [blueprint.pos[0] + 400, blueprint.pos[1]];
            for (const [slot, name] of ["model", "clip", "vae"].entries())
                model.connect(slot, blueprint, blueprint.findInputSlot(name));
            blueprint.connect(0, save, save.findInputSlot("video"));
        }"""
    )
    assert canvas.run(seconds=1, text="a red ball") == "success"
    prompt = canvas.page.evaluate(PROMPT)
    inner = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert inner["PatchDiT_FlowSigmas"]["steps"] == 2
    assert inner["PatchDiT_EmptyVideoLatent"]["seconds"] == 1
    assert len(canvas.files()) == 1
    canvas.page.wait_for_function(PLAYING)


def test_folded_inputs_are_seen_when_asked_for(canvas):
    """The Vue renderer folds them away; the classic one shows all."""
    if not canvas.vue:
        pytest.skip("the classic renderer folds nothing away")
    known = "() => app.extensionManager.setting.get('Comfy.Node.AlwaysShowAdvancedWidgets')"
    if canvas.page.evaluate(known) is None:
        pytest.skip("this frontend folds nothing away")
    canvas.load(read("workflows/text_to_video.json"))
    canvas.fit()
    place = "() => app.graph._nodes.find(one => one.type === 'PatchDiT_StartDenoising').id"
    node = canvas.page.locator(f'.lg-node[data-node-id="{canvas.page.evaluate(place)}"]')
    folded, plain = {"solver", "seeds", "boundary"}, {"seed", "cfg"}
    shown = set(node.inner_text().split("\n"))
    assert plain <= shown and not folded & shown
    node.get_by_text("Show advanced inputs").click()
    canvas.settle()
    assert plain | folded <= set(node.inner_text().split("\n"))


@pytest.mark.parametrize("name", RUNS)
def test_a_template_runs_and_shows_its_video(canvas, request, name):
    """From the queue to a video that plays on a node, and one on every other that saves."""
    if canvas.vue and name not in IN_BOTH_RENDERERS:
        pytest.skip("one renderer is enough for this template")
    canvas.load(read(f"workflows/{name}.json"))
    saved = kept(canvas.unsized_nodes())
    canvas.load(canvas.serialized())
    assert kept(canvas.unsized_nodes()) == saved  # opened, saved and opened again
    canvas.fit()
    assert canvas.run(**SHORT.get(name, {})) == "success"
    assert canvas.files()
    whole = request.node.callspec.params["address"] == "comfyui" or find_spec("spandrel")
    missing = ["Save the large video"] if name == UPSCALES and not whole else []
    assert canvas.page.evaluate(UNSAVED) == missing
    canvas.page.wait_for_function(PLAYING)


def kept(nodes: list[dict]) -> list[dict]:
    """Saved nodes without the way that core's Preview Any shows text, which some frontends lose."""
    return [
        {k: v for k, v in node.items() if k != "widgets_values" or node["type"] != "PreviewAny"}
        for node in nodes
    ]


@pytest.mark.parametrize("name", WAN)
def test_a_wan_template_runs_on_a_real_comfyui(stocked_comfyui, chromium, name):
    """Its files are tiny, and the text encoder another one."""
    with opened(chromium, stocked_comfyui.url) as canvas:
        canvas.load(with_small_text_encoder(read(f"workflows/{name}.json")))
        assert canvas.page.evaluate(UNKNOWN) == []
        canvas.fit()
        assert canvas.run(**QUICK) == "success"
        assert canvas.page.evaluate(UNSAVED) == [] and len(canvas.files()) == 1
        canvas.page.wait_for_function(PLAYING)
        canvas.settle()
        assert overlaps(canvas.page.evaluate(BOXES)) == []  # what was loaded is told in its node
        keep_picture(canvas, name)
        assert canvas.complaints == []


def test_every_template_can_be_read_as_a_whole(address, chromium):
    """In a window of usual size, by the canvas's own way of showing all of a graph."""
    small = {}
    with opened(chromium, address, window=WINDOW) as canvas:
        for name in NAMES:
            canvas.load(read(f"workflows/{name}.json"))
            canvas.page.evaluate(SHOW_ALL)
            canvas.settle()
            keep_picture(canvas, f"whole_{name}")
            scale = canvas.page.evaluate("() => app.canvas.ds.scale")
            if scale < LEGIBLE:
                small[name] = scale
    assert small == {}


def test_a_saved_video_brings_its_graph_back(canvas):
    """Dropped on an empty canvas."""
    page = canvas.page
    canvas.load(read("workflows/text_to_video.json"))
    assert canvas.run(seed=5) == "success"
    before = canvas.unsized_nodes()
    (file,) = canvas.files()
    page.evaluate("() => app.graph.clear()")
    page.evaluate(
        """async file => {
            const where = new URLSearchParams(file);
            const saved = await (await fetch(`/api/view?${where}`)).blob();
            const carried = new DataTransfer();
            carried.items.add(new File([saved], file.filename, { type: "video/mp4" }));
            const told = { bubbles: true, cancelable: true, dataTransfer: carried };
            document.querySelector("canvas").dispatchEvent(new DragEvent("drop", told));
        }""",
        file,
    )
    page.wait_for_function("count => app.graph._nodes.length === count", arg=len(before))
    canvas.settle()
    saved = ("id", "type", "widgets_values", "inputs")
    restored = [[node.get(key) for key in saved] for node in canvas.unsized_nodes()]
    assert restored == [[node.get(key) for key in saved] for node in before]


def has_chinese_font() -> bool:
    """As fontconfig tells; the pictures that tests keep show boxes where there is none."""
    command = ["fc-list", ":lang=zh"]
    return shutil.which(command[0]) is not None and bool(
        subprocess.run(command, capture_output=True, check=False).stdout
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_canvas_speaks_a_language_and_runs_in_it(address, chromium, language):
    words = read("locales/zh/nodeDefs.json")
    named = {"en": "Extend Video", "zh": words["PatchDiT_ExtendVideo"]["display_name"]}
    view = {"en": ("Timeline", "clip, 2 s"), "zh": ("时间轴", "片段, 2 秒")}
    with opened(chromium, address, language=language) as canvas:
        page = canvas.page
        canvas.open("extend", "PatchDiT_ExtendVideo")
        assert page.evaluate(UNKNOWN) == []
        title = "() => app.graph._nodes.find(one => one.type === 'PatchDiT_ExtendVideo').title"
        assert page.evaluate(title) == named[language]
        heading, clip = view[language]
        assert page.locator(".patchdit-heading").inner_text().startswith(heading)
        if language == "zh" and has_chinese_font():
            family = "el => getComputedStyle(el).fontFamily"
            said = [page.locator(".patchdit-heading").evaluate(family), "时间轴画笔镜头"]
            assert page.evaluate(DIFFERENT, said) == 7  # boxes for want of a glyph are all alike
        segment = page.locator(".patchdit-segment").first
        canvas.until(lambda: segment.get_attribute("aria-label"), clip)
        assert canvas.run() == "success" and canvas.files()
        keep_picture(canvas, f"language_{language}")
        assert canvas.complaints == []
    ask(address, "/api/settings", {"Comfy.Locale": "en"})
