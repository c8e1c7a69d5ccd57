"""Nodes that were told to stop here: to end their run with what it predicts by now."""

from __future__ import annotations

import threading
from collections import Counter


class Stops:
    """Who was asked to stop in the prompt that runs, and how often each node ever did.

    A stop is asked for by a request and heeded by the thread that runs the node; a node that was
    done before it could heed one has not been stopped.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._prompt = ""
        self._asked: set[str] = set()
        self._heeded: set[str] = set()
        self._times: Counter[str] = Counter()

    def ask(self, prompt: str, node: str) -> None:
        """Ask a node to stop; what was asked in an earlier prompt is forgotten."""
        with self._lock:
            if prompt != self._prompt:
                self._prompt = prompt
                self._asked.clear()
                self._heeded.clear()
            self._asked.add(node)

    def heed(self, prompt: str, node: str) -> bool:
        """Whether this node has to stop; from then on it counts as stopped."""
        with self._lock:
            if prompt != self._prompt or node not in self._asked:
                return False
            if node not in self._heeded:
                self._heeded.add(node)
                self._times[node] += 1
            return True

    def was_heeded(self, prompt: str, node: str) -> bool:
        with self._lock:
            return prompt == self._prompt and node in self._heeded

    def times(self, node: str) -> int:
        """How often a node has been stopped since the process began."""
        with self._lock:
            return self._times[node]
