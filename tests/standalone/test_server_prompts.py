"""Queueing over HTTP, listening on the websocket: runs, errors, cancels, history."""

import asyncio
import json
import time

import pytest
from aiohttp.test_utils import TestClient, TestServer

from patchdit.nodes.host.previews import EVENT
from patchdit.standalone.api import io
from patchdit.standalone.server.sockets import CLIP

from .serving import CLASSES, Browser, finished, make_host, node, post_json, queue, serve


def sums(value=3):
    return {
        "1": node("Number", value=value, steps=3),
        "2": node("Add", a=["1", 0], b=["1", 0]),
        "3": node("Show", value=["2", 0]),
    }


def waiting(steps=1000):
    return {"1": node("Wait", steps=steps), "2": node("Show", value=["1", 0])}


def test_a_run_tells_its_browser_all_and_another_only_the_queue(tmp_path):
    async def scenario(client):
        async with Browser(client, "ours") as ours, Browser(client, "theirs") as theirs:
            assert (await ours.until("status"))["sid"] == "ours"
            id = await queue(client, sums(), client_id="ours")
            assert (await ours.until("executed"))["output"] == {"value": [6], "id": ["3"]}
            await ours.until("executing", node=None)
            await theirs.until("status", status={"exec_info": {"queue_remaining": 1}})
            await theirs.until("status", status={"exec_info": {"queue_remaining": 0}})
            return id, ours.heard, theirs.events()

    id, heard, theirs = serve(tmp_path, scenario)
    assert set(theirs) == {"status"}
    told = [(event, data) for event, data in heard if event != "status"]
    assert all(data["prompt_id"] == id for _, data in told)
    runs = [(event, data.get("node")) for event, data in told if event.startswith("exec")]
    assert runs == [
        ("execution_start", None),
        ("execution_cached", None),
        ("executing", "1"),
        ("executing", "2"),
        ("executing", "3"),
        ("executed", "3"),
        ("execution_success", None),
        ("executing", None),
    ]
    progress = [data for event, data in told if event == "progress"]
    assert (progress[-1]["value"], progress[-1]["max"], progress[-1]["node"]) == (3, 3, "1")
    states = [data["nodes"] for event, data in told if event == "progress_state"]
    assert {id: entry["state"] for id, entry in states[-1].items()} == dict.fromkeys(
        "123", "finished"
    )


def test_what_json_cannot_hold_is_shown_as_text(tmp_path):
    async def scenario(client):
        return await finished(client, await queue(client, {"7": node("Odd")}))

    assert serve(tmp_path, scenario)["outputs"] == {"7": {"odd": [None, "{1}", "text"]}}


def test_a_clip_goes_out_under_the_name_that_the_script_listens_to():
    assert CLIP == EVENT


def test_history_and_jobs_tell_of_a_run(tmp_path):
    async def scenario(client):
        extra = {"extra_pnginfo": {"workflow": {"id": "w"}}, "api_key_comfy_org": "secret"}
        id = await queue(client, sums(), extra_data=extra)
        entry = await finished(client, id)
        jobs = await (await client.get("/api/jobs?status=completed&limit=1")).json()
        job = await (await client.get(f"/jobs/{id}")).json()
        answer = await client.post("/history", json={"delete": [id]})
        assert answer.status == 200
        return id, entry, jobs, job, await (await client.get("/history")).json()

    id, entry, jobs, job, left = serve(tmp_path, scenario)
    assert entry["status"]["status_str"] == "success" and entry["status"]["completed"]
    assert entry["outputs"] == {"3": {"value": [6], "id": ["3"]}}
    assert entry["prompt"][1:3] == [id, sums()]
    assert "secret" not in json.dumps([entry, job])
    assert jobs["pagination"] == {"offset": 0, "limit": 1, "total": 1, "has_more": False}
    assert jobs["jobs"][0]["workflow_id"] == "w" and jobs["jobs"][0]["status"] == "completed"
    assert job["execution_end_time"] >= job["execution_start_time"] >= job["create_time"]
    assert job["outputs"] == entry["outputs"] and job["workflow"]["prompt"] == sums()
    assert left == {}


def test_a_failing_node_is_named_and_the_queue_goes_on(tmp_path):
    bad = {"4": node("Fail", how="value"), "5": node("Show", value=["4", 0])}

    async def scenario(client):
        async with Browser(client, "b") as browser:
            id = await queue(client, bad, client_id="b")
            error = await browser.until("execution_error")
            entry = await finished(client, id)
            job = await (await client.get(f"/jobs/{id}")).json()
            return error, entry, job, await finished(client, await queue(client, sums()))

    error, entry, job, after = serve(tmp_path, scenario)
    assert (error["node_id"], error["node_type"]) == ("4", "Fail")
    assert error["exception_type"] == "ValueError"
    assert error["exception_message"] == "need a kinder input."
    assert entry["status"]["status_str"] == "error" and job["status"] == "failed"
    assert job["execution_error"]["node_id"] == "4"
    assert after["status"]["completed"]


