"""The command line behind canvas.py: the ComfyUI canvas for this pack, without ComfyUI."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web

from ..node_list import Entrypoint, list_nodes
from .app import Host
from .guard import LOOPBACK
from .pack import HOST_NAME, frontend_folder
from .places import Folders


def main(entrypoint: Entrypoint, arguments: Sequence[str] | None = None) -> int:
    """Serve until stopped; give the exit status (2: something for the user to mend)."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if importlib.util.find_spec("comfy_api") is not None:
        logging.error("ComfyUI is importable here; open the pack in ComfyUI itself.")
        return 2
    with TemporaryDirectory(prefix="patchdit-canvas-") as temporary:
        try:
            _serve(entrypoint, options, Path(temporary))
        except OSError as error:
            logging.error("Cannot start (%s); mend that, --port or --base-directory.", error)
            return 2
    return 0


def _serve(entrypoint: Entrypoint, options: argparse.Namespace, temporary: Path) -> None:
    folders = Folders(options.base_directory.resolve(), temporary)
    classes = asyncio.run(list_nodes(entrypoint))
    host = Host(folders, classes, frontend_folder(), options.listen)
    name = f"[{options.listen}]" if ":" in options.listen else options.listen
    logging.info("%s: runs this pack's nodes and a few of ComfyUI's, no others.", HOST_NAME)
    logging.info("Files are kept in %s.", folders.base)
    if options.listen not in LOOPBACK:
        logging.warning("Everybody who reaches %s can run workflows here.", name)
    logging.info("Open http://%s:%d in a browser; Ctrl-C stops.", name, options.port)
    web.run_app(
        host.app,
        host=options.listen,
        port=options.port,
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
