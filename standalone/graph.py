"""A workflow as a graph of node classes, read from API-format JSON and checked before it runs.

API format: {"3": {"class_type": "SaveVideo", "inputs": {"video": ["2", 0], "codec": "auto"},
"_meta": {"title": "Save"}}}. An input is a value, or a link [node id, output index].
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .circles import find_circles
from .schema import ComfyNode, Schema, WidgetInput

NodeClasses = Mapping[str, type[ComfyNode]]
Link = tuple[str, int]


@dataclass(frozen=True)
class Problem:
    """A defect of one node: `kind` is ComfyUI's word for it, `text` a whole sentence."""

    node: str
    input: str | None
    kind: str
    text: str


class WorkflowError(ValueError):
    """What is wrong with a workflow: one sentence for each defect, each on its own line.

    `problems` says the same node by node, as far as single nodes are to blame.
    """

    def __init__(self, told: str | Sequence[Problem]):
        self.problems = [] if isinstance(told, str) else list(told)
        sentences = dict.fromkeys(problem.text for problem in self.problems)
        super().__init__("\n".join(sentences) or told)


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
    nodes: dict[str, Node] = {}
    problems: list[Problem] = []
    for id, entry in prompt.items():
        kind, inputs, title = _parts(entry)
        if not isinstance(kind, str) or not isinstance(inputs, dict):
            text = f'Node {id} "{title or "?"}" is not a node; need class_type and inputs.'
            problems.append(Problem(id, None, "missing_node_type", text))
        elif kind not in classes:
            text = (
                f'Node {id} "{title or kind}" is a {kind}, which is not known here; '
                "install the pack that has it, or remove the node."
            )
            problems.append(Problem(id, None, "missing_node_type", text))
        else:
            schema = schema_of(kind)
            node = nodes[id] = Node(id, classes[kind], schema, title or schema.display_name or kind)
            problems += _fill(node, inputs)
    if problems:
        raise WorkflowError(problems)
    return Graph(nodes, prompt)


def validate(graph: Graph) -> None:
    """Raise one WorkflowError that names every defect among the nodes that the outputs need.

    Typed-in values are turned into their socket's type on the way.
    """
    if not graph.outputs():
        raise WorkflowError("The workflow has no output node, such as Save Video; add one.")
    problems = find_problems(graph)
    if problems:
        raise WorkflowError(problems)


def find_problems(graph: Graph) -> list[Problem]:
    """Every defect among the nodes that the outputs need; circles only once all else is well.

    Typed-in values are turned into their socket's type on the way.
    """
    problems: list[Problem] = []
    needed = graph.needed_by(graph.outputs())
    for node in needed.values():
        found: list[Problem] = []
        for name, socket in node.sockets.items():
            if name in node.links:
                found += _link_problems(graph, node, name, socket)
            elif name in node.values:
                found += _value_problems(node, name, socket)
            elif not socket.optional:
                text = f"{node} lacks its input {name!r} ({socket.get_io_type()})."
                found.append(Problem(node.id, name, "required_input_missing", text))
        problems += found or _own_problems(node)
    return problems or _circle_problems(needed)


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


def _fill(node: Node, inputs: dict) -> list[Problem]:
    """Sort a prompt's inputs into values and links; what is neither is a problem."""
    problems = []
    sockets = node.sockets
    for name, value in inputs.items():
        if name not in sockets:
            continue  # ComfyUI ignores them too: canvases save buttons and old widgets as inputs
        if isinstance(value, dict) and "__value__" in value:
            node.values[name] = value["__value__"]
        elif _is_link(value):
            node.links[name] = (str(value[0]), value[1])
        elif isinstance(value, list):
            text = f"{node} has a bad link at input {name!r}; need [node id, output index]."
            problems.append(Problem(node.id, name, "bad_linked_input", text))
        else:
            node.values[name] = value
    return problems


def _is_link(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], (str, int))
        and isinstance(value[1], int)
    )


