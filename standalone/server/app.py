"""The whole host: what the frontend asks for, with and without /api before it, as in ComfyUI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from ..graph import NodeClasses
from ..host import Session, use_session
from .files import Files
from .guard import UPLOAD_BYTES, add_headers, make_guard
from .jobs import JobQueue
from .pack import FIRST_TEMPLATE, PACK, Pack
from .places import Folders
from .prompts import Prompts
from .running import Runner
from .sockets import Clients
from .userdata import UserData

VISITED = "patchdit_visited"  # a cookie: the frontend keeps its open graphs in the same browser


class Host:
    """The parts of one preview host, and the aiohttp application that they make."""

    def __init__(
        self,
        folders: Folders,
        classes: NodeClasses,
        frontend: Path,
        listen: str = "127.0.0.1",
        replaced: Iterable[Any] = (),
    ):
        folders.make()
        self.folders = folders
        self.clients = Clients(self.greet)
        self.runner = Runner(folders, self.clients)
        self.queue = JobQueue(self.runner.work, self.tell_status)
        self.index = frontend / "index.html"
        self.pack = Pack(classes, frontend, self.in_session, replaced=replaced)
        prompts = Prompts(self.queue, self.runner, classes, self.in_session, folders)
        parts = (self.clients, prompts, UserData(folders.user), Files(folders), self.pack)
        routes = [route for part in parts for route in part.routes()]
        self.app = web.Application(
            middlewares=[make_guard(listen)], client_max_size=UPLOAD_BYTES + 2**16
        )
        self.app.on_response_prepare.append(add_headers)
        self.app.cleanup_ctx.append(self.keep_running)
        self.app.on_shutdown.append(self.let_go)
        self.app.add_routes([web.get("/", self.open), *routes])
        self.app.add_routes(
            [web.route(route.method, f"/api{route.path}", route.handler) for route in routes]
        )
        self.app.router.add_route("*", "/api/{rest:.*}", _unknown)
        self.app.add_routes(self.pack.folders())

    def in_session(self) -> AbstractContextManager:
        """A session outside a run, in which nodes list files and check their inputs."""
        places = self.folders.by_type
        return use_session(Session(places["input"], places["output"], places["temp"]))

    async def keep_running(self, app: web.Application) -> AsyncIterator[None]:
        """Work through the queue while the host is up; then wait for the running job's step."""
        task = asyncio.create_task(self.queue.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def let_go(self, app: web.Application) -> None:
        """Stop all jobs and hang up: aiohttp waits for open websockets before it cleans."""
        self.queue.remove(lambda job: True)
        self.runner.interrupt()
        await self.clients.close()

    async def open(self, request: web.Request) -> web.StreamResponse:
        """The canvas; a browser that is here for the first time gets our first template on it."""
        if not request.query and VISITED not in request.cookies:
            response = web.HTTPFound(f"/?template={FIRST_TEMPLATE}&source={PACK}")
            response.set_cookie(VISITED, "1", max_age=10**8, httponly=True, samesite="Lax")
            return response
        return web.FileResponse(self.index, headers={"Cache-Control": "no-store"})

    def status(self) -> dict:
        return {"status": {"exec_info": {"queue_remaining": self.queue.remaining}}}

    def tell_status(self) -> None:
        self.clients.send("status", self.status())

    def greet(self, client: str) -> list[tuple[str, dict]]:
        """What a browser hears first: the queue, and where its own job is if it was away."""
        messages = [("status", self.status() | {"sid": client})]
        where = self.runner.running_node(client)
        if where:
            prompt, node = where
            told = {"prompt_id": prompt, "node": node, "display_node": node}
            messages.append(("executing", told))
        return messages


async def _unknown(request: web.Request) -> web.Response:
    text = f"This preview host has no {request.method} {request.path[:200]}."
    return web.json_response({"error": text}, status=404)
