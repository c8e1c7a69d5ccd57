"""What the frontend finds of the pack: nodes, help, templates, words; the start page."""

import asyncio
import json
from pathlib import Path

import pytest

from patchdit import comfy_entrypoint
from patchdit.nodes.replacements import REPLACED, Replaced
from patchdit.standalone.node_list import list_nodes
from patchdit.standalone.server.pack import HOST_NAME, PACK, Pack, frontend_folder

from .serving import CLASSES, make_host, serve

ROOT = Path(__file__).resolve().parents[2]
STORED = sorted((ROOT / "tests" / "host" / "object_info").glob("*.json"))


async def json_of(client, path):
    answer = await client.get(path)
    assert answer.status == 200, path
    return await answer.json()


def test_every_address_works_with_and_without_api(tmp_path):
    paths = (
        *("features", "system_stats", "users", "settings", "i18n", "extensions", "object_info"),
        *("userdata?dir=workflows", "userdata?dir=subgraphs", "userdata/comfy.templates.json"),
        *("global_subgraphs", "workflow_templates", "queue", "history", "prompt", "jobs"),
        *("experiment/models", "embeddings", "models", "node_replacements"),
        *("internal/folder_paths", "internal/logs", "internal/logs/raw"),
    )

    async def scenario(client):
        for path in paths:
            first, second = [await json_of(client, f"{start}{path}") for start in ("/", "/api/")]
            assert first == second or path == "system_stats"  # free memory changes
        style = await client.get("/user.css")
        assert (style.status, style.content_type) == (200, "text/css")
        stats = await json_of(client, "/api/system_stats")
        assert stats["system"]["comfyui_version"] == HOST_NAME and stats["devices"]
        assert await json_of(client, "/users") == {"storage": "server", "migrated": True}

    serve(tmp_path, scenario)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_object_info_is_what_a_real_comfyui_says(path, tmp_path):
    stored = json.loads(path.read_text())
    classes = asyncio.run(list_nodes(comfy_entrypoint))

    async def scenario(client):
        one = await json_of(client, "/api/object_info/PatchDiT_DecodeVideo")
        return one, await json_of(client, "/api/object_info")

    one, told = serve(tmp_path, scenario, classes=classes)
    assert one == {"PatchDiT_DecodeVideo": told["PatchDiT_DecodeVideo"]}
    shared = stored.keys() & told.keys()
    assert len(shared) >= 30 and {"SaveVideo", "LoadVideo"} <= told.keys()
    for name in shared:
        assert told[name].pop("python_module") == f"custom_nodes.{PACK}"
        assert told[name].keys() >= stored[name].keys()
    # where the checkout's nodes are those of the recording, they say the same to the letter
    node = "PatchDiT_FlowSigmas"
    assert told[node] == stored[node]


def test_choices_of_files_are_listed_anew(tmp_path):
    async def scenario(client):
        before = await json_of(client, "/object_info/LoadImage")
        (tmp_path / "input" / "new.png").write_bytes(b"")
        return before, await json_of(client, "/object_info/LoadImage")

    told = [
        info["LoadImage"]["input"]["required"]["image"][1]["options"]
        for info in serve(tmp_path, scenario)
    ]
    assert told == [[], ["new.png"]]


def test_templates_and_help_of_every_node_are_served(tmp_path):
    async def scenario(client):
        [(pack, names)] = (await json_of(client, "/api/workflow_templates")).items()
        files = {path.stem for path in (ROOT / "workflows").glob("*.json")}
        assert pack == PACK and set(names) == files and names[0] == "text_to_video"
        for name in names:
            workflow = await json_of(client, f"/api/workflow_templates/{PACK}/{name}.json")
            assert workflow["nodes"]
        for name in helped:
            answer = await client.get(f"/extensions/{PACK}/docs/{name}.md")
            assert answer.status == 200 and (await answer.text()).startswith("# ")
        assert (await client.get(f"/extensions/{PACK}/docs/None.md")).status == 404

    helped = [path.stem for path in (ROOT / "web" / "docs").glob("*.md")]
    serve(tmp_path, scenario)


def test_scripts_words_and_blueprints_of_a_pack(tmp_path):
    pack = tmp_path / "pack"
    files = {
        "web/js/part/a.js": "export {}",
        "locales/zh/main.json": '{"nodeCategories": {"PatchDiT": "P"}}',
        "locales/zh/nodeDefs.json": '{"N": {"display_name": "B"}}',
        "locales/zh/settings.json": "broken",
        "subgraphs/chain.json": '{"definitions": {}}',
    }
    for name, text in files.items():
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        (pack / name).write_text(text)
    host = make_host(tmp_path)
    part = Pack(CLASSES, tmp_path / "frontend", host.in_session, pack)

    class Request:
        match_info: dict = {}

    def told(handler):
        return json.loads(asyncio.run(handler(Request())).text)

    assert told(part.extensions) == [
        "/extensions/core/a%20b.js",
        f"/extensions/{PACK}/js/part/a.js",
    ]
    assert told(part.i18n) == {
        "zh": {"nodeCategories": {"PatchDiT": "P"}, "nodeDefs": {"N": {"display_name": "B"}}}
    }
    [(id, entry)] = told(part.subgraphs).items()
    assert entry["name"] == "chain" and entry["info"] == {"node_pack": f"custom_nodes.{PACK}"}
    Request.match_info = {"id": id}
    assert told(part.subgraph)["data"] == '{"definitions": {}}'


def test_replaced_ids_are_told_as_comfyui_tells_them(tmp_path):
    mapping = [{"new_id": "value", "old_id": "number"}, {"new_id": "steps", "set_value": 2}]
    entry = Replaced("PatchDiT_Gone", "Number", ["number"], mapping, [{"new_idx": 0, "old_idx": 1}])
    assert REPLACED == ()  # whose answer is {}, as the first test sees

    async def scenario(client):
        socket = await client.ws_connect("/ws")
        await socket.send_json({"type": "feature_flags", "data": {}})
        flags = [(await socket.receive_json())["data"] for _ in range(2)][1]
        return flags["node_replacements"], await json_of(client, "/api/node_replacements")

    told = {
        "old_node_id": "PatchDiT_Gone",
        "new_node_id": "Number",
        "old_widget_ids": ["number"],
        "input_mapping": mapping,
        "output_mapping": [{"new_idx": 0, "old_idx": 1}],
    }
    found = serve(tmp_path, scenario, replaced=(entry,))
    assert found == (True, {"PatchDiT_Gone": [told]})


def test_the_first_visit_opens_our_first_template_and_later_ones_do_not(tmp_path):
    async def scenario(client):
        first = await client.get("/", allow_redirects=False)
        assert first.status == 302
        assert first.headers["Location"] == f"/?template=text_to_video&source={PACK}"
        page = await client.get(first.headers["Location"])
        assert "<title>canvas</title>" in await page.text()
        again = await client.get("/", allow_redirects=False)
        assert again.status == 200 and again.headers["Cache-Control"] == "no-store"

    serve(tmp_path, scenario)


def test_the_real_frontend_is_found():
    pytest.importorskip("comfyui_frontend_package")
    assert (frontend_folder() / "index.html").is_file()
