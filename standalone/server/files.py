"""Pictures and videos: showing what nodes read and wrote, and taking in what a person brings."""

from __future__ import annotations

import asyncio
import mimetypes
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
from aiohttp import BodyPartReader, web

from ..images import decode
from .guard import UPLOAD_BYTES, parse_json
from .places import Folders, write_whole

HARMLESS = ("image/", "video/", "audio/", "text/plain", "application/json")
FIELD_BYTES = 1000  # of a form field that is no file
SIDE = 2048  # pixels of a light copy's longer side at most
FORMATS = {"webp": cv2.IMWRITE_WEBP_QUALITY, "jpeg": cv2.IMWRITE_JPEG_QUALITY}


class Files:
    """Routes over the folders that nodes read and write."""

    def __init__(self, folders: Folders):
        self.folders = folders
        self._writing = asyncio.Lock()  # or two would find one name free

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/view", self.view),
            web.post("/upload/image", self.upload),
            web.post("/upload/mask", self.upload_mask),
            web.get("/internal/files/{type}", self.list_files),
        ]

    async def view(self, request: web.Request) -> web.StreamResponse:
        """?filename=&subfolder=&type=, whole or in ranges; &preview=webp;90 gives a light copy."""
        query = request.query
        name, kind = query.get("filename", ""), query.get("type", "output")
        path = self.folders.find(name, kind, query.get("subfolder", ""))
        if not path.is_file():
            raise web.HTTPNotFound(text=f"There is no file {name[:200]!r} in {kind}.")
        if "preview" in query or query.get("channel", "rgba") != "rgba":
            converted = await asyncio.to_thread(
                convert, path, query.get("preview", ""), query.get("channel", "rgba")
            )
            if converted:
                body, content_type = converted
                return web.Response(body=body, content_type=content_type, headers=_named(path.name))
        headers = {"Content-Type": content_type_of(path)}
        return web.FileResponse(path, headers=headers | _named(path.name))

    async def upload(self, request: web.Request) -> web.Response:
        """A form with the file as `image`; `type` input or temp, `subfolder`, `overwrite`."""
        return await self._keep(*await _read_form(request))

    async def upload_mask(self, request: web.Request) -> web.Response:
        """The same for a mask drawn over `original_ref`: that picture, with the mask's alpha."""
        fields, name, data = await _read_form(request)
        original = self._referred(fields.get("original_ref", ""))
        masked = await asyncio.to_thread(with_alpha, original, data)
        return await self._keep(fields, name, masked)

    def _referred(self, text: str) -> Path:
        """The file of {"filename", "subfolder", "type"}, in JSON."""
        try:
            told = parse_json(text)
            named = [told["filename"], told.get("type", "output"), told.get("subfolder", "")]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            text = "Need original_ref: the filename, subfolder and type of the picture in JSON."
            raise web.HTTPBadRequest(text=text) from error
        if not all(isinstance(word, str) for word in named):
            raise web.HTTPBadRequest(text="original_ref has to hold texts.")
        path = self.folders.find(*named)
        if not path.is_file():
            raise web.HTTPNotFound(text=f"There is no file {named[0][:200]!r} in {named[1]}.")
        return path

    async def _keep(self, fields: dict[str, str], name: str, data: bytes) -> web.Response:
        kind = fields.get("type", "input")
        if kind not in ("input", "temp"):
            raise web.HTTPBadRequest(text=f"Type is {kind!r}; files may go to input or temp.")
        if not name:
            raise web.HTTPBadRequest(text="The form has no file; need one in its field 'image'.")
        path = self.folders.find(name, kind, fields.get("subfolder", ""))
        overwrite = fields.get("overwrite") in ("true", "1")
        async with self._writing:
            path = await asyncio.to_thread(_write, path, data, overwrite)
        folder = path.parent.relative_to(self.folders.by_type[kind].resolve()).as_posix()
        subfolder = "" if folder == "." else folder
        return web.json_response({"name": path.name, "subfolder": subfolder, "type": kind})

    async def list_files(self, request: web.Request) -> web.Response:
        """Names of the files in a folder, the newest first."""
        folder = self.folders.by_type.get(request.match_info["type"])
        if folder is None:
            raise web.HTTPBadRequest(text="Need input, output or temp.")
        files = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
        files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return web.json_response([path.name for path in files])


