"""The queue that all browsers share, what has run, and both in the forms that the frontend reads.

One job runs at a time. Everything here belongs to the event loop; only `running` uses a thread.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ..graph import Graph

WAITING = 100  # jobs in the queue
REMEMBERED = 100  # jobs in the history
REMEMBERED_BYTES = 50 * 2**20  # of the requests that brought them
SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")  # the frontend sends them to anybody
ENDS = {
    "execution_success": "completed",
    "execution_error": "failed",
    "execution_interrupted": "cancelled",
}
SHOWABLE = ("images", "video", "audio", "text")


@dataclass(order=True)
class Job:
    """One prompt on its way, which came in a request of `size` bytes.

    `messages` are what its browser heard, `outputs` what nodes show.
    """

    number: float
    id: str = field(compare=False)
    graph: Graph = field(compare=False)
    extra_data: dict[str, Any] = field(compare=False)
    size: int = field(compare=False)
    outputs: dict[str, Any] = field(default_factory=dict, compare=False)
    messages: list[tuple[str, dict]] = field(default_factory=list, compare=False)

    @property
    def client(self) -> str | None:
        return self.extra_data.get("client_id")

    def as_list(self) -> list:
        """The job as /queue and /history list it."""
        prompt, outputs = self.graph.prompt, self.graph.outputs()
        return [self.number, self.id, prompt, self.extra_data, outputs]

    @property
    def status(self) -> str:
        """How it ended, in the words of /jobs."""
        return ENDS.get(self.messages[-1][0], "failed") if self.messages else "failed"

    def as_history(self) -> dict[str, Any]:
        done = self.status == "completed"
        status = {
            "status_str": "success" if done else "error",
            "completed": done,
            "messages": self.messages,
        }
        return {
            "prompt": self.as_list(),
            "outputs": self.outputs,
            "status": status,
            "meta": {id: _named(id) for id in self.outputs},
        }


class JobQueue:
    """What waits, what runs and what has run. `work(job)` does one; `on_change` hears of all."""

    def __init__(self, work: Callable[[Job], Awaitable[None]], on_change: Callable[[], None]):
        self.work = work
        self.on_change = on_change
        self.waiting: list[Job] = []
        self.running: Job | None = None
        self.history: dict[str, Job] = {}
        self._counter = 0
        self._filled = asyncio.Event()

    def next_number(self, front: bool) -> float:
        """The place of a new job: after all others, or before them."""
        self._counter += 1
        return -self._counter if front else self._counter

    def knows(self, id: str) -> bool:
        running = self.running is not None and self.running.id == id
        return running or id in self.history or any(job.id == id for job in self.waiting)

    @property
    def remaining(self) -> int:
        return len(self.waiting) + (self.running is not None)

    def put(self, job: Job) -> None:
        heapq.heappush(self.waiting, job)
        self._filled.set()
        self.on_change()

    def remove(self, unwanted: Callable[[Job], bool]) -> None:
        """Take jobs off the queue that have not begun."""
        kept = [job for job in self.waiting if not unwanted(job)]
        if len(kept) < len(self.waiting):
            heapq.heapify(kept)
            self.waiting = kept
            self.on_change()

    async def run(self) -> None:
        """Do one job after another, for ever."""
        while True:
            while not self.waiting:
                self._filled.clear()
                await self._filled.wait()
            job = self.running = heapq.heappop(self.waiting)
            self.on_change()
            try:
                await self.work(job)
            finally:
                self.running = None
                self._remember(job)
                self.on_change()

    def _remember(self, job: Job) -> None:
        """Put a job into the history, from which the oldest go."""
        self.history[job.id] = job
        size = sum(job.size for job in self.history.values())
        while len(self.history) > REMEMBERED or size > REMEMBERED_BYTES:
            size -= self.history.pop(next(iter(self.history))).size

    def list_jobs(self, statuses: set[str]) -> list[dict[str, Any]]:
        """Jobs of these statuses as /jobs lists them, the newest first."""
        running = [self.running] if self.running else []
        listed = [_queued(job, "in_progress") for job in running]
        listed += [_queued(job, "pending") for job in sorted(self.waiting)]
        listed += [_done(job) for job in self.history.values()]
        listed = [job for job in listed if job["status"] in statuses]
        return sorted(listed, key=lambda job: job["create_time"], reverse=True)

    def describe(self, id: str) -> dict[str, Any] | None:
        """One job, with its outputs and workflow once it is done."""
        if id in self.history:
            job = self.history[id]
            entry = job.as_history()
            workflow = {"prompt": job.graph.prompt, "extra_data": job.extra_data}
            more = {"outputs": job.outputs, "execution_status": entry["status"]}
            return _done(job) | more | {"workflow": workflow}
        statuses = {"in_progress", "pending"}
        return next((job for job in self.list_jobs(statuses) if job["id"] == id), None)


def now() -> int:
    """Milliseconds since 1970, as the frontend counts time."""
    return int(time.time() * 1000)


def _queued(job: Job, status: str) -> dict[str, Any]:
    told = {
        "id": job.id,
        "status": status,
        "priority": job.number,
        "create_time": job.extra_data["create_time"],
        "outputs_count": 0,
        "workflow_id": _workflow_id(job),
    }
    return {name: value for name, value in told.items() if value is not None}


def _done(job: Job) -> dict[str, Any]:
    times = {name: data["timestamp"] for name, data in job.messages}
    count, preview = _outputs_summary(job.outputs)
    told = {
        **_queued(job, job.status),
        "execution_start_time": times.get("execution_start"),
        "execution_end_time": next((times[name] for name in ENDS if name in times), None),
        "execution_error": dict(job.messages).get("execution_error"),
        "outputs_count": count,
        "preview_output": preview,
    }
    return {name: value for name, value in told.items() if value is not None}


def _outputs_summary(outputs: dict[str, Any]) -> tuple[int, dict | None]:
    """How many things the nodes show, and the best to stand for all: a saved file if there is."""
    files = [
        {"nodeId": node, "mediaType": kind} | item
        for node, shown in outputs.items()
        for kind, items in shown.items()
        if kind != "animated" and isinstance(items, (list, tuple))
        for item in items
        if isinstance(item, dict)
    ]
    shown = [file for file in files if file["mediaType"] in SHOWABLE]
    saved = [file for file in shown if file.get("type") == "output"]
    return len(files), next(iter([*saved, *shown]), None)


def _workflow_id(job: Job) -> str | None:
    workflow = (job.extra_data.get("extra_pnginfo") or {}).get("workflow")
    return workflow.get("id") if isinstance(workflow, dict) else None


def _named(id: str) -> dict[str, Any]:
    return {"node_id": id, "display_node": id, "parent_node": None, "real_node_id": id}
