"""ComfyUI's server: whole clips go out to the canvas, and a request to stop comes in.

A browser says by `POST /patchdit/watch {"client_id"}` that our script plays clips there; others
get core's own preview. `POST /patchdit/stop {"prompt_id", "node_id"}` asks a node to stop.
Our own sampler shows its clips itself; on our MODELs a wrapper shows those of all other samplers.
B batch, C channels, T/H/W latent frames/rows/columns.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.patcher_extension
from aiohttp import web
from comfy.cli_args import LatentPreviewMethod, args
from comfy_execution.utils import get_executing_context
from server import PromptServer
from torch import Tensor

from .facts import facts_of, stride_of
from .previews import EVENT, ClipShow, Colours
from .stopping import Stops

STOPS = Stops()
WATCHING: set[str] = set()  # client ids
WRAPPER = "patchdit_clips"  # the key of `show_run` among a MODEL's wrappers

Show = Callable[[int, Tensor], None]  # steps done, x0_BCTHW in model space


def showing_clips(model: Any) -> Any:
    """The same MODEL, whose runs in core's and other packs' samplers show their clips too."""
    kind = comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE
    model.add_wrapper_with_key(kind, WRAPPER, show_run)
    return model


def other_wrappers(model: Any) -> dict[str, dict[Any, list]]:
    """What is wrapped round a MODEL beside `show_run`, which computes nothing: by kind and key."""
    return {
        kind: {key: wrappers for key, wrappers in keyed.items() if key != WRAPPER}
        for kind, keyed in model.wrappers.items()
        if keyed.keys() != {WRAPPER}
    }


def show_run(executor, guider, sigmas, extra_args, callback, *rest, **named):
    """Around SAMPLER_SAMPLE: what a sampler tells of its steps shows as a clip as well.

    Our own sampler tells of none, since it shows them itself. The others' nodes are not ours, so
    that one that was stopped early would be cached as if it were whole: they cannot be stopped.
    """
    run, model = partial(executor, guider, sigmas, extra_args), guider.model_patcher
    fps, total = facts_of(model).fps, len(sigmas) - 1
    show = callback and clip_show(model, total, fps, stops=False)
    if not show:
        return run(callback, *rest, **named)

    def told(step: int, x0: Tensor | None, *more: Any, **named: Any) -> None:
        if x0 is not None:  # first: core's picture then comes to a node whose clip plays
            show(min(step + 1, total), x0)
        callback(step, x0, *more, **named)

    return run(told, *rest, **named)


def clip_show(model: Any, total: int, fps: float, stops: bool = True) -> Show | None:
    """Shows the whole clip on the node that runs, step by step; None where nobody plays it."""
    send = clip_sender(stops)
    if send is None:
        return None
    space = model.model.latent_format
    reshape = getattr(space, "latent_rgb_factors_reshape", None)
    clip = ClipShow(send, clip_colours(space), total, fps, stride_of(model))

    def show(done: int, x0_BCTHW: Tensor) -> None:
        try:
            clip.show(done, x0_BCTHW if reshape is None else reshape(x0_BCTHW))
        except Exception:  # a picture is not worth a run
            logging.warning("No preview of this step.", exc_info=True)

    return show


def clip_colours(latent_format: Any) -> Colours | None:
    """The latent format's own; None where it has none, or the user wants no previews."""
    factors = latent_format.latent_rgb_factors
    if args.preview_method == LatentPreviewMethod.NoPreviews or factors is None:
        return None
    return factors, latent_format.latent_rgb_factors_bias


def clip_sender(stops: bool = True) -> Callable[[dict[str, Any]], None] | None:
    """Sends messages of the node that runs to its browser; None where nobody plays clips.

    `stops` says whether that node can be stopped early.
    """
    server, where = getattr(PromptServer, "instance", None), get_executing_context()
    client = getattr(server, "client_id", None)
    if server is None or where is None or client not in WATCHING or client not in server.sockets:
        return None
    place = {"node": where.node_id, "prompt_id": where.prompt_id, "stops": stops}
    return partial(_send, server, client, place)


def _send(server: Any, client: str, place: dict[str, Any], told: dict[str, Any]) -> None:
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
