"""Small Wan files with random weights, and some to be refused, in the folders of a ComfyUI."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from patchdit.models.config import VAE_PRESETS, TransformerConfig
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE

T2V = TransformerConfig(128, 256, 1, 2)
HIGH = "wan2.2_i2v_high_noise_14B.safetensors"
MISSING = 7  # tensors of lacking.safetensors
EXTRA = 6  # tensors too many in odd.safetensors


def write_wan_files(models: Path) -> None:
    """Files in the folders diffusion_models, vae and loras."""
    for kind in ("diffusion_models", "vae", "loras"):
        (models / kind).mkdir(exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(9)
        state = PatchDiT(T2V).state_dict()
        halves = {HIGH: PatchDiT(replace(T2V, in_channels=36)).state_dict()}
        vaes = {
            f"{layout}-vae.safetensors": VideoVAE(
                replace(VAE_PRESETS[layout], encoder_width=8, decoder_width=8)
            ).state_dict()
            for layout in ("wan2.1", "wan2.2")
        }
    files = {"t2v.safetensors": state, **halves, **refused(state)}
    for name, tensors in files.items():
        save_file(tensors, models / "diffusion_models" / name)
    for name, tensors in vaes.items():
        save_file(tensors, models / "vae" / name)
    whole = (models / "diffusion_models" / "t2v.safetensors").read_bytes()
    (models / "diffusion_models" / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    module, width = "diffusion_model.blocks.0.self_attn.q", 5120
    lora = {"lora_A": torch.zeros(2, width), "lora_B": torch.zeros(width, 2)}
    tensors = {f"{module}.{name}.weight": tensor for name, tensor in lora.items()}
    save_file(tensors, models / "loras" / "for-14b.safetensors")


def refused(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Files that are whole, but no Wan model that is known here."""
    norms = [name for name in state if ".norm_" in name][:MISSING]
    lacking = {name: weight for name, weight in state.items() if name not in norms}
    odd = {f"blocks.0.extra{i}.weight": torch.zeros(1) for i in range(EXTRA)}
    ltx = {
        f"adaln_single.emb.timestep_embedder.linear_{i}.weight": torch.zeros(8, 8) for i in (1, 2)
    }
    return {
        "lacking.safetensors": lacking,
        "odd.safetensors": state | odd,
        "ltx.safetensors": ltx,
    }
