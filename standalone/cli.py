"""The command line behind run.py: run a workflow file with this pack and no ComfyUI.

Exit status: 0 done, 1 a defect in a node (with its traceback), 2 something for the user to mend
(one sentence each on stderr), 130 cancelled.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from .contact_sheet import write_contact_sheet
from .executor import NodeError, run
from .folders import FileError
from .graph import Graph, Node, NodeClasses, WorkflowError, read_graph
from .host import InterruptProcessingException, Session, use_session
from .node_list import Entrypoint, list_nodes
from .settings import apply_settings, settable
from .ui_format import is_ui_format, to_api_format

BAR = "{desc} {n_fmt}/{total_fmt} |{bar:30}| {elapsed} gone, {remaining} left"
USER_ERRORS = (
    ValueError,
    OSError,
    MemoryError,
)  # what nodes raise for input that somebody can mend


def main(entrypoint: Entrypoint, arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; give the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if importlib.util.find_spec("comfy_api") is not None:
        return _complain("ComfyUI is importable here; run the workflow in ComfyUI itself.")
    try:
        status = _run(entrypoint, options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read our list has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InterruptProcessingException, KeyboardInterrupt):
        return _complain("The run was cancelled.", 130)
    except (WorkflowError, FileError) as error:
        return _complain(str(error))
    except NodeError as error:
        if isinstance(error.__cause__, USER_ERRORS):
            return _complain(str(error))
        logging.exception("A node failed in a way that it should not.")
        return 1


def read_json(path: Path) -> Any:
    """What a workflow file holds; a file that is no whole JSON is a WorkflowError."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors add a mark
    except (OSError, UnicodeDecodeError) as error:
        raise WorkflowError(f"Cannot read {path} ({error}); need a workflow JSON file.") from error
    except json.JSONDecodeError as error:
        raise WorkflowError(
            f"{path} is not whole JSON (line {error.lineno}: {error.msg}); export it again."
        ) from error
    except (RecursionError, ValueError) as error:
        raise WorkflowError(
            f"{path} is nested too deep, or has numbers too long, to be a workflow."
        ) from error


def graph_of(workflow: Any, classes: NodeClasses) -> tuple[Graph, dict | None]:
    """The graph of a workflow in either format, and the canvas form to embed where it has one."""
    if is_ui_format(workflow):
        return read_graph(to_api_format(workflow, classes), classes), {"workflow": workflow}
    return read_graph(workflow, classes), None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description="Run a workflow without ComfyUI.")
    parser.add_argument("workflow", type=Path, help="workflow JSON, API or UI format")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="NODE.INPUT=VALUE",
        action="append",
        default=[],
        help="change an input; NODE is an id, a title or a class type (repeatable)",
    )
    parser.add_argument("--output", type=Path, default=Path("output"), help="where files go")
    parser.add_argument("--input", type=Path, default=Path("input"), help="where Load nodes look")
    parser.add_argument("--list", action="store_true", help="list what --set can change, and stop")
    return parser


def _run(entrypoint: Entrypoint, options: argparse.Namespace) -> int:
    workflow = read_json(options.workflow)
    with TemporaryDirectory(prefix="patchdit-") as temporary, _Progress() as progress:
        session = Session(options.input, options.output, Path(temporary), progress.report)
        with use_session(session):
            graph, canvas = graph_of(workflow, asyncio.run(list_nodes(entrypoint)))
            apply_settings(graph, options.settings)
            if options.list:
                _list(graph)
                return 0
            with _cancel_on_ctrl_c(session):
                shown = asyncio.run(run(graph, canvas, progress.start))
    for path in _saved(shown, options.output):
        print(path)
        if path.suffix == ".mp4":
            print(write_contact_sheet(path))
    return 0


@contextmanager
def _cancel_on_ctrl_c(session: Session) -> Iterator[None]:
    """Ctrl-C asks the run to stop at its next step; a second one stops it at once."""

    def cancel(*_) -> None:
        session.interrupt.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _saved(shown: dict[str, dict[str, list]], output: Path) -> list[Path]:
    return [
        output / file["subfolder"] / file["filename"]
        for by_kind in shown.values()
        for files in by_kind.values()
        for file in files
        if isinstance(file, dict) and file.get("type") == "output"
    ]


def _list(graph: Graph) -> None:
    for node in graph.nodes.values():
        print(f"{node.id}  {node.title}  ({node.schema.node_id})")
        for name, now in settable(node):
            print(f"    {name} = {now}")


def _complain(message: str, status: int = 2) -> int:
    print(message, file=sys.stderr)
    return status


class _Progress:
    """A bar for every node that reports steps."""

    def __init__(self):
        self.titles: dict[str | None, str] = {}
        self.bar: tqdm | None = None
        self.node: str | None = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_) -> None:
        self._close()

    def start(self, node: Node) -> None:
        self._close()
        self.titles[node.id] = node.title

    def report(self, node: str | None, value: float, total: float) -> None:
        if self.bar is None or node != self.node or total != self.bar.total or value < self.bar.n:
            self._close()
            self.node = node
            title = self.titles.get(node, "Working")
            self.bar = tqdm(total=total, desc=title, bar_format=BAR, mininterval=0)
        self.bar.update(value - self.bar.n)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None
