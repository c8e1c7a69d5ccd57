"""The routes that queue prompts, stop them and tell what became of them."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from aiohttp import web

from ..graph import NodeClasses
from .checks import Checked, PromptError, check_prompt
from .guard import read_object
from .jobs import ENDS, SECRETS, WAITING, Job, JobQueue, now
from .places import Folders
from .running import Runner

FAR = 2**53  # the last place in the queue: up to there JSON's readers can count
STATUSES = {"pending", "in_progress", *ENDS.values()}


class Prompts:
    """Routes over the queue; `in_session` is entered while nodes check their inputs."""

    def __init__(
        self,
        queue: JobQueue,
        runner: Runner,
        classes: NodeClasses,
        in_session: Callable[[], AbstractContextManager],
        folders: Folders,
    ):
        self.queue = queue
        self.runner = runner
        self.classes = classes
        self.in_session = in_session
        self.folders = folders

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/prompt", self.remaining),
            web.post("/prompt", self.post_prompt),
            web.get("/queue", self.get_queue),
            web.post("/queue", self.post_queue),
            web.post("/interrupt", self.interrupt),
            web.post("/patchdit/stop", self.stop),
            web.get("/history", self.get_history),
            web.get("/history/{id}", self.get_history),
            web.post("/history", self.post_history),
            web.get("/jobs", self.get_jobs),
            web.get("/jobs/{id}", self.get_job),
            web.post("/jobs/cancel", self.cancel),
            web.post("/jobs/{id}/cancel", self.cancel),
            web.post("/free", self.free),
        ]

    async def remaining(self, request: web.Request) -> web.Response:
        return web.json_response({"exec_info": {"queue_remaining": self.queue.remaining}})

    async def post_prompt(self, request: web.Request) -> web.Response:
        try:
            body = await read_object(request)
        except web.HTTPRequestEntityTooLarge as error:
            told = f"{error.text} The workflow goes with its prompt and counts too."
            answer = PromptError("prompt_too_large", "Workflow too large", told).answer
            return web.json_response(answer, status=error.status)
        try:
            checked = await asyncio.to_thread(self._check, body)
            job = self._job(body, checked, request.content.total_bytes)
        except PromptError as error:
            logging.warning("Prompt refused: %s", error)
            return web.json_response(error.answer, status=400)
        self.queue.put(job)
        told = {"prompt_id": job.id, "number": job.number, "node_errors": checked.node_errors}
        return web.json_response(told)

    def _check(self, body: dict[str, Any]) -> Checked:
        targets = body.get("partial_execution_targets")
        if targets is not None:
            if not isinstance(targets, list) or not all(isinstance(id, str) for id in targets):
                told = "Need a list of ids."
                raise PromptError("bad_request", "Bad partial_execution_targets", told)
            targets = set(targets)
        with self.in_session():
            return check_prompt(body.get("prompt"), self.classes, self.folders, targets)

    def _job(self, body: dict[str, Any], checked: Checked, size: int) -> Job:
        """The prompt as a job; what surrounds it is checked as strictly as the prompt itself."""
        if len(self.queue.waiting) >= WAITING:
            told = f"{WAITING} prompts wait already; let some run, or clear the queue."
            raise PromptError("queue_full", "The queue is full", told)
        id, extra = body.get("prompt_id", str(uuid.uuid4())), body.get("extra_data", {})
        client, number = body.get("client_id"), body.get("number")
        if not isinstance(id, str) or len(id) > 100 or self.queue.knows(id):
            told = "Need a text of at most 100 signs that no other prompt has."
            raise PromptError("bad_request", "Bad prompt_id", told)
        if not isinstance(extra, dict) or not isinstance(
            extra.get("extra_pnginfo", {}), dict | None
        ):
            raise PromptError("bad_request", "Bad extra_data", "Need objects in it and as it.")
        if not isinstance(client, str | None):
            raise PromptError("bad_request", "Bad client_id", "Need a text.")
        if number is None:
            number = self.queue.next_number(bool(body.get("front")))
        elif isinstance(number, bool) or not isinstance(number, int | float) or abs(number) > FAR:
            raise PromptError("bad_request", "Bad number", "Need a number: a place in the queue.")
        extra = {name: value for name, value in extra.items() if name not in SECRETS}
        extra |= {"create_time": now()} | ({} if client is None else {"client_id": client})
        return Job(number, id, checked.graph, extra, size)

    async def get_queue(self, request: web.Request) -> web.Response:
        running = [self.queue.running] if self.queue.running else []
        told = {"queue_running": running, "queue_pending": sorted(self.queue.waiting)}
        lists = {name: [job.as_list() for job in jobs] for name, jobs in told.items()}
        return web.json_response(lists)

    async def post_queue(self, request: web.Request) -> web.Response:
        """{"clear": true} or {"delete": [ids]}; what runs already is for /interrupt."""
        everything, ids = _unwanted(await read_object(request))
        self.queue.remove(lambda job: everything or job.id in ids)
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.Response:
        body = await read_object(request) if request.can_read_body else {}
        self.runner.interrupt(body.get("prompt_id"))
        return web.Response()

    async def stop(self, request: web.Request) -> web.Response:
        """{"prompt_id", "node_id"}: have a node of the running job end with what it predicts."""
        body = await read_object(request)
        prompt, node = body.get("prompt_id"), body.get("node_id")
        if not isinstance(prompt, str) or not isinstance(node, str):
            raise web.HTTPBadRequest(text="Need the texts 'prompt_id' and 'node_id'.")
        return web.json_response({"stopping": self.runner.stop(prompt, node)})

    async def cancel(self, request: web.Request) -> web.Response:
        """Stop one job, or those of {"job_ids": [...]}, whether they run or wait."""
        if "id" in request.match_info:
            ids = {request.match_info["id"]}
        else:
            ids = _ids((await read_object(request)).get("job_ids"))
        stopped = [id for id in ids if self.runner.interrupt(id)]
        self.queue.remove(lambda job: job.id in ids)
        return web.json_response({"cancelled": sorted(ids), "interrupted": stopped})

    async def get_history(self, request: web.Request) -> web.Response:
        id = request.match_info.get("id")
        jobs = [job for job in self.queue.history.values() if id in (None, job.id)]
        most, offset = _count(request, "max_items"), _count(request, "offset")
        if offset is not None:
            jobs = jobs[offset:][:most]
        elif most is not None:
            jobs = jobs[max(0, len(jobs) - most) :]
        return web.json_response({job.id: job.as_history() for job in jobs})

    async def post_history(self, request: web.Request) -> web.Response:
        everything, ids = _unwanted(await read_object(request))
        for id in list(self.queue.history):
            if everything or id in ids:
                del self.queue.history[id]
        return web.Response()

    async def get_jobs(self, request: web.Request) -> web.Response:
        """?status=a,b&limit=&offset=: what the queue and history panels read."""
        asked = request.query.get("status", "")
        statuses = {word.strip().lower() for word in asked.split(",") if word.strip()} or STATUSES
        if statuses - STATUSES:
            text = f"Status {asked[:100]!r} is unknown; need some of {', '.join(sorted(STATUSES))}."
            return web.json_response({"error": text}, status=400)
        limit, offset = _count(request, "limit"), _count(request, "offset") or 0
        jobs = self.queue.list_jobs(statuses)
        workflow = request.query.get("workflow_id")
        jobs = [job for job in jobs if workflow in (None, job.get("workflow_id"))]
        if request.query.get("sort_order", "").lower() == "asc":
            jobs.reverse()
        page = jobs[offset:] if limit is None else jobs[offset : offset + limit]
        pagination = {
            "offset": offset,
            "limit": limit,
            "total": len(jobs),
            "has_more": offset + len(page) < len(jobs),
        }
        return web.json_response({"jobs": page, "pagination": pagination})

    async def get_job(self, request: web.Request) -> web.Response:
        job = self.queue.describe(request.match_info["id"])
        if job is None:
            return web.json_response({"error": "Job not found"}, status=404)
        return web.json_response(job)

    async def free(self, request: web.Request) -> web.Response:
        """Nothing is kept between two prompts, so there is nothing to free."""
        return web.Response()


def _unwanted(body: dict[str, Any]) -> tuple[bool, set[str]]:
    return body.get("clear") is True, _ids(body.get("delete", []))


def _ids(value: Any) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(id, str) for id in value):
        raise web.HTTPBadRequest(text="Need a list of prompt ids.")
    return set(value)


def _count(request: web.Request, name: str) -> int | None:
    """A number of the address that counts something; a 400 where it is none."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        reason = json.dumps({"error": f"{name} must be a whole number from 0 up."})
        raise web.HTTPBadRequest(text=reason, content_type="application/json")
    return int(text)
