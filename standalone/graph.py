"""A workflow as a graph of node classes, read from API-format JSON and checked before it runs.

API format: {"3": {"class_type": "SaveVideo", "inputs": {"video": ["2", 0], "codec": "auto"},
"_meta": {"title": "Save"}}}. An input is a value, or a link [node id, output index].
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .schema import ComfyNode, Schema, WidgetInput

NodeClasses = Mapping[str, type[ComfyNode]]
Link = tuple[str, int]


class WorkflowError(ValueError):
    """What is wrong with a workflow: one sentence for each defect, each on its own line."""


@dataclass
class Node:
    """One node: `values` were typed in, `links` come from other nodes."""

    id: str
    node_class: type[ComfyNode]
    schema: Schema
    title: str
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)

    def __str__(self) -> str:
        return f'Node {self.id} "{self.title}"'

    @property
    def sockets(self) -> dict[str, Any]:
        return {socket.id: socket for socket in self.schema.inputs}


@dataclass(frozen=True)
class Graph:
    """Nodes by id, and the API-format prompt that they came from."""

    nodes: dict[str, Node]
    prompt: dict[str, Any]

    def outputs(self) -> list[str]:
        """Ids of the nodes that a run is for."""
        return [id for id, node in self.nodes.items() if node.schema.is_output_node]

    def needed_by(self, ids: Iterable[str]) -> dict[str, Node]:
        """The nodes that `ids` depend on, themselves included."""
        found: dict[str, Node] = {}
        waiting = list(ids)
        while waiting:
            id = waiting.pop()
            if id in self.nodes and id not in found:
                found[id] = self.nodes[id]
                waiting += [source for source, _ in found[id].links.values()]
        return found


def read_graph(prompt: Any, classes: NodeClasses) -> Graph:
    """Build the graph of an API-format prompt; unknown or malformed nodes are a WorkflowError."""
    if not isinstance(prompt, dict) or not prompt:
        raise WorkflowError("The workflow holds no nodes; need API-format or UI-format JSON.")
    schema_of = cache(lambda kind: classes[kind].GET_SCHEMA())
    nodes, problems = {}, []
    for id, entry in prompt.items():
        kind, inputs, title = _parts(entry)
        if not isinstance(kind, str) or not isinstance(inputs, dict):
            problems.append(
                f'Node {id} "{title or "?"}" is not a node; need class_type and inputs.'
            )
        elif kind not in classes:
            problems.append(
                f'Node {id} "{title or kind}" is a {kind}, which is not known here; '
                "install the pack that has it, or remove the node."
            )
        else:
            schema = schema_of(kind)
            title = title or schema.display_name or kind
            nodes[id] = _node(id, classes[kind], schema, title, inputs)
    if problems:
        raise WorkflowError("\n".join(problems))
    return Graph(nodes, prompt)


def validate(graph: Graph) -> None:
    """Raise one WorkflowError that names every defect among the nodes that the outputs need.

    Typed-in values are turned into their socket's type on the way.
    """
    if not graph.outputs():
        raise WorkflowError("The workflow has no output node, such as Save Video; add one.")
    problems: list[str] = []
    needed = graph.needed_by(graph.outputs())
    for node in needed.values():
        for name, socket in node.sockets.items():
            if name in node.links:
                problems += _link_problems(graph, node, name, socket)
            elif name in node.values:
                problems += _value_problems(node, name, socket)
            elif not socket.optional:
                problems.append(f"{node} lacks its input {name!r} ({socket.get_io_type()}).")
        problems += _own_problems(node)
    problems = problems or _cycle_problems(needed)
    if problems:
        raise WorkflowError("\n".join(problems))


def convert(socket: Any, value: Any) -> Any:
    """A typed-in value as the socket's own type; ValueError where it is none."""
    match socket.get_io_type():
        case "INT":
            if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
                raise ValueError("not a whole number")
            return int(value)
        case "FLOAT":
            return float(value)
        case "BOOLEAN" if isinstance(value, str):
            words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            if value.lower() not in words:
                raise ValueError("neither true nor false")
            return words[value.lower()]
        case "BOOLEAN":
            return bool(value)
        case "STRING":
            return str(value)
        case "COMBO":
            same = (option for option in socket.options if str(option) == str(value))
            return next(same, value)
    return value


