"""What a person keeps: settings, workflows and other small files, in one folder of theirs.

The folder is laid out as ComfyUI's user/default is, so it can be moved there.
"""

from __future__ import annotations

import json
import logging
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from .guard import UPLOAD_BYTES, parse_json, read_body, read_json, read_object
from .places import inside, write_whole

SETTINGS = "comfy.settings.json"
BLANK_FILES = {"user.css": "", "comfy.templates.json": "[]"}  # asked for at every start
DEFAULTS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Notification.ShowVersionUpdates": False,  # of ComfyUI, which this host is not
}


class UserData:
    """Routes over the folder `root`."""

    def __init__(self, root: Path):
        self.root = root.resolve()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/users", self.users),
            web.get("/settings", self.get_settings),
            web.post("/settings", self.post_settings),
            web.get("/settings/{id}", self.get_setting),
            web.post("/settings/{id}", self.post_setting),
            web.get("/user.css", self.get_style),
            web.get("/userdata", self.list_files),
            web.get("/v2/userdata", self.list_all),
            web.get("/userdata/{file}", self.get_file),
            web.post("/userdata/{file}", self.post_file),
            web.delete("/userdata/{file}", self.delete_file),
            web.post("/userdata/{file}/move/{dest}", self.move_file),
        ]

    async def users(self, request: web.Request) -> web.Response:
        return web.json_response({"storage": "server", "migrated": True})

    def settings(self) -> dict[str, Any]:
        """What is stored; a broken file counts as empty, and is kept beside the next one."""
        path = self.root / SETTINGS
        if not path.is_file():
            return {}
        try:
            stored = parse_json(path.read_bytes())
        except ValueError:
            stored = None
        if isinstance(stored, dict):
            return stored
        broken = path.with_suffix(".broken.json")
        logging.warning("%s is no whole JSON object; it is %s now.", path, broken.name)
        path.replace(broken)
        return {}

    def _store(self, settings: dict[str, Any]) -> web.Response:
        write_whole(self.root / SETTINGS, json.dumps(settings, indent=4).encode())
        return web.Response()

    async def get_settings(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(request))

    async def get_setting(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(request).get(request.match_info["id"]))

    def _shown(self, request: web.Request) -> dict[str, Any]:
        """Settings over our defaults: the tutorial is done, unless the page opens a template.

        With it done, the frontend starts from a graph of its own whose nodes are unknown here; a
        page that is told to open a template starts empty instead, which is what we want.
        """
        page = urlsplit(request.headers.get("Referer", ""))
        settings = DEFAULTS | self.settings()
        if "template" in parse_qs(page.query):
            settings["Comfy.TutorialCompleted"] = False
        return settings

    async def post_settings(self, request: web.Request) -> web.Response:
        new = await read_object(request)
        return self._store(self.settings() | new)

    async def post_setting(self, request: web.Request) -> web.Response:
        value = await read_json(request)
        return self._store(self.settings() | {request.match_info["id"]: value})

    async def list_files(self, request: web.Request) -> web.Response:
        """Files under ?dir=, as relative paths, or as objects (full_info) or parts (split)."""
        asked = request.query.get("dir", "")
        if not asked:
            raise web.HTTPBadRequest(text="Need ?dir=, the folder to list.")
        folder = inside(self.root, asked)
        if not folder.is_dir():
            raise web.HTTPNotFound(text=f"There is no folder {asked!r}.")
        found = folder.rglob("*") if _flag(request, "recurse") else folder.glob("*")
        files = sorted(path for path in found if path.is_file() and _is_whole(path))
        if _flag(request, "full_info"):
            return web.json_response([_info(path, folder) for path in files])
        names = [path.relative_to(folder).as_posix() for path in files]
        if _flag(request, "split"):
            return web.json_response([[name, *name.split("/")] for name in names])
        return web.json_response(names)

    async def list_all(self, request: web.Request) -> web.Response:
        """Files and folders under ?path=, folders first."""
        asked = request.query.get("path", "")
        folder = inside(self.root, asked) if asked else self.root
        if not folder.is_dir():
            raise web.HTTPNotFound(text=f"There is no folder {asked!r}.")
        entries = []
        for path in filter(_is_whole, folder.rglob("*")):
            entry = {"name": path.name, "path": path.relative_to(self.root).as_posix()}
            if path.is_dir():
                entries.append(entry | {"type": "directory"})
            elif path.is_file():
                stat = path.stat()
                more = {"type": "file", "size": stat.st_size, "modified": stat.st_mtime}
                entries.append(entry | more)
        entries.sort(key=lambda entry: (entry["type"] != "directory", entry["name"].lower()))
        return web.json_response(entries)

    async def get_style(self, request: web.Request) -> web.StreamResponse:
        return self._answer("user.css")

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        return self._answer(request.match_info["file"])

    async def post_file(self, request: web.Request) -> web.Response:
        data = await read_body(request, UPLOAD_BYTES)
        path = self._free(request, "file")
        write_whole(path, data)
        return self._told(request, path)

    async def delete_file(self, request: web.Request) -> web.Response:
        self._existing(request.match_info["file"]).unlink()
        return web.Response(status=204)

    async def move_file(self, request: web.Request) -> web.Response:
        source = self._existing(request.match_info["file"])
        target = self._free(request, "dest")
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        return self._told(request, target)

    def _answer(self, name: str) -> web.StreamResponse:
        if name in BLANK_FILES and not (self.root / name).exists():
            kind = mimetypes.guess_type(name)[0] or "text/plain"
            return web.Response(text=BLANK_FILES[name], content_type=kind)
        headers = {"Content-Security-Policy": "sandbox"}  # a stored page runs nothing of ours
        return web.FileResponse(self._existing(name), headers=headers)

    def _existing(self, name: str) -> Path:
        path = inside(self.root, name)
        if not path.is_file():
            raise web.HTTPNotFound(text=f"There is no file {name!r}.")
        return path

    def _free(self, request: web.Request, name: str) -> Path:
        """The path to write to; a 409 where it exists and overwrite=false."""
        path = inside(self.root, request.match_info[name])
        if path.exists() and request.query.get("overwrite") == "false":
            raise web.HTTPConflict(text="The file exists; give another name or overwrite it.")
        return path

    def _told(self, request: web.Request, path: Path) -> web.Response:
        info = _info(path, self.root)
        return web.json_response(info if _flag(request, "full_info") else info["path"])


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() == "true"


def _is_whole(path: Path) -> bool:
    """Not what a kill left half written."""
    return not (path.name.startswith(".") and path.name.endswith(".partial"))


def _info(path: Path, relative_to: Path) -> dict[str, Any]:
    stat = path.stat()
    return {
        "path": path.relative_to(relative_to).as_posix(),
        "size": stat.st_size,
        "modified": int(stat.st_mtime * 1000),
        "created": int(stat.st_ctime * 1000),
    }
