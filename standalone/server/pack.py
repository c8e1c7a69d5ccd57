"""What the pack and the frontend bring: nodes, scripts, help, templates, words, blueprints."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from aiohttp import web

from ..graph import NodeClasses
from ..host import get_torch_device
from .guard import UPLOAD_BYTES

PACK = "ComfyUI-PatchDiT"  # the folder name that the registry gives us; help and templates use it
ROOT = Path(__file__).resolve().parents[2]
FIRST_TEMPLATE = "text_to_video"
HOST_NAME = "PatchDiT preview host"
LOG = "The log of this preview host is in the terminal that it was started in."
FEATURES = {"max_upload_size": UPLOAD_BYTES, "node_replacements": True}
WORDS = ("nodeDefs", "commands", "settings")


class Pack:
    """Routes that read the pack; `in_session` is entered while nodes list their choices.

    `replaced` are dataclasses with the fields of ComfyUI's `io.NodeReplace`.
    """

    def __init__(
        self,
        classes: NodeClasses,
        frontend: Path,
        in_session: Callable[[], AbstractContextManager],
        root: Path = ROOT,
        replaced: Iterable[Any] = (),
    ):
        self.classes = classes
        self.frontend = frontend
        self.in_session = in_session
        self.root = root
        self.replaced = list(replaced)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/features", _answer(FEATURES)),
            web.get("/system_stats", self.system_stats),
            web.get("/extensions", self.extensions),
            web.get("/i18n", self.i18n),
            web.get("/workflow_templates", self.templates),
            web.get("/global_subgraphs", self.subgraphs),
            web.get("/global_subgraphs/{id}", self.subgraph),
            web.get("/object_info", self.object_info),
            web.get("/object_info/{id}", self.object_info),
            web.get("/experiment/models", _answer([])),
            web.get("/experiment/models/{folder}", _answer([])),
            web.get("/models", _answer([])),
            web.get("/embeddings", _answer([])),
            web.get("/internal/folder_paths", _answer({})),  # where it would download models to
            web.get("/node_replacements", self.replacements),
            web.get("/internal/logs", _answer(LOG)),
            web.get("/internal/logs/raw", _answer({"entries": [{"t": "", "m": LOG}]})),
            web.patch("/internal/logs/subscribe", _answer({})),
            web.get("/templates/{name}.json", _answer([])),  # core's own templates: none here
        ]

    def folders(self) -> list[web.AbstractRouteDef]:
        """The static folders, the frontend last, since it takes what is left."""
        folders = [
            (f"/extensions/{PACK}", self.root / "web"),
            (f"/api/workflow_templates/{PACK}", self.root / "workflows"),
            ("/", self.frontend),
        ]
        return [web.static(prefix, folder) for prefix, folder in folders if folder.is_dir()]

    async def system_stats(self, request: web.Request) -> web.Response:
        device = get_torch_device()
        free, total = _memory()
        vram_free, vram_total = (
            torch.cuda.mem_get_info(device) if device.type == "cuda" else (free, total)
        )
        system = {
            "os": platform.system().lower(),
            "ram_total": total,
            "ram_free": free,
            "comfyui_version": HOST_NAME,
            "required_frontend_version": None,
            "python_version": sys.version,
            "pytorch_version": torch.__version__,
            "embedded_python": False,
            "argv": ["canvas.py"],
        }
        devices = [
            {
                "name": str(device),
                "type": device.type,
                "index": device.index,
                "vram_total": vram_total,
                "vram_free": vram_free,
                "torch_vram_total": vram_total,
                "torch_vram_free": vram_free,
            }
        ]
        return web.json_response({"system": system, "devices": devices})

    async def extensions(self, request: web.Request) -> web.Response:
        """Addresses of the scripts that the frontend loads: its own, and ours in web/."""
        listed = []
        places = ((self.frontend / "extensions", ""), (self.root / "web", f"{PACK}/"))
        for folder, prefix in places:
            names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.js"))
            listed += [f"/extensions/{prefix}{quote(name)}" for name in names]
        return web.json_response(listed)

    async def i18n(self, request: web.Request) -> web.Response:
        """Our locales/ as the frontend wants them: {"zh": {**main, "nodeDefs": ...}}."""
        told = {}
        for folder in sorted((self.root / "locales").glob("*/")):
            words = _load(folder / "main.json")
            words |= {name: more for name in WORDS if (more := _load(folder / f"{name}.json"))}
            if words:
                told[folder.name] = words
        return web.json_response(told)

    async def templates(self, request: web.Request) -> web.Response:
        names = sorted(path.stem for path in (self.root / "workflows").glob("*.json"))
        names.sort(key=lambda name: name != FIRST_TEMPLATE)
        return web.json_response({PACK: names} if names else {})

    def _blueprints(self) -> dict[str, Path]:
        files = sorted((self.root / "subgraphs").glob("*.json"))
        return {hashlib.sha256(path.name.encode()).hexdigest(): path for path in files}

    async def subgraphs(self, request: web.Request) -> web.Response:
        entries = {id: _blueprint(path) for id, path in self._blueprints().items()}
        return web.json_response(entries)

    async def subgraph(self, request: web.Request) -> web.Response:
        path = self._blueprints().get(request.match_info["id"])
        if path is None:
            raise web.HTTPNotFound(text="There is no such blueprint.")
        data = {"data": path.read_text(encoding="utf-8")}
        return web.json_response(_blueprint(path) | data)

    async def replacements(self, request: web.Request) -> web.Response:
        """Which nodes stand for ids of the past: the frontend offers to put them in."""
        told: dict[str, list] = {}
        for entry in self.replaced:
            told.setdefault(entry.old_node_id, []).append(asdict(entry))
        return web.json_response(told)

    async def object_info(self, request: web.Request) -> web.Response:
        """What every node, or the one of the address, says of itself; files listed anew."""
        id = request.match_info.get("id")
        with self.in_session():
            classes = {n: c for n, c in self.classes.items() if id in (None, n)}
            infos = {name: self._info(node_class) for name, node_class in classes.items()}
        return web.json_response(infos)

    def _info(self, node_class) -> dict[str, Any]:
        """The node's entry; the module says where the frontend looks for its help."""
        info = node_class.GET_NODE_INFO_V1()
        ours = info["name"].startswith("PatchDiT_")
        return info | {"python_module": f"custom_nodes.{PACK}" if ours else "nodes"}


def frontend_folder() -> Path:
    """The static files of the installed frontend."""
    try:
        import comfyui_frontend_package
    except ImportError as error:
        raise FileNotFoundError(
            "The ComfyUI frontend is not installed; run: pip install comfyui-frontend-package"
        ) from error
    return Path(comfyui_frontend_package.__file__).parent / "static"


def _answer(value: Any):
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(value)

    return answer


def _blueprint(path: Path) -> dict[str, Any]:
    info = {"node_pack": f"custom_nodes.{PACK}"}
    return {"source": "custom_node", "name": path.stem, "info": info}


def _load(path: Path) -> dict[str, Any]:
    """A file of words; one that is missing or broken has none, so that the canvas still opens."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        logging.warning("%s is no whole JSON (%s); its words are left out.", path, error)
        return {}


def _memory() -> tuple[int, int]:
    """Free and total bytes of main memory, zeros where the system does not tell."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
    except (AttributeError, OSError, ValueError):
        return 0, 0
