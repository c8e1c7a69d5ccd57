"""Node ids of the past, and the nodes of today that stand for them.

Released ids are frozen, so this stays empty until one has to go. An old workflow then opens with
the new node in its place, where the host knows how (ComfyUI 0.21 and newer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Replaced:
    """An old node id and its successor; the fields are those of ComfyUI's `io.NodeReplace`.

    Mappings: {"new_id": name, "old_id": name} or {"new_id": name, "set_value": value} for inputs,
    {"new_idx": slot, "old_idx": slot} for outputs. `old_widget_ids` names the saved widget values.
    """

    old_node_id: str
    new_node_id: str
    old_widget_ids: list[str] | None = None
    input_mapping: list[dict[str, Any]] | None = None
    output_mapping: list[dict[str, int]] | None = None


REPLACED: tuple[Replaced, ...] = ()


async def register(
    host_api: Any, node_replace: Callable[..., Any], table: tuple[Replaced, ...] = REPLACED
) -> None:
    """Tell the host of every replaced id, through its `ComfyAPI()` and its `io.NodeReplace`."""
    for entry in table:
        await host_api.node_replacement.register(node_replace(**asdict(entry)))
