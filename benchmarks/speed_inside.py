"""Runs in ComfyUI's own Python, started by speed_host.py: our Wan and ComfyUI's, in turns.

    python speed_inside.py COMFYUI TASK

TASK is JSON: config, latent shape B T H W, repeats, threads, cuda. The last line printed is JSON.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def become_comfyui(comfyui: str, cuda: bool) -> None:
    """Make comfy importable in place of this folder, and have it start as its main.py would."""
    sys.path[0] = comfyui
    sys.argv = ["main.py"] if cuda else ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()


def load_pack() -> None:
    """The checkout as the package `patchdit`, its root kept off sys.path."""
    spec: Any = importlib.util.spec_from_file_location(
        "patchdit", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["patchdit"] = package
    spec.loader.exec_module(package)


def core_wan(config: Any, device: Any, dtype: Any) -> Any:
    """ComfyUI's text-to-video Wan of the same geometry, its weights not set."""
    import comfy.ldm.wan.model
    import comfy.ops

    return comfy.ldm.wan.model.WanModel(
        model_type="t2v",
        patch_size=tuple(config.patch),
        text_len=config.text_length,
        in_dim=config.in_channels,
        dim=config.width,
        ffn_dim=config.mlp_width,
        freq_dim=config.frequency_width,
        text_dim=config.text_width,
        out_dim=config.out_channels,
        num_heads=config.heads,
        num_layers=config.layers,
        eps=config.eps,
        device=device,
        dtype=dtype,
        operations=comfy.ops.disable_weight_init,
    ).eval()


def by_each_attention(step: Any) -> list[Any]:
    """The step by the attention that ComfyUI chose when it started, and by torch's."""
    import comfy.ldm.wan.model as wan
    from comfy.ldm.modules.attention import attention_pytorch

    def by(attention: Any) -> Any:
        def run() -> Any:
            wan.optimized_attention = attention
            return step()

        return run

    return [by(attention) for attention in {wan.optimized_attention, attention_pytorch}]


def compare(task: dict[str, Any]) -> dict[str, float]:
    """Median seconds of a step of ours and of ComfyUI's faster one, and the memory of that."""
    import torch

    from patchdit.benchmarks.speed_rows import added_megabytes, take_turns, usual_dtype
    from patchdit.models.config import TransformerConfig
    from patchdit.models.transformer import PatchDiT

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    device = torch.device("cuda" if task["cuda"] else "cpu")
    where = {"device": device, "dtype": usual_dtype(device)}
    config, (B, T, H, W) = TransformerConfig(**task["config"]), task["shape"]
    ours = PatchDiT(config, **where).eval()
    theirs = core_wan(config, **where)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(B, config.in_channels, T, H, W, **where)
    timestep = torch.full((B,), 500.0, device=device)
    context = torch.randn(B, config.text_length, config.text_width, **where)
    with torch.inference_mode():
        text = ours.text_keys_values(context)
        steps = by_each_attention(lambda: theirs(x, timestep, context))
        memory = added_megabytes(steps[0], device)
        made = [work().float() for work in (lambda: ours(x, timestep, text), *steps)]
        apart = max(float((other - made[0]).abs().max() / made[0].abs().max()) for other in made)
        if apart > (0.1 if device.type == "cuda" else 1e-3):
            raise SystemExit(f"its output is {apart:.3g} apart from ours on the same weights.")
        mine, *others = take_turns([lambda: ours(x, timestep, text), *steps], task["repeats"])
    return {"ours": mine, "theirs": min(others), "theirs_mb": memory}


def main() -> None:
    comfyui, task = sys.argv[1], json.loads(sys.argv[2])
    become_comfyui(comfyui, task["cuda"])
    load_pack()
    print("\n" + json.dumps(compare(task)))


if __name__ == "__main__":
    main()
