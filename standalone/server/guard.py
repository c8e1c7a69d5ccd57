"""Who may ask, how much they may send, and how a refusal reads."""

from __future__ import annotations

import ipaddress
import json
import logging
import math
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from .places import OutsideError

UPLOAD_BYTES = 100 * 2**20  # a clip or a picture
JSON_BYTES = 5 * 2**20  # a prompt with its workflow, settings
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def make_guard(listen: str):
    """The outermost middleware: only this host's own pages ask, and refusals are one sentence.

    A page of another site can have a name of its own lead to 127.0.0.1 (DNS rebinding), so the
    Host header must name this machine; with `listen` beyond loopback any bare address does.
    """

    @web.middleware
    async def guard(request: web.Request, handler) -> web.StreamResponse:
        refusal = _refusal(request, listen)
        if refusal:
            logging.warning("Refused %s: %s", _quoted(request), refusal)
            return web.Response(status=403, text=refusal)
        try:
            return await handler(request)
        except OutsideError as error:
            return web.Response(status=403, text=str(error))
        except web.HTTPException:
            raise
        except OSError as error:
            logging.warning("%s: %s", _quoted(request), error)
            return web.Response(status=400, text=f"The disk refused ({error.strerror or error}).")

    return guard


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every answer; what may change between two starts is asked for again."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if not request.path.startswith("/assets/"):
        response.headers.setdefault("Cache-Control", "no-cache")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; a ValueError where it is none that a browser would read back.

    So numbers that JSON has no words for (NaN, 1e999) are refused.
    """
    try:
        return json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


async def read_json(request: web.Request, limit: int = JSON_BYTES) -> Any:
    """The JSON of a request's body; a 400 or 413 that says what is wrong with it."""
    body = await read_body(request, limit)
    try:
        return parse_json(body)
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"The request is not whole JSON ({error}).") from error


async def read_object(request: web.Request, limit: int = JSON_BYTES) -> dict[str, Any]:
    """As `read_json`, for a body that must be a JSON object."""
    value = await read_json(request, limit)
    if not isinstance(value, dict):
        raise web.HTTPBadRequest(text=f"Got {type(value).__name__}; need a JSON object.")
    return value


async def read_body(request: web.Request, limit: int) -> bytes:
    """The body, never more than `limit` bytes of it; longer ones are a 413."""
    body = bytearray()
    async for chunk in request.content.iter_chunked(2**16):
        body += chunk
        if len(body) > limit:
            text = f"The request has more than {limit / 2**20:g} MB, which is the most here."
            raise web.HTTPRequestEntityTooLarge(limit, len(body), text=text)
    return bytes(body)


def _refusal(request: web.Request, listen: str) -> str | None:
    host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
    if not _is_ours(host, listen):
        return f"Host {host[:100]!r} is not this machine; open the address that the terminal names."
    if origin is not None and _netloc(origin) != host.lower():
        return f"Pages of {origin[:100]!r} may not ask this host for anything."
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        # a link on another site may open the canvas, but not embed or call it
        opens = request.headers.get("Sec-Fetch-Dest") == "document" and request.method == "GET"
        if not opens:
            return "Pages of other sites may not ask this host for anything."
    return None


def _quoted(request: web.Request) -> str:
    """What is asked for, with nothing in it that steers a terminal."""
    return f"{request.method} {request.raw_path[:200]!r}"


def _is_ours(host: str, listen: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in LOOPBACK:
        return True
    return listen not in LOOPBACK and (name == listen.lower() or _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _refuse_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
