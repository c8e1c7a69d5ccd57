"""The browsers that listen: one websocket each, told by client id."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

from .guard import parse_json, read_object
from .pack import FEATURES

CLIP = "patchdit.preview"  # what web/js/clip_preview.js listens to
WAITING = 50_000  # messages that a browser may leave unread before it is let go
PASSING = ("progress", "progress_state", CLIP)  # the next one says it all again
HURRY = 500  # messages unread, from which on a browser hears no passing ones


class Client:
    """One browser; messages wait in a queue, so that a slow one holds nobody up."""

    def __init__(self, socket: web.WebSocketResponse):
        self.socket = socket
        self.watches = False  # whether our script plays clips there
        self.waiting: asyncio.Queue[str] = asyncio.Queue(WAITING)
        self.closing: asyncio.Future | None = None

    @property
    def is_behind(self) -> bool:
        return self.waiting.qsize() >= HURRY

    def put(self, message: str) -> None:
        try:
            self.waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.closing = asyncio.ensure_future(self.socket.close(message=b"too slow"))

    async def write(self) -> None:
        while not self.socket.closed:
            message = await self.waiting.get()
            try:
                await self.socket.send_str(message)
            except (aiohttp.ClientError, ConnectionError):
                return


class Clients:
    """Everybody who listens; all methods belong to the event loop."""

    def __init__(self, greet: Callable[[str], list[tuple[str, dict]]]):
        self.greet = greet  # what a browser hears first
        self.by_id: dict[str, Client] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/ws", self.listen), web.post("/patchdit/watch", self.watch)]

    def send(self, event: str, data: dict, to: str | None = None) -> None:
        """Tell one client, or all where `to` is None; who is not there hears nothing."""
        message = json.dumps({"type": event, "data": data})
        for client in self._addressed(to):
            if event not in PASSING or not client.is_behind:
                client.put(message)

    def is_watching(self, id: str | None) -> bool:
        """Whether a client plays whole clips; a thread may ask too."""
        client = None if id is None else self.by_id.get(id)
        return client is not None and client.watches

    async def watch(self, request: web.Request) -> web.Response:
        """{"client_id"}: our script listens there."""
        id = (await read_object(request)).get("client_id")
        client = self.by_id.get(id) if isinstance(id, str) else None
        if client is not None:
            client.watches = True
        return web.json_response({"watching": client is not None})

    def _addressed(self, to: str | None) -> list[Client]:
        if to is None:
            return list(self.by_id.values())
        return [self.by_id[to]] if to in self.by_id else []

    async def listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=30, max_msg_size=2**16)
        await socket.prepare(request)
        id = request.query.get("clientId", "")[:100] or uuid.uuid4().hex
        client = self.by_id[id] = Client(socket)
        writer = asyncio.ensure_future(client.write())
        for event, data in self.greet(id):
            self.send(event, data, id)
        try:
            async for message in socket:
                if message.type == aiohttp.WSMsgType.TEXT:
                    self._hear(client, message.data)
        finally:
            writer.cancel()
            if self.by_id.get(id) is client:  # a reload may have taken the id over
                del self.by_id[id]
        return socket

    def _hear(self, client: Client, text: str) -> None:
        """The browser's one message says what it can do; the answer is what we can."""
        try:
            message = parse_json(text)
        except ValueError:
            logging.warning("A browser sent %r on the websocket; need JSON.", text[:100])
            return
        if isinstance(message, dict) and message.get("type") == "feature_flags":
            client.put(json.dumps({"type": "feature_flags", "data": FEATURES}))

    async def close(self) -> None:
        for client in list(self.by_id.values()):
            await client.socket.close(message=b"the host stops")


def named(node: str) -> dict[str, Any]:
    """A node under all the names that the frontend asks for; no node of ours is inside another."""
    return {
        "node_id": node,
        "display_node_id": node,
        "real_node_id": node,
        "parent_node_id": None,
    }
