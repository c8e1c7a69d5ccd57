"""The command line behind canvas.py: the ComfyUI canvas for this pack, without ComfyUI."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from ..node_list import Entrypoint, list_nodes
from .app import Host
from .guard import LOOPBACK
from .pack import HOST_NAME, frontend_folder
from .places import Folders, emptied


def main(
    entrypoint: Entrypoint, replaced: Iterable[Any] = (), arguments: Sequence[str] | None = None
) -> int:
    """Serve until stopped; give the exit status (2: something for the user to mend)."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if importlib.util.find_spec("comfy_api") is not None:
        logging.error("ComfyUI is importable here; open the pack in ComfyUI itself.")
        return 2
    base = options.base_directory.resolve()
    family = socket.AF_INET6 if ":" in options.listen else socket.AF_INET
    try:
        with socket.create_server((options.listen, options.port), family=family) as listening:
            options.port = listening.getsockname()[1]
            # The port is ours, so whichever host kept files under its number has ended.
            with emptied(base / "temp" / str(options.port)) as temporary:
                classes = asyncio.run(list_nodes(entrypoint))
                folders = Folders(base, temporary)
                host = Host(folders, classes, frontend_folder(), options.listen, replaced)
                _serve(host, options, listening)
    except (OSError, OverflowError) as error:
        logging.error("Cannot start (%s); mend that, --port or --base-directory.", error)
        return 2
    return 0


def _serve(host: Host, options: argparse.Namespace, listening: socket.socket) -> None:
    name = f"[{options.listen}]" if ":" in options.listen else options.listen
    logging.info("%s: runs this pack's nodes and a few of ComfyUI's, no others.", HOST_NAME)
    logging.info("Files are kept in %s.", host.folders.base)
    if options.listen not in LOOPBACK:
        logging.warning("Everybody who reaches %s can run workflows here.", name)
    logging.info("Open http://%s:%d in a browser; Ctrl-C stops.", name, options.port)
    web.run_app(
        host.app,
        sock=listening,
        print=None,
        access_log=None,
        shutdown_timeout=5,  # seconds for answers under way; a film that is watched goes on longer
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="canvas.py", description="The ComfyUI canvas for this pack, without ComfyUI."
    )
    parser.add_argument("--port", type=int, default=8188, help="where to listen (8188)")
    parser.add_argument(
        "--listen", default="127.0.0.1", help="an address that other machines reach (none)"
    )
    parser.add_argument(
        "--base-directory",
        type=Path,
        default=Path("canvas"),
        help="folder for input, output, workflows and settings (./canvas)",
    )
    return parser
