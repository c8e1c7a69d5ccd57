"""Many node calls at once: each runs unchanged in a thread, their network calls as one batch.

A node makes one clip at a time, and for one small clip most of a network call is overhead. So the
calls wait for one another, one thread running at a time, and every call that all of them make of
the network is one call for the batch. Only the last digits differ from running them in turn.
B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from patchdit.models.attention import KeysValues
from patchdit.models.blocks import KnownCache, TextKeysValues
from patchdit.models.transformer import PatchDiT

Result = TypeVar("Result")

_CACHES = 8  # batches of prompts in use at once: two for guidance, four where two prompts mix


class Request(NamedTuple):
    """One call of the network."""

    x_BCTHW: Tensor
    timestep: Tensor
    text: TextKeysValues
    cache: KnownCache | None

    @property
    def kind(self) -> tuple:
        """Calls of one kind can be one batch: of one size, with the same known tokens."""
        known = tuple((self.timestep == 0).flatten().tolist())
        return self.x_BCTHW.shape, self.timestep.shape, known, self.cache is None


class Stopped(Exception):
    """Another call of the batch failed."""


class Worker:
    """One node call, in a thread of its own."""

    def __init__(self, work: Callable[[], Any], turn: threading.Event):
        self.request: Request | None = None
        self.answer: Tensor | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = self.stopped = False
        self._work, self._go, self._turn = work, threading.Event(), turn
        context = copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._run), daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Run until the next request or the end."""
        self._turn.clear()
        self._go.set()
        self._turn.wait()

    def ask(self, request: Request) -> Tensor:
        """What the network says; waits for the others."""
        self.request = request
        self._wait(give_turn=True)
        answer, self.answer = self.answer, None
        assert answer is not None
        return answer

    def _wait(self, give_turn: bool) -> None:
        if give_turn:
            self._turn.set()
        self._go.wait()
        self._go.clear()
        if self.stopped:
            raise Stopped

    def _run(self) -> None:
        _worker.set(self)
        try:
            self._wait(give_turn=False)
            with torch.no_grad():
                self.result = self._work()
        except BaseException as error:
            self.error = error
        self.done = True
        self._turn.set()


_worker: ContextVar[Worker] = ContextVar("worker")


class Together(nn.Module):
    """A network that answers the calls of many workers in batches, in bfloat16 if so wanted."""

    def __init__(self, network: PatchDiT, bf16: bool = True):
        super().__init__()
        self.network, self.bf16 = network, bf16
        self._caches: dict[tuple[int, ...], tuple[list[Request], TextKeysValues, KnownCache]] = {}

    @property
    def config(self):
        return self.network.config

    def text_keys_values(self, context_BSD: Tensor, image_features=None) -> TextKeysValues:
        return self.network.text_keys_values(context_BSD, image_features)

    def forward(self, x_BCTHW: Tensor, timestep: Tensor, context, cache=None) -> Tensor:
        """The velocity of latent videos; among workers, computed for all that ask."""
        request = Request(x_BCTHW, timestep, context, cache)
        worker = _worker.get(None)
        return self._call([request])[0] if worker is None else worker.ask(request)

    def run(self, works: Sequence[Callable[[], Result]]) -> list[Result]:
        """What each of the works returns; raises what the first of them that fails raised."""
        turn = threading.Event()
        workers = [Worker(work, turn) for work in works]
        try:
            while waiting := [worker for worker in workers if not worker.done]:
                for worker in waiting:
                    worker.go_on()
                    if worker.error is not None:
                        raise worker.error
                self._answer([worker for worker in waiting if not worker.done])
        finally:
            for worker in workers:
                if not worker.done:
                    worker.stopped = True
                    worker.go_on()
            self._caches.clear()
        return [worker.result for worker in workers]

    def _answer(self, workers: list[Worker]) -> None:
        groups: dict[tuple, list[Worker]] = defaultdict(list)
        for worker in workers:
            assert worker.request is not None
            groups[worker.request.kind].append(worker)
        for group in groups.values():
            velocities = self._call([worker.request for worker in group if worker.request])
            for worker, velocity in zip(group, velocities, strict=True):
                worker.request, worker.answer = None, velocity

    @torch.no_grad()
    def _call(self, requests: list[Request]) -> list[Tensor]:
        text, cache = self._shared(requests)
        x = torch.cat([request.x_BCTHW for request in requests])
        timestep = torch.cat([request.timestep for request in requests])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            velocity = self.network(x, timestep, text, cache=cache)
        sizes = [len(request.x_BCTHW) for request in requests]
        return list(velocity.float().split(sizes))

    def _shared(self, requests: list[Request]) -> tuple[TextKeysValues, KnownCache | None]:
        """The prompts as one batch, and the batch's cache of known tokens."""
        key = tuple(id(request.text) for request in requests)
        if key not in self._caches:  # requests are kept too, so that no other text has these ids
            self._caches[key] = requests, joined_texts(requests), KnownCache()
            while len(self._caches) > _CACHES:
                self._caches.pop(next(iter(self._caches)))
        _, text, cache = self._caches[key]
        return text, None if requests[0].cache is None else cache


def joined_texts(requests: list[Request]) -> TextKeysValues:
    """The prompts of several calls as one batch, a row for each item."""
    texts = [request.text for request in requests]
    layers = []
    for parts in zip(*(text.layers for text in texts), strict=True):
        entries = zip(*parts, strict=True)
        layers.append([KeysValues(*map(torch.cat, zip(*entry, strict=True))) for entry in entries])
    return TextKeysValues(tuple(layers))
