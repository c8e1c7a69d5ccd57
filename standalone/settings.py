"""What `--set NODE.INPUT=VALUE` does to a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .graph import Graph, Node, WorkflowError, convert
from .schema import WidgetInput


def apply_settings(graph: Graph, settings: Iterable[str]) -> None:
    """Set inputs in the graph and in its prompt, so that saved files tell what really ran.

    NODE is an id, or a title or class type that only one node has. A linked input is cut loose.
    """
    for setting in settings:
        place, equals, text = setting.partition("=")
        name, dot, input_id = place.rpartition(".")
        if not equals or not dot:
            raise WorkflowError(f"--set got {setting!r}; need NODE.INPUT=VALUE.")
        node = find_node(graph, name)
        socket = node.sockets.get(input_id)
        if not isinstance(socket, WidgetInput):
            known = ", ".join(input for input, _ in settable(node)) or "none"
            raise WorkflowError(f"{node} has no input {input_id!r} to set; it has: {known}.")
        try:
            value = convert(socket, text)
        except ValueError as error:
            raise WorkflowError(
                f"{node} needs {socket.get_io_type()} at {input_id!r}, but --set got {text!r}."
            ) from error
        node.links.pop(input_id, None)
        node.values[input_id] = value
        graph.prompt[node.id].setdefault("inputs", {})[input_id] = value


def find_node(graph: Graph, name: str) -> Node:
    """The node with this id, else the only one with this title, else of this class type."""
    if name in graph.nodes:
        return graph.nodes[name]
    nodes = graph.nodes.values()
    titled = [node for node in nodes if node.title.lower() == name.lower()]
    matches = titled or [node for node in nodes if node.schema.node_id.lower() == name.lower()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(node.id for node in matches)
        raise WorkflowError(f"--set {name!r} fits several nodes ({ids}); use an id.")
    known = "; ".join(f"{node.id} {node.title}" for node in nodes)
    raise WorkflowError(f"No node is called {name!r}; the workflow has: {known}.")


def settable(node: Node) -> Iterator[tuple[str, str]]:
    """Inputs that take a typed-in value, and what they hold now."""
    for socket in node.schema.inputs:
        if isinstance(socket, WidgetInput):
            linked = node.links.get(socket.id)
            now = f"from node {linked[0]}" if linked else repr(node.values.get(socket.id))
            yield socket.id, now
