"""The shipped workflows: both forms say the same, and every node in them is known."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import av
import pytest
from PIL import Image

from patchdit.nodes import host
from patchdit.standalone.executor import run
from patchdit.standalone.graph import find_problems, read_graph
from patchdit.standalone.host import Session, use_session
from patchdit.standalone.ui_format import to_api_format

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
TEMPLATES = sorted(FOLDER.glob("*.json"))
BLUEPRINTS = sorted((FOLDER.parent / "subgraphs").glob("*.json"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_template_and_api_form_are_the_same_graph(path, node_classes):
    prompt = to_api_format(json.loads(path.read_text(encoding="utf-8")), node_classes)
    for node in prompt.values():  # the canvas names a node in the API form, titled or not
        display_name = node_classes[node["class_type"]].GET_SCHEMA().display_name
        node.setdefault("_meta", {"title": display_name})
    assert prompt == json.loads((FOLDER / "api" / path.name).read_text(encoding="utf-8"))


def test_every_template_has_an_api_form():
    assert [path.name for path in TEMPLATES] == sorted(p.name for p in (FOLDER / "api").iterdir())
    assert TEMPLATES


def test_text_to_video_runs_without_comfyui(node_classes, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "weights_folder", lambda: weights.parent)
    prompt = json.loads((FOLDER / "api" / "text_to_video.json").read_text())
    prompt["1"]["inputs"]["weights"] = weights.name
    prompt["2"]["inputs"]["text"] = "a red ball"
    prompt["5"]["inputs"]["steps"] = 3
    told = []
    session = Session(tmp_path, tmp_path, tmp_path, lambda *step: told.append(step))
    with use_session(session):
        graph = read_graph(prompt, node_classes)
        shown = asyncio.run(run(graph, None, lambda node: None))
    (file,) = shown["9"]["images"]
    with av.open(str(tmp_path / file["subfolder"] / file["filename"])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 17
    assert [step for step in told if step[0] == "7"] == [("7", i, 3) for i in (1, 2, 3)]
    assert [step for step in told if step[0] == "9"][-1] == ("9", 17, 17)


PRODUCTIONS = {  # the side of a frame, the seconds and the frames per second of what each ends in
    "story_in_shots": (64, 20, 8),
    "product_loop": (384, 3, 8),
    "restyle_extend_upscale": (64, 4, 8),  # the small video: an upscale model is the host's matter
}


@pytest.mark.parametrize("name", PRODUCTIONS)
def test_a_production_runs_without_comfyui(name, node_classes, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "weights_folder", lambda: weights.parent)
    prompt = json.loads((FOLDER / "api" / f"{name}.json").read_text())
    for id in [id for id, node in prompt.items() if node["class_type"] == "UpscaleModelLoader"]:
        remove_with_readers(prompt, id)
    for node in prompt.values():
        if "weights" in node["inputs"]:
            node["inputs"]["weights"] = weights.name
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
    with use_session(Session(tmp_path, tmp_path, tmp_path)):
        shown = asyncio.run(run(read_graph(prompt, node_classes)))
    files = [file for node in shown.values() for file in node.get("images", ())]
    (file,) = (file for file in files if file["filename"].endswith(".mp4"))
    side, seconds, fps = PRODUCTIONS[name]
    with av.open(str(tmp_path / file["subfolder"] / file["filename"])) as container:
        (stream,) = container.streams.video
        assert (stream.width, stream.height, stream.average_rate) == (side, side, fps)
        frames = sum(1 for _ in container.decode(stream))
    assert abs(frames - seconds * fps) <= 8


def remove_with_readers(prompt: dict, id: str) -> None:
    """Take a node out of a prompt, and all that is made from it."""
    del prompt[id]
    links = {i: [v[0] for v in n["inputs"].values() if type(v) is list] for i, n in prompt.items()}
    for reader, sources in links.items():
        if id in sources and reader in prompt:
            remove_with_readers(prompt, reader)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_nodes_of_a_template_do_not_overlap(path):
    boxes = [box(node) for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
            assert apart, (a, b)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_nodes_of_a_template_stand_in_a_group_and_left_of_their_readers(path):
    """A template reads from left to right, a wide one row by row; only notes stand alone."""
    template = json.loads(path.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in template["nodes"]}
    rows = {}  # of a node: the top and the bottom of its group
    for node in nodes.values():
        left, top, right, bottom = box(node)
        around = [
            (y, y + h)
            for x, y, w, h in (group["bounding"] for group in template["groups"])
            if x <= left and y <= top and right <= x + w and bottom <= y + h
        ]
        assert len(around) == (node["type"] != "MarkdownNote"), node["type"]
        rows[node["id"]] = around
    for _, source, _, target, _, _ in template["links"]:
        ((_, bottom),), ((top, _),) = rows[source], rows[target]
        assert box(nodes[source])[2] < box(nodes[target])[0] or bottom <= top


def box(node):
    """Left, top, right and bottom of a node, its title bar of 30 pixels included."""
    (left, top), (width, height) = node["pos"], node["size"]
    return left, top - 30, left + width, top + height


HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_is_read_in_english_and_in_chinese(path, node_classes):
    """A node's own name is not saved as a title, which would keep it in English for ever."""
    template = json.loads(path.read_text(encoding="utf-8"))
    for node in template["nodes"]:
        if node["type"] in node_classes:
            name = node_classes[node["type"]].GET_SCHEMA().display_name
            assert node.get("title") != name
    for group in template["groups"]:
        english, chinese = group["title"].split(" · ")
        assert re.match(r"\d ", english) and not HAN.search(english) and HAN.search(chinese)
    (note,) = (node for node in template["nodes"] if node["type"] == "MarkdownNote")
    english, chinese = note["widgets_values"][0].split("\n\n---\n\n")
    assert note["title"] == "How to use this · 使用说明"
    assert not HAN.search(english) and chinese.startswith("## ") and len(HAN.findall(chinese)) > 60


