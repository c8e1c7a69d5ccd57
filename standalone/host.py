"""Stand-in for what nodes take from ComfyUI's machinery: progress, interrupt, device, folders.

Everything hangs on the `Session` of the run in progress, so that two runs in one process do not
share a folder or a cancel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch

ProgressReport = Callable[[str | None, float, float], None]
ClipReport = Callable[[str | None, dict[str, Any]], None]


class InterruptProcessingException(Exception):
    """Somebody cancelled the run."""


@dataclass(frozen=True)
class Session:
    """Where one run reads and writes, who hears of its progress, and how to stop it.

    `on_progress(node id, value, total)` hears every step of a long node. While `is_watched()`,
    `on_clip(node id, message)` hears of whole clips. A node in `to_stop` ends its run at the next
    step with what is predicted by then, and is put into `stopped`.
    """

    input_directory: Path = Path("input")
    output_directory: Path = Path("output")
    temp_directory: Path = Path(gettempdir()) / "patchdit"
    on_progress: ProgressReport = lambda node, value, total: None
    interrupt: threading.Event = field(default_factory=threading.Event)
    on_clip: ClipReport = lambda node, message: None
    is_watched: Callable[[], bool] = lambda: False
    to_stop: set[str | None] = field(default_factory=set)
    stopped: set[str | None] = field(default_factory=set)


_session: ContextVar[Session] = ContextVar("session")
_node: ContextVar[str | None] = ContextVar("node", default=None)


def session() -> Session:
    """The session of the run in progress; outside a run, one with the default folders."""
    return _session.get(Session())


@contextmanager
def use_session(value: Session) -> Iterator[Session]:
    token = _session.set(value)
    try:
        yield value
    finally:
        _session.reset(token)


@contextmanager
def executing(node: str) -> Iterator[None]:
    """Mark the node that progress reports belong to."""
    token = _node.set(node)
    try:
        yield
    finally:
        _node.reset(token)


def executing_node() -> str | None:
    """The id of the node that runs."""
    return _node.get()


class ProgressBar:
    """As `comfy.utils.ProgressBar`, without its previews."""

    def __init__(self, total: int, node_id: str | None = None):
        self.total = total
        self.current = 0
        self.node_id = node_id or _node.get()

    def update_absolute(self, value: int, total: int | None = None) -> None:
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        session().on_progress(self.node_id, self.current, self.total)

    def update(self, value: int) -> None:
        self.update_absolute(self.current + value)


def throw_if_interrupted() -> None:
    """Raise InterruptProcessingException once somebody has cancelled."""
    if session().interrupt.is_set():
        raise InterruptProcessingException("The run was cancelled.")


def get_torch_device() -> torch.device:
    """Where models run: the first GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
