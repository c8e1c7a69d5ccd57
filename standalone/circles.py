"""Circles in what waits for what: a workflow that has one can never run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def find_circles(waits_for: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Circles such that everything that can never start hangs on one of them; no recursion.

    `waits_for[a]` names what `a` needs, all of it among the keys. A circle runs from what gives to
    what takes, its first member repeated at its end.
    """
    stuck = _stuck(waits_for)
    circles: list[list[str]] = []
    seen: set[str] = set()
    for start in stuck:
        path: dict[str, None] = {}
        id = start
        while id not in path and id not in seen:  # upstream, always by the same choice
            path[id] = None
            id = next(iter(stuck[id]))
        if id in path:
            members = list(path)
            circles.append([id, *members[members.index(id) :][::-1]])
        seen |= path.keys()
    return circles


def _stuck(waits_for: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Peel off what waits for nobody, again and again: what is left, and what it waits for."""
    waiting = {id: set(sources) for id, sources in waits_for.items()}
    users: dict[str, list[str]] = {id: [] for id in waiting}
    for id, sources in waiting.items():
        for source in sources:
            users[source].append(id)
    ready = [id for id, sources in waiting.items() if not sources]
    while ready:
        done = ready.pop()
        del waiting[done]
        for user in users[done]:
            waiting[user].discard(done)
            if not waiting[user]:
                ready.append(user)
    return waiting
