"""A preview host over fake nodes, and browsers that talk to it, for the tests of the server."""

import asyncio
import time

import aiohttp
from aiohttp.test_utils import TestClient, TestServer

from patchdit.standalone.api import io
from patchdit.standalone.core_nodes import CORE_NODES
from patchdit.standalone.host import ProgressBar, throw_if_interrupted
from patchdit.standalone.server.app import Host
from patchdit.standalone.server.places import Folders

from .conftest import FAKES


class Wait(io.ComfyNode):
    """Takes its time: a step every 10 ms until cancelled, or until `steps` are done."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Wait", inputs=[io.Int.Input("steps", default=100)], outputs=[io.Int.Output()]
        )

    @classmethod
    def execute(cls, steps):
        bar = ProgressBar(steps)
        for _ in range(steps):
            throw_if_interrupted()
            time.sleep(0.01)
            bar.update(1)
        return io.NodeOutput(steps)


class Odd(io.ComfyNode):
    """Shows what JSON cannot hold."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="Odd", is_output_node=True)

    @classmethod
    def execute(cls):
        return io.NodeOutput(ui={"odd": (float("nan"), {1}, "text")})


NODES = [*FAKES, Wait, Odd, *CORE_NODES]
CLASSES = {node.GET_SCHEMA().node_id: node for node in NODES}


def make_host(base, classes=CLASSES, **options):
    frontend = base / "frontend"
    (frontend / "extensions" / "core").mkdir(parents=True, exist_ok=True)
    (frontend / "extensions" / "core" / "a b.js").write_text("export {}")
    (frontend / "index.html").write_text("<title>canvas</title>")
    return Host(Folders(base, base / "temp"), classes, frontend, **options)


def serve(base, scenario, **options):
    """Run `await scenario(client)`, an aiohttp client, against a fresh host in `base`."""

    async def main():
        async with TestClient(TestServer(make_host(base, **options).app)) as client:
            return await asyncio.wait_for(scenario(client), 60)

    return asyncio.run(main())


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


async def post_json(client, path, body):
    """Status and JSON of an answer."""
    answer = await client.post(path, json=body)
    return answer.status, await answer.json()


async def queue(client, prompt, **more):
    """The id of a prompt that has to be taken."""
    status, told = await post_json(client, "/api/prompt", {"prompt": prompt, **more})
    assert status == 200, told
    return told["prompt_id"]


async def finished(client, id):
    """The history entry of a prompt, once it has one."""
    while True:
        history = await (await client.get(f"/api/history/{id}")).json()
        if id in history:
            return history[id]
        await asyncio.sleep(0.01)


class Browser:
    """A websocket of one client id: what it heard, as (event, data)."""

    def __init__(self, client, id):
        self.client, self.id, self.heard = client, id, []

    async def __aenter__(self):
        self.socket = await self.client.ws_connect(f"/ws?clientId={self.id}")
        return self

    async def __aexit__(self, *_):
        await self.socket.close()

    async def until(self, event, **wanted):
        """Listen up to a message of this kind and these contents; give its data."""
        while True:
            message = await asyncio.wait_for(self.socket.receive(), 30)
            assert message.type == aiohttp.WSMsgType.TEXT, message
            told = message.json()
            self.heard.append((told["type"], told["data"]))
            if told["type"] == event and wanted.items() <= told["data"].items():
                return told["data"]

    def events(self):
        return [event for event, _ in self.heard]
