"""One job in a worker thread, told to its browser as ComfyUI tells it."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
import traceback
from typing import Any

from ..executor import NodeError, run
from ..graph import Node
from ..host import InterruptProcessingException, Session, use_session
from .jobs import Job, now
from .places import Folders, drop_oldest
from .sockets import CLIP, Clients, named

PAUSE = 0.05  # seconds at least between two progress messages of a node
TEMP_BYTES = 2**30  # of what earlier jobs left in the temporary folder
STATES = 50  # nodes that a progress message tells of, the latest ones


class Runner:
    """Runs jobs, one at a time; `interrupt` stops the running one at its next step."""

    def __init__(self, folders: Folders, clients: Clients):
        self.folders = folders
        self.clients = clients
        self.story: Story | None = None

    async def work(self, job: Job) -> None:
        """Run a job to its end, good or bad; whatever happens is told, nothing is raised."""
        story = self.story = Story(job, self.clients, asyncio.get_running_loop())
        thread = asyncio.ensure_future(asyncio.to_thread(self._run, job, story))
        try:
            await asyncio.shield(thread)
        finally:
            await thread  # whoever cancels this waits for the step under way
            self.story = None

    def interrupt(self, id: str | None = None) -> bool:
        """Stop the running job, or the one of this id if it runs; say whether one was stopped."""
        story = self.story
        if story is None or id not in (None, story.job.id):
            return False
        story.interrupt.set()
        return True

    def stop(self, id: str, node: str) -> bool:
        """Have a node of the running job end with what it predicts; say whether that job runs."""
        story = self.story
        if story is None or id != story.job.id:
            return False
        story.to_stop.add(node)
        return True

    def running_node(self, client: str) -> tuple[str, str] | None:
        """Prompt and node of this client's job, for a browser that comes back."""
        story = self.story
        if story is None or story.job.client != client or story.node is None:
            return None
        return story.job.id, story.node.id

    def _run(self, job: Job, story: Story) -> None:
        places = self.folders.by_type
        session = Session(
            places["input"],
            places["output"],
            places["temp"],
            on_progress=story.progress,
            interrupt=story.interrupt,
            on_clip=story.clip,
            is_watched=story.is_watched,
            to_stop=story.to_stop,
        )
        story.begin()
        try:
            drop_oldest(self.folders.temp, TEMP_BYTES)
            with use_session(session):
                extra = job.extra_data.get("extra_pnginfo")
                asyncio.run(run(job.graph, extra, story.start, story.done))
            story.end("execution_success")
        except InterruptProcessingException:
            story.interrupted()
        except NodeError as error:
            story.failed(error.node, error.__cause__ or error)
        except Exception as error:
            # A defect of ours must not stop the queue; it is told like a node's.
            logging.exception("The host failed in a way that it should not.")
            story.failed(story.node, error)


class Story:
    """What one job's browser hears; methods are called in the worker thread."""

    def __init__(self, job: Job, clients: Clients, loop: asyncio.AbstractEventLoop):
        self.job = job
        self.interrupt = threading.Event()
        self.to_stop: set[str | None] = set()
        self.node: Node | None = None
        self._clients = clients
        self._loop = loop
        self._states: dict[str, dict[str, Any]] = {}
        self._told = 0.0

    def begin(self) -> None:
        self._record("execution_start", {})
        self._record("execution_cached", {"nodes": []})

    def start(self, node: Node) -> None:
        self.node = node
        self._tell("executing", {"node": node.id, "display_node": node.id})
        self._states[node.id] = {"value": 0, "max": 1, "state": "running"}
        self._tell_states()

    def progress(self, node: str | None, value: float, total: float) -> None:
        if node is None:  # not told by a node
            return
        self._states[node] = {"value": value, "max": total, "state": "running"}
        if value < total and time.monotonic() - self._told < PAUSE:
            return
        self._told = time.monotonic()
        self._tell("progress", {"node": node, "value": value, "max": total})
        self._tell_states()

    def is_watched(self) -> bool:
        """Whether the script that plays clips listens."""
        return self._clients.is_watching(self.job.client)

    def clip(self, node: str | None, message: dict[str, Any]) -> None:
        self._tell(CLIP, {"node": node, **message})

    def done(self, node: Node, shown: dict[str, list]) -> None:
        total = self._states[node.id]["max"]
        self._states[node.id] = {"value": total, "max": total, "state": "finished"}
        self._tell_states()
        if shown:
            output = plain(shown)
            self.job.outputs[node.id] = output
            self._tell("executed", {"node": node.id, "display_node": node.id, "output": output})

    def interrupted(self) -> None:
        self.end("execution_interrupted", self._where(self.node), everybody=True)

    def failed(self, node: Node | None, error: BaseException) -> None:
        if node is not None and node.id in self._states:
            self._states[node.id]["state"] = "error"
            self._tell_states()
        module = type(error).__module__
        name = type(error).__qualname__
        told = {
            "exception_message": str(error) or name,
            "exception_type": name if module == "builtins" else f"{module}.{name}",
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {},
            "current_outputs": [],
        }
        self.end("execution_error", self._where(node) | told)

    def end(self, event: str, data: dict | None = None, everybody: bool = False) -> None:
        self._record(event, data or {}, everybody)
        self._tell("executing", {"node": None})

    def _where(self, node: Node | None) -> dict[str, Any]:
        executed = [id for id, state in self._states.items() if state["state"] == "finished"]
        told = {"node_id": None, "node_type": None, "executed": executed}
        return told | ({"node_id": node.id, "node_type": node.schema.node_id} if node else {})

    def _tell_states(self) -> None:
        latest = list(self._states.items())[-STATES:]
        prompt = {"prompt_id": self.job.id}
        nodes = {id: {**state, **named(id), **prompt} for id, state in latest}
        self._tell("progress_state", {"nodes": nodes})

    def _record(self, event: str, data: dict, everybody: bool = False) -> None:
        """Tell, and remember for the history."""
        data = {"prompt_id": self.job.id, **data, "timestamp": now()}
        self._loop.call_soon_threadsafe(self.job.messages.append, (event, data))
        self._tell(event, data, everybody)

    def _tell(self, event: str, data: dict, everybody: bool = False) -> None:
        client = self.job.client
        if everybody or client is not None:
            data = {"prompt_id": self.job.id, **data}
            to = None if everybody else client
            self._loop.call_soon_threadsafe(self._clients.send, event, data, to)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: what JSON has no word for becomes text, NaN becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
