"""ComfyUI's server: whole clips go out to the canvas, and a request to stop comes in.

A browser says by `POST /patchdit/watch {"client_id"}` that our script plays clips there; others
get core's own preview. `POST /patchdit/stop {"prompt_id", "node_id"}` asks a node to stop.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from comfy_execution.utils import get_executing_context
from server import PromptServer

from .previews import EVENT
from .stopping import Stops

STOPS = Stops()
WATCHING: set[str] = set()  # client ids


def clip_sender() -> Callable[[dict[str, Any]], None] | None:
    """Sends messages of the node that runs to its browser; None where nobody plays clips."""
    server, where = getattr(PromptServer, "instance", None), get_executing_context()
    client = getattr(server, "client_id", None)
    if server is None or where is None or client not in WATCHING or client not in server.sockets:
        return None
    return partial(_send, server, client, {"node": where.node_id, "prompt_id": where.prompt_id})


def _send(server: Any, client: str, place: dict[str, str], told: dict[str, Any]) -> None:
    server.send_sync(EVENT, place | told, client)


def heed_stop() -> bool:
    """Whether the node that runs was asked to stop; from then on it counts as stopped."""
    where = get_executing_context()
    return where is not None and STOPS.heed(where.prompt_id, where.node_id)


def was_stopped() -> bool:
    """Whether the node that runs has stopped early."""
    where = get_executing_context()
    return where is not None and STOPS.was_heeded(where.prompt_id, where.node_id)


def times_stopped() -> int:
    """How often the node that runs, or is asked for its fingerprint, was ever stopped."""
    where = get_executing_context()
    return 0 if where is None else STOPS.times(where.node_id)


async def watch(request: web.Request) -> web.Response:
    """Remember a browser; those that have gone are forgotten."""
    (client,) = await _texts(request, "client_id")
    sockets = PromptServer.instance.sockets
    WATCHING.intersection_update(sockets)
    if client in sockets:
        WATCHING.add(client)
    return web.json_response({"watching": client in WATCHING})


async def stop(request: web.Request) -> web.Response:
    """Ask a node of the prompt that runs to stop; say whether that prompt runs."""
    prompt, node = await _texts(request, "prompt_id", "node_id")
    running, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    found = any(job[1] == prompt for job in running)
    if found:
        STOPS.ask(prompt, node)
    return web.json_response({"stopping": found})


async def _texts(request: web.Request, *names: str) -> list[str]:
    """Texts of a request's JSON object; a 400 that names one that is missing."""
    try:
        body = await request.json()
    except ValueError:  # no JSON, or no text
        body = None
    values = [body.get(name) if isinstance(body, dict) else None for name in names]
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, str):
            told = {"error": f"Need a JSON object with the text {name!r}."}
            raise web.HTTPBadRequest(text=json.dumps(told), content_type="application/json")
    return values  # pyright: ignore[reportReturnType]


def add_routes() -> None:
    """ComfyUI takes routes while packs are imported; without a server (a script) there are none."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.post("/patchdit/watch")(watch)
        server.routes.post("/patchdit/stop")(stop)


add_routes()
