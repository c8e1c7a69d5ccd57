"""Every shipped workflow in a real ComfyUI: its nodes are there, it runs, and files come out."""

from __future__ import annotations

import json
from urllib.request import urlopen

import av
import numpy as np
import pytest

from .conftest import PACK, ROOT
from .graphs import needs_shipped_weights, shipped
from .template_files import SCALE, write_upscaler

NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
ON_THE_CANVAS = {"MarkdownNote", "Note", "Reroute", "PrimitiveNode"}  # the frontend's own
CONTROL = {"control_after_generate"}  # a widget that the frontend adds to a seed


def test_templates_and_help_are_served(comfyui):
    assert sorted(comfyui.get("workflow_templates")[PACK]) == NAMES
    for name in NAMES:
        assert comfyui.get(f"api/workflow_templates/{PACK}/{name}.json")["nodes"]
    for id, info in comfyui.get("object_info").items():
        if info["python_module"] == f"custom_nodes.{PACK}":
            with urlopen(f"{comfyui.url}/extensions/{PACK}/docs/{id}.md") as answer:
                assert answer.read().startswith(b"# ")


@pytest.mark.parametrize("name", NAMES)
def test_comfyui_knows_every_node_and_socket_of_a_template(comfyui, name):
    listed = comfyui.get("object_info")
    template = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    nodes = [node for node in template["nodes"] if node["type"] not in ON_THE_CANVAS]
    assert [node["type"] for node in nodes if node["type"] not in listed] == []
    for node in nodes:
        info = listed[node["type"]]
        known = {name for names in info["input_order"].values() for name in names} | CONTROL
        assert [i["name"] for i in node.get("inputs", ()) if i["name"] not in known] == []
        assert len(node.get("outputs", ())) == len(info["output"])


RUNS = [n for n in NAMES if not n.startswith("wan_")]  # of those: test_wan_templates.py


@pytest.fixture(scope="module")
def upscaler(comfyui) -> None:
    write_upscaler(comfyui.base / "models")


@needs_shipped_weights
@pytest.mark.parametrize("name", RUNS)
def test_a_workflow_runs_and_files_come_out(comfyui, upscaler, name):
    graph = shipped(name, steps=2)
    listed = comfyui.get("object_info")
    shows = [id for id, entry in graph.items() if listed[entry["class_type"]]["output_node"]]
    outputs = comfyui.run(graph)
    assert outputs.keys() >= set(shows)
    others = [outputs[id] for id in outputs.keys() - set(shows)]
    assert all(told.keys() == {"patchdit_source"} for told in others)  # for the pictures on nodes
    takes = 3 if name == "extend_backwards" else 1  # its seeds
    for id in shows:
        files = outputs[id].get("images")
        if files is None:
            continue  # a node that shows text
        assert len(files) >= takes
        for file in files:
            check(comfyui, file)


def check(comfyui, file: dict) -> None:
    """A picture, or a video of several frames, of 64 pixels or more."""
    with av.open(str(comfyui.output(file))) as container:
        (stream,) = container.streams.video
        assert min(stream.width, stream.height) >= 64
        frames = sum(1 for _ in container.decode(stream))
        assert frames > 1 if file["filename"].endswith(".mp4") else frames == 1


@needs_shipped_weights
def test_the_large_video_is_the_small_one_with_larger_pixels(comfyui, upscaler):
    graph = shipped("restyle_extend_upscale", steps=2)
    outputs = comfyui.run(graph)
    saves = {
        entry["inputs"]["filename_prefix"]: id
        for id, entry in graph.items()
        if entry["class_type"] == "SaveVideo"
    }
    small_FHWC, large_FHWC = (
        pixels(comfyui, outputs[saves[f"patchdit/{name}"]])
        for name in ("restyle_extend", "restyle_extend_upscale")
    )
    repeated = small_FHWC.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    assert large_FHWC.shape == repeated.shape
    assert abs(large_FHWC.astype(float) - repeated).mean() < 8  # both were compressed


def pixels(comfyui, shown: dict) -> np.ndarray:
    """The frames of the only video that a node shows, F x H x W x 3 in 0..255."""
    (file,) = shown["images"]
    with av.open(str(comfyui.output(file))) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
