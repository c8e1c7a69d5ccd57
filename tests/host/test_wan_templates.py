"""The Wan templates and the blueprints in a real ComfyUI, with tiny files in Wan's own layouts."""

from __future__ import annotations

import json
import shutil
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import av
import pytest

from .conftest import PACK, ROOT
from .graphs import node, one_of

NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("wan_*.json"))
LOADERS = {"PatchDiT_LoadVideoModel", "PatchDiT_LoadVideoVAE", "CLIPLoader"}
FILES = {"LoadImage", "LoadVideo"}
TEMPLATE = "wan_text_to_video"


def api_form(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_only_the_absent_files_are_wrong_with_a_template(comfyui, name):
    graph = api_form(name)
    asked = Request(f"{comfyui.url}/prompt", json.dumps({"prompt": graph}).encode())
    with pytest.raises(HTTPError) as refused:
        urlopen(asked, timeout=60)
    assert refused.value.code == 400
    errors = json.loads(refused.value.read())["node_errors"]
    kinds = {graph[id]["class_type"] for id in errors}
    assert kinds == {entry["class_type"] for entry in graph.values()} & (LOADERS | FILES)
    for id, told in errors.items():
        found = {error["type"] for error in told["errors"]}
        wanted = {"value_not_in_list"} if graph[id]["class_type"] in LOADERS else None
        assert wanted is None or found == wanted


@pytest.fixture(scope="module")
def wan_files(comfyui) -> None:
    """Tiny files under the public names that the text-to-video template asks for."""
    graph, models = api_form(TEMPLATE), comfyui.base / "models"
    for kind, widget, folder, tiny in (
        ("PatchDiT_LoadVideoModel", "model_name", "diffusion_models", "t2v.safetensors"),
        ("PatchDiT_LoadVideoVAE", "vae_name", "vae", "wan2.1-vae.safetensors"),
    ):
        name = graph[one_of(graph, kind)]["inputs"][widget]
        shutil.copy(models / folder / tiny, models / folder / name)


def test_text_to_video_runs_end_to_end(comfyui, wan_files):
    """The text encoder alone is another one: umT5 has no tiny form; ours of 4096 columns has."""
    graph = api_form(TEMPLATE)
    text = one_of(graph, "CLIPLoader")
    graph[text] = node("PatchDiT_LoadBlockworld", weights="wan")
    for entry in graph.values():
        if entry["inputs"].get("clip") == [text, 0]:
            entry["inputs"] |= {"clip": [text, 1], "text": "a red ball"}  # it reads 16 tokens
    size = {"width": 64, "height": 48, "length_in": "frames", "frames": 5}
    graph[one_of(graph, "PatchDiT_EmptyVideoLatent")]["inputs"].update(size)
    graph[one_of(graph, "PatchDiT_FlowSigmas")]["inputs"]["steps"] = 2
    outputs = comfyui.run(graph)
    (file,) = outputs[one_of(graph, "SaveVideo")]["images"]
    with av.open(str(comfyui.output(file))) as container:
        (stream,) = container.streams.video
        assert (stream.width, stream.height, stream.average_rate) == (64, 48, 16)
        assert sum(1 for _ in container.decode(stream)) == 5


def test_blueprints_are_listed_and_their_nodes_known(comfyui):
    listed = comfyui.get("api/global_subgraphs")
    ours = {e["name"]: id for id, e in listed.items() if PACK in e["info"]["node_pack"]}
    assert sorted(ours) == sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))
    known = comfyui.get("object_info")
    for id in ours.values():
        blueprint = json.loads(comfyui.get(f"api/global_subgraphs/{id}")["data"])
        (inner,) = blueprint["definitions"]["subgraphs"]
        assert [n["type"] for n in inner["nodes"] if n["type"] not in known] == []
