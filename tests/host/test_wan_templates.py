"""The Wan templates and the blueprints in a real ComfyUI, with tiny files in Wan's own layouts."""

from __future__ import annotations

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import av
import pytest

from .conftest import PACK, ROOT
from .graphs import one_of
from .template_files import CLIP_FRAMES, CLIP_SIZE, quick_prompt, write_wan_template_files

NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("wan_*.json"))
LOADERS = {"PatchDiT_LoadVideoModel", "PatchDiT_LoadVideoVAE", "CLIPLoader"}
FILES = {"LoadImage", "LoadVideo"}


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


FRAMES = {  # and how many a second
    "wan_extend": (CLIP_FRAMES + 8, 16),
    "wan_image_to_video": (5, 16),
    "wan_stitch": (2 * CLIP_FRAMES + 8, 16),
    "wan_text_to_video": (5, 16),
    "wan_ti2v_5b": (1 + 12, 24),
}


@pytest.fixture(scope="module")
def wan_template_files(comfyui) -> None:
    write_wan_template_files(comfyui.base)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_runs_end_to_end(comfyui, wan_template_files, name):
    graph = quick_prompt(api_form(name))
    outputs = comfyui.run(graph)
    (file,) = outputs[one_of(graph, "SaveVideo")]["images"]
    with av.open(str(comfyui.output(file))) as container:
        (stream,) = container.streams.video
        size = CLIP_SIZE if name in ("wan_extend", "wan_stitch") else (64, 64)
        assert (stream.width, stream.height) == size
        frames = sum(1 for _ in container.decode(stream))
        assert (frames, stream.average_rate) == FRAMES[name]


def test_blueprints_are_listed_and_their_nodes_known(comfyui):
    listed = comfyui.get("api/global_subgraphs")
    ours = {e["name"]: id for id, e in listed.items() if PACK in e["info"]["node_pack"]}
    assert sorted(ours) == sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))
    known = comfyui.get("object_info")
    for id in ours.values():
        blueprint = json.loads(comfyui.get(f"api/global_subgraphs/{id}")["data"])
        (inner,) = blueprint["definitions"]["subgraphs"]
        assert [n["type"] for n in inner["nodes"] if n["type"] not in known] == []
