"""Tiny files under the public names that templates ask for, and settings with which they are quick.

A text encoder alone is another one: umT5 has no tiny form; the weights `wan` of conftest.py read
the same prompts into as many columns.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import av
import torch
from PIL import Image
from safetensors.torch import save_file

from patchdit.models.transformer import PatchDiT

from .wan_files import T2V

UPSCALER, SCALE = "RealESRGAN_x4plus", 4
CLIP_FRAMES = 9  # of example.mp4 and example_2.mp4
CLIP_SIZE = 112, 64  # wide as the clips that templates are made for: a node is as high as its clip
I2V = replace(T2V, in_channels=36)
TI2V = replace(T2V, in_channels=48, out_channels=48, frame_timesteps=True)
MODELS = {
    "wan2.1_t2v_1.3B_fp16": T2V,
    "wan2.1_vace_1.3B_fp16": replace(T2V, vace_blocks=1, vace_channels=96),
    "wan2.2_i2v_high_noise_14B_fp16": I2V,
    "wan2.2_i2v_low_noise_14B_fp16": I2V,
    "wan2.2_ti2v_5B_fp16": TI2V,
}
VAES = {"wan_2.1_vae": "wan2.1-vae", "wan2.2_vae": "wan2.2-vae"}  # of wan_files.py
QUICK = {  # values for widgets of these names, wherever a Wan template has some
    "weights": "wan",
    "text": "a red ball",  # `wan` reads 16 tokens
    "steps": 2,
    "width": 64,
    "height": 64,
    "length_in": "frames",
    "frames": 5,
    "seconds": 0.5,
}
CLIP_SOCKET = 1  # of PatchDiT_LoadBlockworld


def write_upscaler(models: Path) -> None:
    """A Real-ESRGAN of the small kind whose zeros leave what it adds them to: repeated pixels."""
    folder = models / "upscale_models"
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "body.0.weight": torch.zeros(4, 3, 3, 3),
        "body.0.bias": torch.zeros(4),
        "body.1.weight": torch.zeros(4),
        "body.2.weight": torch.zeros(3 * SCALE**2, 4, 3, 3),
        "body.2.bias": torch.zeros(3 * SCALE**2),
    }
    save_file(state, folder / f"{UPSCALER}.safetensors")


def write_wan_template_files(base: Path) -> None:
    """Models, clips and a picture in a ComfyUI's folders, which hold those of wan_files.py."""
    models = base / "models"
    with torch.random.fork_rng():
        torch.manual_seed(4)
        for name, config in MODELS.items():
            state = PatchDiT(config).state_dict()
            save_file(state, models / "diffusion_models" / f"{name}.safetensors")
    for name, tiny in VAES.items():
        shutil.copy(models / "vae" / f"{tiny}.safetensors", models / "vae" / f"{name}.safetensors")
    Image.new("RGB", CLIP_SIZE, "teal").save(base / "input" / "example.png")
    for name, colour in (("example", "teal"), ("example_2", "olive")):
        write_clip(base / "input" / f"{name}.mp4", colour)


def write_clip(path: Path, colour: str) -> None:
    """CLIP_FRAMES frames of one colour, 16 in a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=16)
        stream.width, stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        for _ in range(CLIP_FRAMES):
            frame = av.VideoFrame.from_image(Image.new("RGB", CLIP_SIZE, colour))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def quick_prompt(graph: dict) -> dict:
    """A Wan template in API format on these files."""
    for entry in graph.values():
        inputs = entry["inputs"]
        if entry["class_type"] == "CLIPLoader":
            entry.update(class_type="PatchDiT_LoadBlockworld", inputs={"weights": "wan"})
        elif entry["class_type"] == "CLIPTextEncode":
            inputs["clip"] = [inputs["clip"][0], CLIP_SOCKET]
        inputs.update({name: value for name, value in QUICK.items() if name in inputs})
    return graph


def with_small_text_encoder(template: dict) -> dict:
    """A Wan template as the canvas opens it; QUICK is for its widgets."""
    (text,) = (node for node in template["nodes"] if node["type"] == "CLIPLoader")
    links = text["outputs"][0]["links"]
    outputs = [("model", "MODEL", None), ("clip", "CLIP", links), ("vae", "VAE", None)]
    text.update(
        type="PatchDiT_LoadBlockworld",
        outputs=[{"name": name, "type": kind, "links": to} for name, kind, to in outputs],
        properties={},
        widgets_values=["wan"],
    )
    for link in template["links"]:
        if link[0] in links:
            link[2] = CLIP_SOCKET
    return template
