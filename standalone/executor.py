"""Runs a graph: only what the outputs need, each node once, no recursion.

Values travel in lists, as in ComfyUI: a node runs once for each item (the last item of a shorter
list is repeated), unless its schema takes whole lists. An output marked as a list is spread out.
A result is dropped once nobody waits for it any more.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .graph import Graph, Node, validate
from .host import InterruptProcessingException, executing, throw_if_interrupted
from .schema import ComfyNode, HiddenHolder, NodeOutput


class NodeError(Exception):
    """A node failed; `__cause__` is what it raised."""

    def __init__(self, node: Node, cause: Exception):
        self.node = node
        super().__init__(f"{node}: {str(cause) or type(cause).__name__}")


async def run(
    graph: Graph,
    extra_pnginfo: dict | None = None,
    on_start: Callable[[Node], None] = lambda node: None,
    on_done: Callable[[Node, dict[str, list]], None] = lambda node, shown: None,
) -> dict[str, dict[str, list]]:
    """Run the graph in the current `host.session`; give what each node shows, by node id.

    `on_start` and `on_done` hear of each node that runs; `on_done` also what it shows.
    A defect of the graph is a WorkflowError before anything runs, a failing node a NodeError that
    names it, a cancel an InterruptProcessingException.
    """
    validate(graph)
    execution = _Execution(graph, extra_pnginfo, on_start, on_done)
    await execution.run()
    return execution.shown


class _Execution:
    """The state of one run. `results[id][i]` lists the values of output i."""

    def __init__(
        self,
        graph: Graph,
        extra_pnginfo: dict | None,
        on_start: Callable[[Node], None],
        on_done: Callable[[Node, dict[str, list]], None],
    ):
        self.graph = graph
        self.extra_pnginfo = extra_pnginfo
        self.on_start = on_start
        self.on_done = on_done
        self.shown: dict[str, dict[str, list]] = {}
        self.done: set[str] = set()
        self.results: dict[str, list[list]] = {}
        needed = graph.needed_by(graph.outputs()).values()
        self.users = Counter(source for node in needed for source, _ in node.links.values())

    async def run(self) -> None:
        waiting = self.graph.outputs()[::-1]
        while waiting:
            node = self.graph.nodes[waiting[-1]]
            missing = [] if node.id in self.done else self._missing(node)
            if missing:
                waiting += missing[::-1]
                continue
            waiting.pop()
            if node.id not in self.done:
                await self._execute(node)

    def _missing(self, node: Node) -> list[str]:
        """Nodes that must run before this one; lazy inputs count only once it asks for them."""
        always = (socket.id for socket in node.schema.inputs if not socket.lazy)
        missing = self._not_done(node, always)
        if missing or not self._not_done(node, node.links):
            return missing
        return self._not_done(node, self._asked_for(node))

    def _not_done(self, node: Node, names: Iterable[str]) -> list[str]:
        sources = [node.links[name][0] for name in names if name in node.links]
        return [source for source in dict.fromkeys(sources) if source not in self.done]

    def _asked_for(self, node: Node) -> list[str]:
        with _naming(node):
            return [
                name
                for inputs in _calls(node, self._inputs(node))
                for name in node.node_class.check_lazy_status(**inputs) or ()
            ]

    def _inputs(self, node: Node) -> dict[str, list]:
        """The values at each input: [None] where a lazy one was not computed."""
        inputs = {name: [value] for name, value in node.values.items()}
        for name, (source, index) in node.links.items():
            inputs[name] = self.results[source][index] if source in self.done else [None]
        return inputs

    async def _execute(self, node: Node) -> None:
        self.on_start(node)
        clone = node.node_class.PREPARE_CLASS_CLONE(
            HiddenHolder(node.id, self.graph.prompt, self.extra_pnginfo)
        )
        returned = []
        with _naming(node), executing(node.id), torch.inference_mode():
            for inputs in _calls(node, self._inputs(node)):
                throw_if_interrupted()
                returned.append(await _call(clone, inputs))
            self._keep(node, returned)
        self.on_done(node, self.shown.get(node.id, {}))

    def _keep(self, node: Node, returned: list[NodeOutput]) -> None:
        """Store results for those who wait, and let go of what this node was the last to use."""
        for output in returned:
            if len(output.args) != len(node.schema.outputs):
                raise TypeError(
                    f"execute gave {len(output.args)} values; need {len(node.schema.outputs)}."
                )
            shown = output.ui or {}
            for key, values in (shown if isinstance(shown, dict) else shown.as_dict()).items():
                self.shown.setdefault(node.id, {}).setdefault(key, []).extend(values)
        self.done.add(node.id)
        if self.users[node.id]:
            self.results[node.id] = [
                _merge(socket.is_output_list, [output[i] for output in returned])
                for i, socket in enumerate(node.schema.outputs)
            ]
        for source, _ in node.links.values():
            self.users[source] -= 1
            if not self.users[source]:
                self.results.pop(source, None)


@contextmanager
def _naming(node: Node) -> Iterator[None]:
    """Turn what a node raises into a NodeError that names it."""
    try:
        yield
    except InterruptProcessingException:
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            error = MemoryError("there is not enough memory; make the video smaller or shorter.")
        raise NodeError(node, error) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Torch tells it by type on a GPU only, on a CPU by its words."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _calls(node: Node, inputs: dict[str, list]) -> Iterator[dict[str, Any]]:
    """Keyword arguments of each call that these input lists ask for."""
    if node.schema.is_input_list or not inputs:
        yield inputs
        return
    empty = [name for name, values in inputs.items() if not values]
    if empty:
        raise ValueError(f"Input {empty[0]!r} got an empty list; need at least one item.")
    for i in range(max(map(len, inputs.values()))):
        yield {name: values[min(i, len(values) - 1)] for name, values in inputs.items()}


async def _call(node_class: type[ComfyNode], inputs: dict[str, Any]) -> NodeOutput:
    returned = node_class.execute(**inputs)
    if inspect.isawaitable(returned):
        returned = await returned
    if returned is None:
        return NodeOutput()
    return NodeOutput(*returned) if isinstance(returned, tuple) else returned


def _merge(is_list: bool, values: list) -> list:
    return [item for value in values for item in value] if is_list else values