ON_PURPOSE = {  # folded settings that a template does not leave at the node's default, and why
    ("extend_backwards", "seeds"): "it shows three beginnings for one ending",
    ("text_to_video", "solver"): "the first video that anybody sees is the best that 20 steps give",
    ("wan_text_to_video", "solver"): "as Wan's authors sample",
    ("wan_text_to_video", "shift"): "as Wan's authors sample the 1.3B model",
    ("wan_image_to_video", "solver"): "as Wan's authors sample",
    ("wan_image_to_video", "shift"): "as Wan's authors sample 480p",
}


def test_folded_settings_are_at_their_defaults(node_classes):
    """What nobody sees must not differ from what its tooltip promises; blueprints too."""
    prompts = [(p.stem, json.loads(p.read_text("utf-8"))) for p in (FOLDER / "api").iterdir()]
    for path in BLUEPRINTS:
        (inner,) = json.loads(path.read_text(encoding="utf-8"))["definitions"]["subgraphs"]
        prompts.append((path.stem, to_api_format(inner, node_classes)))
    found = set()
    for name, prompt in prompts:
        for node in prompt.values():
            for socket in node_classes[node["class_type"]].GET_SCHEMA().inputs:
                options = socket.as_dict()
                value = node["inputs"].get(socket.id)
                if options.get("advanced") and not isinstance(value, list):
                    default = options.get("default", (options.get("options") or [None])[0])
                    if value != default:
                        found.add((name, socket.id))
    assert found == set(ON_PURPOSE)


WAN = [path for path in TEMPLATES if path.stem.startswith("wan_")]
LOADERS = {  # the widget that names a file, and the folder that the file goes to
    "PatchDiT_LoadVideoModel": ("model_name", "diffusion_models"),
    "PatchDiT_LoadVideoVAE": ("vae_name", "vae"),
    "CLIPLoader": ("clip_name", "text_encoders"),
    "UpscaleModelLoader": ("model_name", "upscale_models"),
}

