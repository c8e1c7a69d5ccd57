"""Graphs in API format, and what they give in ComfyUI and without it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from patchdit.models import blockworld
from patchdit.nodes import PatchDiTExtension
from patchdit.nodes.api import io
from patchdit.standalone.core_nodes import CORE_NODES
from patchdit.standalone.executor import run
from patchdit.standalone.graph import read_graph
from patchdit.standalone.host import Session, use_session

ROOT = Path(__file__).resolve().parents[2]
LATENT = "saved latent"  # the id of the node that `keeping` adds

needs_shipped_weights = pytest.mark.skipif(
    not (blockworld.FOLDER / blockworld.NAMES["transformer"]).exists(), reason="no shipped weights"
)


def node(kind: str, **inputs: Any) -> dict:
    return {"class_type": kind, "inputs": inputs}


def shipped(name: str, steps: int) -> dict:
    """A shipped workflow with so many steps in every run."""
    graph = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for entry in graph.values():
        if "steps" in entry["inputs"]:
            single = entry["class_type"] == "PatchDiT_DenoiseStep"
            entry["inputs"]["steps"] = 1 if single else steps
    return graph


def one_of(graph: dict, kind: str) -> str:
    """The id of the only node of a kind."""
    (id,) = (id for id, entry in graph.items() if entry["class_type"] == kind)
    return id


def keeping(graph: dict, id: str, output: int = 0) -> dict:
    """The graph with one output alone: a node's LATENT, in a file."""
    kept = {i: entry for i, entry in graph.items() if not entry["class_type"].startswith("Save")}
    return {**kept, LATENT: node("SaveLatent", samples=[id, output], filename_prefix="latent")}


def latent_inside(comfyui: Any, graph: dict) -> Tensor:
    outputs = comfyui.run(graph)
    return load_file(str(comfyui.output(outputs[LATENT]["latents"][0])))["latent_tensor"]


def latent_outside(graph: dict, folder: Path) -> Tensor:
    """The same by our own executor, which has no ComfyUI."""
    found: list[Tensor] = []

    class SaveLatent(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = [io.Latent.Input("samples"), io.String.Input("filename_prefix")]
            return io.Schema("SaveLatent", inputs=inputs, is_output_node=True)

        @classmethod
        def execute(cls, samples, filename_prefix):
            found.append(samples["samples"])
            return io.NodeOutput()

    ours = asyncio.run(PatchDiTExtension().get_node_list())
    classes = {c.GET_SCHEMA().node_id: c for c in (*CORE_NODES, *ours, SaveLatent)}
    with use_session(Session(folder, folder, folder)):
        asyncio.run(run(read_graph(graph, classes)))
    (latent,) = found
    return latent


def lora_of(parts: blockworld.Blockworld) -> dict[str, Tensor]:
    """A LoRA of rank 2 on one layer of a network, in the names that core's loaders know."""
    weight = parts.transformer.state_dict()["blocks.0.self_attn.q.weight"]
    generator = torch.Generator().manual_seed(3)
    name = "diffusion_model.blocks.0.self_attn.q"
    down = torch.randn(2, weight.shape[1], generator=generator)
    up = torch.randn(weight.shape[0], 2, generator=generator) / 4
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
