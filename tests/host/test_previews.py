"""In a real ComfyUI: a browser that plays clips hears of them, and can stop a node for one time."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from .graphs import keeping
from .test_resume import RESUMED, tiny

aiohttp = pytest.importorskip("aiohttp")

EVENT, NODE, STEPS = "patchdit.preview", "7", 300


def long_run(seed: int) -> dict:
    graph = keeping(tiny("text_to_video", STEPS), NODE)
    graph["4"]["inputs"] |= {"width": 128, "height": 128}
    graph["6"]["inputs"]["seed"] = seed
    graph[NODE]["inputs"]["checkpoint"] = True
    return graph


@asynccontextmanager
async def browser(comfyui, id: str):
    """A websocket under a client id, as a browser's."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{comfyui.url}/ws?clientId={id}") as socket,
    ):
        await socket.receive(30)  # the server knows it now
        yield socket


async def heard(socket, until: str) -> list[tuple[str, dict]]:
    """All JSON messages up to one of a kind that has a `step` or none."""
    told = []
    while not told or told[-1][0] != until or told[-1][1].get("step") == 0:
        message = await socket.receive(120)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type == aiohttp.WSMsgType.TEXT:
            said = json.loads(message.data)
            told.append((said["type"], said["data"]))
        else:
            told.append(("core's own preview", {}))
    return told


def queue(comfyui, seed: int, client: str, method: str = "latent2rgb") -> str:
    return comfyui.queue(long_run(seed), client_id=client, preview_method=method)


def cached(told: list[tuple[str, dict]]) -> set[str]:
    return {id for event, data in told if event == "execution_cached" for id in data["nodes"]}


def test_a_stopped_node_runs_anew_and_a_whole_one_does_not(comfyui):
    async def scenario():
        async with browser(comfyui, "stops") as socket:
            assert comfyui.post("patchdit/watch", {"client_id": "stops"}) == {"watching": True}
            id = queue(comfyui, 11, "stops")
            told = await heard(socket, EVENT)
            _, message = told[-1]
            assert (message["node"], message["prompt_id"], message["total"]) == (NODE, id, STEPS)
            assert message["image"].startswith("data:image/jpeg;base64,")
            ask = {"prompt_id": id, "node_id": NODE}
            assert comfyui.post("patchdit/stop", ask) == {"stopping": True}
            told += await heard(socket, "execution_success")
            steps = [data["step"] for event, data in told if event == EVENT]
            assert steps[-1] < STEPS
            assert "core's own preview" not in dict(told)
            before = len(comfyui.log)
            id = queue(comfyui, 11, "stops")
            assert NODE not in cached(await heard(socket, "execution_success"))
            assert RESUMED in comfyui.log[before:]
            id = queue(comfyui, 11, "stops")
            comfyui.wait(id)
            assert comfyui.post("patchdit/stop", ask) == {"stopping": False}
            assert NODE in cached(await heard(socket, "execution_success"))

    asyncio.run(scenario())


def test_others_get_cores_own_preview(comfyui):
    async def scenario():
        async with browser(comfyui, "plain") as socket:
            id = queue(comfyui, 12, "plain")
            told = await heard(socket, "core's own preview")
            comfyui.post("interrupt", {})
            comfyui.wait(id)
            assert EVENT not in dict(told)

    asyncio.run(scenario())


def test_no_previews_means_no_pictures_but_still_steps(comfyui):
    async def scenario():
        async with browser(comfyui, "steps") as socket:
            comfyui.post("patchdit/watch", {"client_id": "steps"})
            id = queue(comfyui, 13, "steps", "none")
            told = await heard(socket, EVENT)
            comfyui.post("interrupt", {})
            comfyui.wait(id)
            assert "image" not in told[-1][1] and told[-1][1]["step"] > 0

    asyncio.run(scenario())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"prompt_id": 1, "node_id": []}', b"\xff"])
def test_a_request_that_is_none(comfyui, body):
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(f"{comfyui.url}/patchdit/stop", body), timeout=30)
    assert refused.value.code == 400
    assert json.loads(refused.value.read()) == {
        "error": "Need a JSON object with the text 'prompt_id'."
    }


def test_a_browser_that_is_not_there_does_not_watch(comfyui):
    assert comfyui.post("patchdit/watch", {"client_id": "nobody"}) == {"watching": False}