def content_type_of(path: Path) -> str:
    """The media type; what a browser would run in our name is only for download."""
    guessed = mimetypes.guess_type(path.name)[0] or ""
    harmless = guessed.startswith(HARMLESS) and guessed != "image/svg+xml"
    return guessed if harmless else "application/octet-stream"


def convert(path: Path, preview: str, channel: str) -> tuple[bytes, str] | None:
    """A picture as small webp or jpeg ("webp;90"), or one channel of it ("rgb", "a") as PNG.

    None for what OpenCV does not open: it is shown as it is.
    """
    pixels = decode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        return None
    has_alpha = pixels.ndim == 3 and pixels.shape[2] == 4
    if channel == "a":
        alpha = pixels[..., 3] if has_alpha else np.full(pixels.shape[:2], 255, np.uint8)
        pixels = np.dstack([np.zeros((*alpha.shape, 3), alpha.dtype), alpha])
    elif channel == "rgb" and has_alpha:
        pixels = np.ascontiguousarray(pixels[..., :3])
    name, _, quality = preview.partition(";")
    if not preview:
        return cv2.imencode(".png", pixels)[1].tobytes(), "image/png"
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    if scale < 1:
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    name = name if name in FORMATS and channel != "a" else "webp"
    if pixels.dtype != np.uint8:
        pixels = (pixels / 257).astype(np.uint8)
    level = int(quality) if quality.isascii() and quality.isdigit() and len(quality) < 4 else 90
    ok, data = cv2.imencode(f".{name}", pixels, [FORMATS[name], min(max(level, 1), 100)])
    return (data.tobytes(), f"image/{name}") if ok else None


def with_alpha(original: Path, mask: bytes) -> bytes:
    """A picture as PNG whose alpha is that of another of its size; a 400 where one is no picture.

    A mask without alpha hides nothing.
    """
    pixels = decode(np.fromfile(original, np.uint8), cv2.IMREAD_COLOR)
    drawn = decode(np.frombuffer(mask, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or drawn is None:
        raise web.HTTPBadRequest(text="The mask or its picture cannot be read; need PNG or JPEG.")
    if drawn.shape[:2] != pixels.shape[:2]:
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (drawn, pixels)]
        raise web.HTTPBadRequest(
            text="The mask is {}, its picture {}; need one size.".format(*sizes)
        )
    alpha = drawn[..., 3] if drawn.ndim == 3 and drawn.shape[2] == 4 else None
    if alpha is None:
        alpha = np.full(pixels.shape[:2], 255, np.uint8)
    if alpha.dtype != np.uint8:
        alpha = (alpha / 257).astype(np.uint8)
    return cv2.imencode(".png", np.dstack([pixels, alpha]))[1].tobytes()


async def _read_form(request: web.Request) -> tuple[dict[str, str], str, bytes]:
    """Small text fields, and the name and bytes of the file; more than the most is a 413."""
    if not request.content_type.startswith("multipart/"):
        raise web.HTTPBadRequest(text=f"Got {request.content_type}; need multipart/form-data.")
    fields: dict[str, str] = {}
    name, data = "", b""
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise web.HTTPBadRequest(text="The form holds a form; need plain fields.")
            if part.name == "image" and part.filename:
                name, data = part.filename, await _read_part(part, UPLOAD_BYTES)
            else:
                value = await _read_part(part, FIELD_BYTES)
                fields[part.name or ""] = value.decode("utf-8", "replace")
    except (ValueError, AssertionError) as error:  # how aiohttp tells of a broken form
        raise web.HTTPBadRequest(text=f"The form is broken ({error}).") from error
    return fields, name, data


async def _read_part(part: BodyPartReader, limit: int) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(2**16):
        data += chunk
        if len(data) > limit:
            text = f"A field has more than {limit:,} bytes, which is the most here."
            raise web.HTTPRequestEntityTooLarge(limit, len(data), text=text)
    return bytes(data)


def _write(path: Path, data: bytes, overwrite: bool) -> Path:
    """Write to the path, or else to "name (1).ext" and so on; give the one that has the bytes."""
    free, number = path, 0
    while free.exists() and not overwrite and not _holds(free, data):
        number += 1
        free = path.with_name(f"{path.stem} ({number}){path.suffix}")
    if not _holds(free, data):
        write_whole(free, data)
    return free


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def _named(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}"}
