"""The canvas's own file format (flat: no subgraphs) turned into API format.

Bypassed nodes (mode 4) pass each output on from an input of the same type; muted ones (mode 2) and
what hangs on them fall away. Reroutes are followed. Notes fall away, and primitives: the canvas
copies a primitive's value into the widget that it feeds.
"""

from __future__ import annotations

from typing import Any

from .graph import Link, NodeClasses, WorkflowError
from .schema import Combo, ControlAfterGenerate, WidgetInput

MUTED, BYPASSED = 2, 4
SILENT = ("Note", "MarkdownNote", "PrimitiveNode")
SEEDS = ("seed", "noise_seed")  # the canvas gives these a control even where the schema does not
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def is_ui_format(workflow: Any) -> bool:
    return isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list)


def to_api_format(workflow: dict[str, Any], classes: NodeClasses) -> dict[str, Any]:
    """The prompt that the canvas would send for this workflow; defects are a WorkflowError."""
    try:
        return _Canvas(workflow).prompt(classes)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise WorkflowError(
            f"The workflow is not whole UI-format JSON ({type(error).__name__}: {error}); "
            "save it again from the canvas."
        ) from error


class _Canvas:
    """Nodes by id, and where each link comes from."""

    def __init__(self, workflow: dict[str, Any]):
        self.nodes = {str(node["id"]): node for node in workflow["nodes"]}
        self.origins: dict[int, Link] = {}
        for link in workflow.get("links") or []:
            if isinstance(link, dict):
                link = [link["id"], link["origin_id"], link["origin_slot"]]
            self.origins[link[0]] = (str(link[1]), link[2])
        subgraphs = (workflow.get("definitions") or {}).get("subgraphs") or []
        self.subgraphs = {subgraph["id"] for subgraph in subgraphs}

    def prompt(self, classes: NodeClasses) -> dict[str, Any]:
        prompt, problems = {}, []
        for id, node in self.nodes.items():
            kind = node["type"]
            if kind in SILENT or kind == "Reroute" or node.get("mode") in (MUTED, BYPASSED):
                continue
            title = node.get("title")
            if kind in self.subgraphs:
                problems.append(f'Node {id} "{title or "?"}" is a subgraph; unpack it first.')
                continue
            meta = {"_meta": {"title": title}} if title else {}
            inputs = _widget_values(node, classes[kind]) if kind in classes else {}
            prompt[id] = {"inputs": inputs | self._links(node), "class_type": kind, **meta}
        if problems:
            raise WorkflowError("\n".join(problems))
        return prompt

    def _links(self, node: dict[str, Any]) -> dict[str, list]:
        links = {}
        for socket in node.get("inputs") or []:
            origin = self._origin(socket.get("link"))
            if origin is not None:
                links[socket["name"]] = list(origin)
        return links

    def _origin(self, link: int | None) -> Link | None:
        """The running node's output behind a link, through reroutes and bypassed nodes."""
        seen = set()
        while link is not None and link not in seen:
            seen.add(link)
            if link not in self.origins:
                return None
            id, slot = self.origins[link]
            node = self.nodes.get(id)
            if node is None or node["type"] in SILENT or node.get("mode") == MUTED:
                return None
            if node["type"] == "Reroute":
                link = node["inputs"][0].get("link")
            elif node.get("mode") == BYPASSED:
                link = _bypassed_link(node, slot)
            else:
                return id, slot
        return None


def _bypassed_link(node: dict[str, Any], slot: int) -> int | None:
    """The link that stands in for an output: the same-numbered input if its type fits, else any."""
    inputs = node.get("inputs") or []
    kind = node["outputs"][slot]["type"]
    for socket in [*inputs[slot : slot + 1], *inputs]:
        if socket["type"] == kind and socket.get("link") is not None:
            return socket["link"]
    return None


def _widget_values(node: dict[str, Any], node_class: type) -> dict[str, Any]:
    """Widget values by input name; a widget that the file does not know yet has its default.

    The file lists them in schema order, required before optional, a seed followed by what the
    canvas does to it after a run.
    """
    schema = node_class.GET_SCHEMA()
    ordered = sorted(schema.inputs, key=lambda socket: socket.optional)
    saved = node.get("widgets_values") or []
    widgets = [socket for socket in ordered if _is_widget(socket)]
    if isinstance(saved, dict):
        return {w.id: saved.get(w.id, _default(w)) for w in widgets}
    values, rest = {}, list(saved)
    for widget in widgets:
        values[widget.id] = rest.pop(0) if rest else _default(widget)
        if _has_control(widget) and rest and rest.pop(0) not in list(ControlAfterGenerate):
            raise WorkflowError(
                f"Node {node['id']} ({node['type']}) does not say behind {widget.id} what becomes"
                " of it after a run; save the workflow again from the canvas."
            )
    return {name: _wrap(value) for name, value in values.items() if value is not None}


def _is_widget(socket: Any) -> bool:
    return (
        isinstance(socket, WidgetInput)
        and not socket.force_input
        and socket.get_io_type() in WIDGETS
    )


def _has_control(widget: WidgetInput) -> bool:
    options = widget.as_dict()
    named = widget.get_io_type() == "INT" and widget.id in SEEDS
    return bool(options.get("control_after_generate", named))


def _default(widget: WidgetInput) -> Any:
    if widget.default is None and isinstance(widget, Combo.Input):
        return next(iter(widget.options), None)
    return widget.default


def _wrap(value: Any) -> Any:
    """A list would read as a link."""
    return {"__value__": value} if isinstance(value, list) else value
