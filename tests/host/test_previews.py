"""In a real ComfyUI: a browser that plays clips hears of them, and can stop a node for one time."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from .graphs import keeping, node
from .test_resume import RESUMED, tiny

aiohttp = pytest.importorskip("aiohttp")

EVENT, NODE, STEPS = "patchdit.preview", "7", 300
FEW = 6  # steps
FRAMES = 5  # latent frames of the 17 that are made
CORES, PLAIN = "core's own preview", "plain"


def long_run(seed: int, steps: int = STEPS) -> dict:
    graph = keeping(tiny("text_to_video", steps), NODE)
    graph["4"]["inputs"] |= {"width": 128, "height": 128}
    graph["6"]["inputs"]["seed"] = seed
    graph[NODE]["inputs"]["checkpoint"] = True
    return graph


def core_run(kind: str, family: str, seed: int) -> dict:
    """A MODEL of ours in a sampler of core's, patched on its way there."""
    graph = keeping(tiny("text_to_video", FEW), NODE)
    links = {name: graph["6"]["inputs"][name] for name in ("positive", "negative")}
    links |= {"model": ["shift", 0], "latent_image": ["4", 0]}
    del graph["5"], graph["6"]
    loaded = ["1", 0]
    if family == "wan":
        graph["1"]["inputs"]["weights"] = "wan"
        graph["wan"] = node("PatchDiT_LoadVideoModel", model_name="t2v.safetensors", dtype="auto")
        loaded = ["wan", 0]
    graph["shift"] = node("ModelSamplingSD3", model=loaded, shift=4.0)
    schedule = dict(steps=FEW, scheduler="simple", denoise=1.0)
    if kind == "KSampler":
        graph[NODE] = node(kind, **links, **schedule, seed=seed, cfg=3.0, sampler_name="euler")
        return graph
    latent = links.pop("latent_image")
    graph["guider"] = node("CFGGuider", **links, cfg=3.0)
    graph["noise"] = node("RandomNoise", noise_seed=seed)
    graph["solver"] = node("KSamplerSelect", sampler_name="dpmpp_2m")
    graph["sigmas"] = node("BasicScheduler", model=["shift", 0], **schedule)
    parts = {name: [name, 0] for name in ("guider", "noise", "sigmas")}
    graph[NODE] = node(kind, **parts, sampler=["solver", 0], latent_image=latent)
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
            told.append((CORES, {}))
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
            assert (message["frames"], message["stops"]) == (FRAMES, True)
            ask = {"prompt_id": id, "node_id": NODE}
            assert comfyui.post("patchdit/stop", ask) == {"stopping": True}
            told += await heard(socket, "execution_success")
            steps = [data["step"] for event, data in told if event == EVENT]
            assert steps[-1] < STEPS
            assert CORES not in dict(told)
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
        async with browser(comfyui, PLAIN) as socket:
            id = queue(comfyui, 12, PLAIN)
            told = await heard(socket, CORES)
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


def told_of(comfyui, graph: dict, client: str, method: str = "latent2rgb") -> list[tuple]:
    """All that a browser hears of a run, which watches clips unless it is PLAIN."""

    async def scenario():
        async with browser(comfyui, client) as socket:
            if client != PLAIN:
                comfyui.post("patchdit/watch", {"client_id": client})
            comfyui.queue(graph, client_id=client, preview_method=method)
            return await heard(socket, "execution_success")

    return asyncio.run(scenario())


def clips(told: list[tuple[str, dict]]) -> list[dict]:
    """What is said of a clip, each step once; also that it begins with the node and no picture."""
    said = [data for event, data in told if event == EVENT]
    steps = [data["step"] for data in said]
    assert steps == sorted(set(steps)) and steps[:2] == [0, 1]
    assert {data["node"] for data in said} == {NODE} and "image" not in said[0]
    assert {data["total"] for data in said} == {FEW}
    return said


def test_a_run_of_ours_is_told_of_once(comfyui):
    """By our sampler; the wrapper that shows other samplers' runs is not warned of either."""
    before = len(comfyui.log)
    first, *others = clips(told_of(comfyui, long_run(14, FEW), "ours"))
    assert first["stops"] and {data["frames"] for data in others} == {FRAMES}
    assert "start afresh" not in comfyui.log[before:]


@pytest.mark.parametrize(
    ("kind", "family", "fps"),
    [("KSampler", "ours", 8), ("SamplerCustomAdvanced", "ours", 8), ("KSampler", "wan", 16)],
)
def test_all_frames_show_on_cores_samplers_too(comfyui, kind, family, fps):
    """Core's own callback is called as well: SamplerCustomAdvanced has its second output of it."""
    told = told_of(comfyui, core_run(kind, family, 15), "core")
    first, *others = clips(told)
    assert not first["stops"] and {data["frames"] for data in others} == {FRAMES}
    assert {data["seconds"] for data in others} == {4 / fps}
    assert CORES in dict(told)


def test_cores_samplers_show_no_clips_to_others(comfyui):
    told = dict(told_of(comfyui, core_run("KSampler", "ours", 16), PLAIN))
    assert EVENT not in told and CORES in told


def test_no_previews_means_no_pictures_on_cores_samplers_either(comfyui):
    told = told_of(comfyui, core_run("KSampler", "ours", 17), "core steps", "none")
    assert not any("image" in data for data in clips(told))
    assert CORES not in dict(told)


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
