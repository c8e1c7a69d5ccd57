"""The nodes that there are without ComfyUI: the pack's own, and our stand-ins for core's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .api import ComfyExtension
from .core_nodes import CORE_NODES
from .graph import NodeClasses

Entrypoint = Callable[[], Awaitable[ComfyExtension]]


async def list_nodes(entrypoint: Entrypoint) -> NodeClasses:
    """Node classes by id, after the pack's `on_load`."""
    extension = await entrypoint()
    await extension.on_load()
    nodes = [*CORE_NODES, *await extension.get_node_list()]
    return {node.GET_SCHEMA().node_id: node for node in nodes}