def _parts(entry: Any) -> tuple[Any, Any, Any]:
    """Class type, inputs and title of a prompt's entry, None where it lacks them."""
    entry = entry if isinstance(entry, dict) else {}
    meta = entry.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    title = title if isinstance(title, str) else None
    return entry.get("class_type"), entry.get("inputs", {}), title


def _node(id: str, node_class: type, schema: Schema, title: str, inputs: dict) -> Node:
    node = Node(id, node_class, schema, title)
    for name, value in inputs.items():
        if name not in node.sockets:
            continue  # ComfyUI ignores them too: canvases save buttons and old widgets as inputs
        if isinstance(value, dict) and "__value__" in value:
            node.values[name] = value["__value__"]
        elif _is_link(value):
            node.links[name] = (str(value[0]), value[1])
        elif isinstance(value, list):
            raise WorkflowError(
                f"{node} has a bad link at input {name!r}; need [node id, output index]."
            )
        else:
            node.values[name] = value
    return node


def _is_link(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], (str, int))
        and isinstance(value[1], int)
    )


def _link_problems(graph: Graph, node: Node, name: str, socket: Any) -> list[str]:
    source_id, index = node.links[name]
    source = graph.nodes.get(source_id)
    if source is None:
        return [f"{node} takes {name!r} from node {source_id}, which is not in the workflow."]
    outputs = source.schema.outputs
    if not 0 <= index < len(outputs):
        return [f"{node} takes {name!r} from output {index} of {source}, which has {len(outputs)}."]
    given, wanted = outputs[index].io_type, socket.get_io_type()
    if not _fits(given, wanted):
        return [f"{node} needs {wanted} at {name!r}, but {source} gives {given}."]
    return []


def _fits(given: str, wanted: str) -> bool:
    given_types, wanted_types = set(given.split(",")), set(wanted.split(","))
    return "*" in given_types | wanted_types or bool(given_types & wanted_types)


def _value_problems(node: Node, name: str, socket: Any) -> list[str]:
    value, kind = node.values[name], socket.get_io_type()
    if not isinstance(socket, WidgetInput):
        return [f"{node} needs a link at {name!r} ({kind}), but got the value {value!r}."]
    try:
        value = node.values[name] = convert(socket, value)
    except (TypeError, ValueError, OverflowError):
        return [f"{node} needs {kind} at {name!r}, but got {value!r}."]
    if name in _checked_by_node(node):
        return []
    options = socket.as_dict()
    low, high = options.get("min"), options.get("max")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        return [f"{node} has {name!r} = {value}; need {low} to {high}."]
    if kind == "COMBO" and value not in options["options"]:
        shown = ", ".join(str(option) for option in options["options"][:20]) or "nothing"
        return [f"{node} has {name!r} = {value!r}; the choices are: {shown}."]
    return []


def _checked_by_node(node: Node) -> set[str]:
    """Inputs that the node's own `validate_inputs` answers for, range and choices included."""
    check = node.node_class.validate_inputs
    parameters = inspect.signature(check).parameters.values() if check else ()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return set(node.sockets)
    return {parameter.name for parameter in parameters}


def _own_problems(node: Node) -> list[str]:
    names = _checked_by_node(node)
    if not names:
        return []
    given = {name: node.values.get(name) for name in node.sockets if name in names}
    answer = node.node_class.validate_inputs(**given)
    return [] if answer is True else [f"{node}: {answer or 'its inputs do not fit together'}"]


def _cycle_problems(nodes: dict[str, Node]) -> list[str]:
    """Peel off nodes that wait for nobody; what is left over goes round in a circle."""
    waiting = {id: {source for source, _ in node.links.values()} for id, node in nodes.items()}
    users: dict[str, list[str]] = {id: [] for id in nodes}
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
    if not waiting:
        return []
    circle = " -> ".join(str(nodes[id]) for id in _circle(waiting))
    return [f"{circle} is a circle of links; cut one."]


def _circle(waiting: dict[str, set[str]]) -> list[str]:
    """One circle among nodes that all wait for each other, first node repeated at the end."""
    path = [next(iter(waiting))]
    while path[-1] not in path[:-1]:
        path.append(next(iter(waiting[path[-1]])))
    return path[path.index(path[-1]) :][::-1]