@pytest.mark.parametrize("way", ["interrupt", "interrupt one", "cancel", "cancel many"])
def test_cancel_stops_between_steps(tmp_path, way):
    async def scenario(client):
        async with Browser(client, "b") as browser, Browser(client, "other") as other:
            id = await queue(client, waiting(), client_id="b")
            await browser.until("progress")
            await client.post("/api/interrupt", json={"prompt_id": "another"})
            path, body = {
                "interrupt": ("/api/interrupt", None),
                "interrupt one": ("/api/interrupt", {"prompt_id": id}),
                "cancel": (f"/api/jobs/{id}/cancel", None),
                "cancel many": ("/api/jobs/cancel", {"job_ids": [id]}),
            }[way]
            assert (await client.post(path, json=body) if body else await client.post(path)).ok
            told = await browser.until("execution_interrupted")
            await other.until("execution_interrupted")
            entry = await finished(client, id)
            job = await (await client.get(f"/jobs/{id}")).json()
            return told, entry, job, await finished(client, await queue(client, sums()))

    told, entry, job, after = serve(tmp_path, scenario)
    assert told["node_id"] == "1" and job["status"] == "cancelled"
    assert entry["status"]["status_str"] == "error" and after["status"]["completed"]


def test_the_queue_keeps_order_and_forgets_what_is_deleted(tmp_path):
    async def scenario(client):
        ids = [await queue(client, waiting(30))]
        while not (await (await client.get("/queue")).json())["queue_running"]:
            await asyncio.sleep(0.01)
        ids += [await queue(client, sums(value)) for value in (1, 2)]
        first = await queue(client, sums(9), front=True)
        order = (await (await client.get("/api/queue")).json())["queue_pending"]
        assert [entry[1] for entry in order] == [first, *ids[1:]]
        pending = await (await client.get("/api/jobs?status=pending,in_progress")).json()
        assert len(pending["jobs"]) == 4
        await client.post("/queue", json={"delete": [ids[1], ids[0]]})
        again, told = await post_json(client, "/prompt", {"prompt": sums(), "prompt_id": ids[2]})
        assert again == 400 and told["error"]["message"] == "Bad prompt_id"
        for id in (ids[0], first, ids[2]):
            await finished(client, id)
        history = await (await client.get("/history?max_items=2")).json()
        assert list(history) == [first, ids[2]]
        await queue(client, waiting(30))
        await queue(client, sums())
        await client.post("/queue", json={"clear": True})
        assert (await (await client.get("/queue")).json())["queue_pending"] == []
        assert ids[1] not in await (await client.get("/history")).json()

    serve(tmp_path, scenario)


def test_a_browser_that_comes_back_hears_where_its_job_is(tmp_path):
    async def scenario(client):
        async with Browser(client, "b") as browser:
            id = await queue(client, waiting(), client_id="b")
            await browser.until("progress")
        async with Browser(client, "b") as browser, Browser(client, "c") as other:
            assert (await browser.until("executing"))["prompt_id"] == id
            await client.post("/interrupt")
            await other.until("execution_interrupted")
            assert "executing" not in other.events()

    serve(tmp_path, scenario)


def test_stopping_the_host_stops_the_run(tmp_path):
    async def scenario(client):
        async with Browser(client, "b") as browser:
            await queue(client, waiting(6000), client_id="b")
            await browser.until("progress")

    serve(tmp_path, scenario)  # would last a minute


def test_a_host_that_stops_waits_for_the_step_under_way(tmp_path):
    steps = []

    class Slow(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema(node_id="Slow", is_output_node=True)

        @classmethod
        def execute(cls):
            steps.append("begun")
            time.sleep(0.5)
            steps.append("done")

    async def main():
        host = make_host(tmp_path, classes=CLASSES | {"Slow": Slow})
        async with TestClient(TestServer(host.app)) as client:
            await queue(client, {"1": node("Slow")})
            while not steps:
                await asyncio.sleep(0.01)
        return list(steps)  # while the loop can still hear of them

    assert asyncio.run(main()) == ["begun", "done"]


def test_of_large_prompts_fewer_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr("patchdit.standalone.server.jobs.REMEMBERED_BYTES", 10_000)

    async def scenario(client):
        ids = []
        for size in (1, 1, 4_000, 4_000, 4_000):
            extra = {"extra_pnginfo": {"workflow": {"text": "x" * size}}}
            ids.append(await queue(client, sums(), extra_data=extra))
            await finished(client, ids[-1])
        return list(await (await client.get("/history")).json()) == ids[-2:]

    assert serve(tmp_path, scenario)


def test_pictures_of_earlier_prompts_make_room(tmp_path, monkeypatch):
    """The oldest go first, and none of the prompt that runs, however many they are."""
    monkeypatch.setattr("patchdit.standalone.server.running.TEMP_BYTES", 250)

    class Draw(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema(
                node_id="Draw",
                inputs=[io.String.Input("names")],
                hidden=[io.Hidden.unique_id],
                is_output_node=True,
            )

        @classmethod
        def execute(cls, names):
            for name in names:
                time.sleep(0.02)
                (tmp_path / "temp" / name).write_bytes(b"x" * 100)

    async def scenario(client):
        found = []
        for names in ("ab", "cdefg", "h"):
            await finished(client, await queue(client, {"1": node("Draw", names=names)}))
            found.append("".join(sorted(path.name for path in (tmp_path / "temp").glob("?"))))
        return found

    assert serve(tmp_path, scenario, classes=CLASSES | {"Draw": Draw}) == ["ab", "abcdefg", "fgh"]


def test_only_the_asked_outputs_run(tmp_path):
    prompt = sums() | {"8": node("Wait", steps=9999), "9": node("Show", value=["8", 0])}

    async def scenario(client):
        id = await queue(client, prompt, partial_execution_targets=["3"])
        return await finished(client, id)

    assert list(serve(tmp_path, scenario)["outputs"]) == ["3"]