def _link_problems(graph: Graph, node: Node, name: str, socket: Any) -> list[Problem]:
    source_id, index = node.links[name]
    source = graph.nodes.get(source_id)
    kind, text = "bad_linked_input", ""
    if source is None:
        text = f"{node} takes {name!r} from node {source_id}, which is not in the workflow."
    elif not 0 <= index < len(source.schema.outputs):
        has = len(source.schema.outputs)
        text = f"{node} takes {name!r} from output {index} of {source}, which has {has}."
    elif not _fits(source.schema.outputs[index].io_type, socket.get_io_type()):
        kind, given = "return_type_mismatch", source.schema.outputs[index].io_type
        text = f"{node} needs {socket.get_io_type()} at {name!r}, but {source} gives {given}."
    return [Problem(node.id, name, kind, text)] if text else []


def _fits(given: str, wanted: str) -> bool:
    given_types, wanted_types = set(given.split(",")), set(wanted.split(","))
    return "*" in given_types | wanted_types or bool(given_types & wanted_types)


def _value_problems(node: Node, name: str, socket: Any) -> list[Problem]:
    value, type = node.values[name], socket.get_io_type()
    if not isinstance(socket, WidgetInput):
        text = f"{node} needs a link at {name!r} ({type}), but got the value {_short(value)}."
        return [Problem(node.id, name, "bad_linked_input", text)]
    try:
        value = node.values[name] = convert(socket, value)
    except (TypeError, ValueError, OverflowError):
        text = f"{node} needs {type} at {name!r}, but got {_short(value)}."
        return [Problem(node.id, name, "invalid_input_type", text)]
    if name in _checked_by_node(node):
        return []
    options = socket.as_dict()
    low, high = options.get("min"), options.get("max")
    too_low = low is not None and not value >= low
    if too_low or (high is not None and not value <= high):
        kind = "value_smaller_than_min" if too_low else "value_bigger_than_max"
        text = f"{node} has {name!r} = {_short(value)}; need {low} to {high}."
        return [Problem(node.id, name, kind, text)]
    if type == "COMBO" and value not in options["options"]:
        shown = ", ".join(str(option) for option in options["options"][:20]) or "nothing"
        text = f"{node} has {name!r} = {_short(value)}; the choices are: {shown}."
        return [Problem(node.id, name, "value_not_in_list", text)]
    return []


def _short(value: Any) -> str:
    """A value as a sentence quotes it; a number of a million digits has no text at all."""
    try:
        text = repr(value)
    except ValueError:
        return "a number too long to write"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _checked_by_node(node: Node) -> set[str]:
    """Inputs that the node's own `validate_inputs` answers for, range and choices included."""
    check = node.node_class.validate_inputs
    parameters = inspect.signature(check).parameters.values() if check else ()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return set(node.sockets)
    return {parameter.name for parameter in parameters}


def _own_problems(node: Node) -> list[Problem]:
    names = _checked_by_node(node)
    if not names:
        return []
    given = {name: node.values.get(name) for name in node.sockets if name in names}
    try:
        answer = node.node_class.validate_inputs(**given)
    except (OSError, TypeError, ValueError) as error:  # such as a file name with a zero byte
        text = f"{node} cannot check its inputs ({error}); mend the values typed into it."
        return [Problem(node.id, None, "exception_during_validation", text)]
    if answer is True:
        return []
    text = f"{node}: {answer or 'its inputs do not fit together'}"
    name = next(iter(names)) if len(names) == 1 else None
    return [Problem(node.id, name, "custom_validation_failed", text)]


def _circle_problems(nodes: dict[str, Node]) -> list[Problem]:
    problems = []
    for circle in find_circles({id: {s for s, _ in n.links.values()} for id, n in nodes.items()}):
        names = [str(nodes[id]) for id in circle]
        if len(names) > 20:
            names[10:-10] = ["..."]
        text = f"{' -> '.join(names)} is a circle of links; cut one."
        problems += [Problem(id, None, "dependency_cycle", text) for id in circle[:-1]]
    return problems