NEGATIVE = (  # what Wan's authors give with their weights
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，"
    "低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，"
    "毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


@pytest.mark.parametrize("path", WAN, ids=lambda path: path.stem)
def test_wan_is_told_what_it_is_always_told_to_avoid(path):
    prompt = json.loads((FOLDER / "api" / path.name).read_text(encoding="utf-8"))
    wired = [node["inputs"] for node in prompt.values() if "negative" in node["inputs"]]
    sources = [prompt[inputs["negative"][0]] for inputs in wired]
    assert sources and all(source["inputs"]["text"] == NEGATIVE for source in sources)
    prompts = [prompt[inputs["positive"][0]]["inputs"]["text"] for inputs in wired]
    assert NEGATIVE not in prompts


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_says_where_its_files_come_from(path, node_classes):
    """The frontend offers the download of what `models` of a node names."""
    template = json.loads(path.read_text(encoding="utf-8"))
    prompt = to_api_format(template, node_classes)
    loaders = [node for node in template["nodes"] if node["type"] in LOADERS]
    assert len(loaders) >= 3 if path in WAN else len(loaders) <= 1
    for node in loaders:
        widget, folder = LOADERS[node["type"]]
        (file,) = node["properties"]["models"]
        assert prompt[str(node["id"])]["inputs"][widget] == file["name"]
        assert file["directory"] == folder
        assert file["url"].startswith("https://huggingface.co/Comfy-Org/")
        assert file["url"].endswith(f"/{file['name']}")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_explains_itself_and_is_whole_without_its_files(path, node_classes, tmp_path):
    template = json.loads(path.read_text(encoding="utf-8"))
    (note,) = (node for node in template["nodes"] if node["type"] == "MarkdownNote")
    assert note["widgets_values"][0].startswith("## ")
    with use_session(Session(tmp_path, tmp_path, tmp_path)):
        graph = read_graph(to_api_format(template, node_classes), node_classes)
        problems = find_problems(graph)
    files = {*LOADERS, "LoadImage", "LoadVideo"}
    missing = {node["type"] for node in template["nodes"]} & files
    found = {graph.nodes[problem.node].schema.node_id for problem in problems}
    assert found == missing


THUMBNAILS = sorted(FOLDER.glob("*.jpg"))


def test_every_template_has_a_thumbnail():
    assert {path.stem for path in THUMBNAILS} == {path.stem for path in TEMPLATES}


@pytest.mark.parametrize("path", THUMBNAILS, ids=lambda path: path.stem)
def test_a_thumbnail_is_small_and_shows_something(path):
    assert path.stat().st_size <= 40 * 1024
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (400, 225))
        assert max(high - low for low, high in picture.getextrema()) > 100


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_is_one_node_over_a_whole_graph(path, node_classes):
    blueprint = json.loads(path.read_text(encoding="utf-8"))
    (outer,), (inner,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    assert outer["type"] == inner["id"] and inner["name"] == path.stem
    nodes = {node["id"]: node for node in inner["nodes"]}
    ends = {(link["id"], link["target_id"], link["target_slot"]) for link in inner["links"]}
    for side in ("inputs", "outputs"):
        assert [s["name"] for s in outer[side]] == [s["name"] for s in inner[side]]
    for link in inner["links"]:
        source, target = nodes.get(link["origin_id"]), nodes.get(link["target_id"])
        given = (source["outputs"] if source else inner["inputs"])[link["origin_slot"]]
        taken = (target["inputs"] if target else inner["outputs"])[link["target_slot"]]
        assert set(given["type"].split(",")) & set(taken["type"].split(","))
    for node in nodes.values():
        schema = node_classes[node["type"]].GET_SCHEMA()
        for place, socket in enumerate(node["inputs"]):
            needed = next(i for i in schema.inputs if i.id == socket["name"])
            assert socket["link"] is not None or needed.optional, socket
            assert socket["link"] is None or (socket["link"], node["id"], place) in ends
    for id, widget in outer["properties"]["proxyWidgets"]:
        names = [i.id for i in node_classes[nodes[int(id)]["type"]].GET_SCHEMA().inputs]
        assert widget in names


def test_there_are_blueprints_of_the_common_chains():
    assert len(BLUEPRINTS) == 3
