"""A prompt from the canvas as a graph that can run, or what is wrong in the frontend's form."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..graph import Graph, NodeClasses, Problem, WorkflowError, find_problems, read_graph
from ..schema import UploadType
from .places import Folders, OutsideError

NODES = 10_000  # the largest graph
TOLD = 100  # nodes whose errors are told; nobody reads more
UPLOADS = {kind.value for kind in UploadType}  # options of inputs that name a file to load
TITLES = {
    "missing_node_type": "Unknown node",
    "required_input_missing": "Required input is missing",
    "bad_linked_input": "Bad link",
    "return_type_mismatch": "Return type mismatch between linked nodes",
    "invalid_input_type": "Value of another type",
    "value_smaller_than_min": "Value too small",
    "value_bigger_than_max": "Value too big",
    "value_not_in_list": "Value not in list",
    "custom_validation_failed": "The node refuses its inputs",
    "exception_during_validation": "The node cannot check its inputs",
    "dependency_cycle": "Dependency cycle detected",
}


class PromptError(Exception):
    """A prompt that cannot run; `answer` is the JSON that the frontend shows on its nodes."""

    def __init__(self, kind: str, message: str, details: str = "", **more: Any):
        node_errors = more.pop("node_errors", {})
        error = {"type": kind, "message": message, "details": details, "extra_info": more}
        self.answer = {"error": error, "node_errors": node_errors}
        super().__init__(f"{message}: {details}" if details else message)


@dataclass(frozen=True)
class Checked:
    """The part of a prompt that can run, and what is wrong with the rest, by node."""

    graph: Graph
    node_errors: dict[str, Any] = field(default_factory=dict)


def check_prompt(
    prompt: Any, classes: NodeClasses, folders: Folders, targets: set[str] | None = None
) -> Checked:
    """Read and check a prompt in the current session; a PromptError where no output can run.

    `targets` are the output nodes to run, by default all. An output with a defect upstream is left
    out as long as another can run, as in ComfyUI. Nodes that load files get none from outside
    `folders`.
    """
    if isinstance(prompt, dict) and len(prompt) > NODES:
        told = f"The workflow has {len(prompt)} nodes; this host runs at most {NODES}."
        raise PromptError("prompt_too_large", "Workflow too large", told)
    graph = _read(prompt, classes)
    outputs = [id for id in graph.outputs() if targets is None or id in targets]
    if not outputs:
        told = "Add an output node, such as Save Video, and link something to it."
        raise PromptError("prompt_no_outputs", "Prompt has no outputs", told)
    graph = _part(graph, outputs)
    errors: dict[str, Any] = {}
    sentences: dict[str, None] = {}
    # Three rounds at most: files outside, then what nodes lack, then circles among what is whole.
    while problems := _outside(graph, folders) or find_problems(graph):
        errors |= _node_errors(graph, problems)
        sentences |= dict.fromkeys(problem.text for problem in problems[:TOLD])
        broken = _downstream(_users(graph), {problem.node for problem in problems})
        runnable = [id for id in graph.outputs() if id not in broken]
        if not runnable:
            raise PromptError(
                "prompt_outputs_failed_validation",
                "Prompt outputs failed validation",
                "\n".join(sentences),
                node_errors=errors,
            )
        graph = _part(graph, runnable)
    return Checked(graph, errors)


def _part(graph: Graph, outputs: list[str]) -> Graph:
    """What these outputs need, in the prompt's order."""
    needed = graph.needed_by(outputs)
    return Graph({id: node for id, node in graph.nodes.items() if id in needed}, graph.prompt)


def _read(prompt: Any, classes: NodeClasses) -> Graph:
    try:
        return read_graph(prompt, classes)
    except WorkflowError as error:
        if not error.problems:
            raise PromptError("no_prompt", "No prompt provided", str(error)) from error
        first = error.problems[0]
        entries = {problem.node: prompt[problem.node] for problem in error.problems[:TOLD]}
        kinds = {
            id: e.get("class_type") if isinstance(e, dict) else None for id, e in entries.items()
        }
        more = Counter(problem.kind for problem in error.problems)[first.kind] - 1
        details = f"{first.text} {more} more like it." if more else first.text
        raise PromptError(
            first.kind,
            TITLES[first.kind],
            details,
            node_id=first.node,
            class_type=kinds[first.node],
            node_errors=_errors_by_node(error.problems, kinds, {}),
        ) from error


def _outside(graph: Graph, folders: Folders) -> list[Problem]:
    """Files to load that do not lie in the folders; run.py may name any, a web page may not."""
    problems = []
    for node in graph.nodes.values():
        for socket in node.schema.inputs:
            if socket.id not in node.values or not UPLOADS & socket.as_dict().keys():
                continue
            try:
                folders.find(str(node.values[socket.id]))
            except OutsideError as error:
                text = f"{node}: {error}"
                problems.append(Problem(node.id, socket.id, "custom_validation_failed", text))
    return problems


def _node_errors(graph: Graph, problems: list[Problem]) -> dict[str, Any]:
    kinds = {problem.node: graph.nodes[problem.node].schema.node_id for problem in problems}
    outputs, users = graph.outputs(), _users(graph)
    dependent = {}
    for id in list(kinds)[:TOLD]:
        reached = _downstream(users, {id})
        dependent[id] = [output for output in outputs if output in reached]
    return _errors_by_node(problems, kinds, dependent)


def _errors_by_node(problems: list[Problem], kinds: dict, dependent: dict) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for problem in problems:
        if problem.node not in told and len(told) == TOLD:
            continue
        entry = told.setdefault(
            problem.node,
            {
                "errors": [],
                "dependent_outputs": dependent.get(problem.node, []),
                "class_type": kinds.get(problem.node),
            },
        )
        entry["errors"].append(
            {
                "type": problem.kind,
                "message": TITLES[problem.kind],
                "details": problem.text,
                "extra_info": {"input_name": problem.input} if problem.input else {},
            }
        )
    return told


def _users(graph: Graph) -> dict[str, list[str]]:
    """Who takes from each node."""
    users: dict[str, list[str]] = {}
    for node in graph.nodes.values():
        for source, _ in node.links.values():
            users.setdefault(source, []).append(node.id)
    return users


def _downstream(users: dict[str, list[str]], ids: set[str]) -> set[str]:
    """`ids` and all that takes from them, near or far."""
    found, waiting = set(ids), list(ids)
    while waiting:
        for user in users.get(waiting.pop(), []):
            if user not in found:
                found.add(user)
                waiting.append(user)
    return found
