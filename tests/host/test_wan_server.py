"""Wan files in workflows that are queued on a real ComfyUI's server: a video, or one sentence."""

from __future__ import annotations

import av
import pytest

from .graphs import node, one_of, shipped
from .wan_files import EXTRA, HIGH, MISSING

VAE = "wan2.1-vae.safetensors"


def workflow(model="t2v.safetensors", steps=2):
    """text_to_video.json with a Wan model and its autoencoder; the prompts are `wan`'s."""
    graph = shipped("text_to_video", steps)
    clip, start, decode = (
        one_of(graph, f"PatchDiT_{kind}")
        for kind in ("LoadBlockworld", "StartDenoising", "DecodeVideo")
    )
    graph[clip]["inputs"]["weights"] = "wan"
    graph["model"] = node("PatchDiT_LoadVideoModel", model_name=model, dtype="auto")
    graph["vae"] = node("PatchDiT_LoadVideoVAE", vae_name=VAE)
    graph[start]["inputs"]["model"] = ["model", 0]
    graph[decode]["inputs"]["vae"] = ["vae", 0]
    return graph


def refusal(comfyui, graph, id):
    """The one sentence that a node says instead of working."""
    error = comfyui.error_of(graph)
    assert error["node_id"] == id
    said = error["exception_message"].strip()
    assert "\n" not in said and said.endswith(".")
    return said


def test_a_video_comes_out(comfyui):
    graph = workflow()
    outputs = comfyui.run(graph)
    save = outputs[one_of(graph, "SaveVideo")]
    with av.open(str(comfyui.output(save["images"][0]))) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (64, 64)
        assert sum(1 for _ in container.decode(stream)) == 17
    (info,) = outputs["model"]["text"]
    assert info.startswith("Wan 2.1 T2V") and "fp32" in info and "text to video" in info


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("ltx", "LTX-Video"),
        ("lacking", f"lacks {MISSING} tensors: "),
        ("odd", f"has unknown {EXTRA} tensors: blocks.0.extra0.weight, "),
        ("cut", "not a whole safetensors file; download or save it again"),
    ],
)
def test_a_file_that_is_no_wan_model_is_refused_where_it_is_loaded(comfyui, file, reason):
    said = refusal(comfyui, workflow(f"{file}.safetensors"), "model")
    assert f"{file}.safetensors" in said and reason in said


def test_a_half_without_the_other_is_refused_before_the_first_step(comfyui):
    graph = workflow(HIGH)
    said = refusal(comfyui, graph, one_of(graph, "PatchDiT_StartDenoising"))
    assert said.endswith("connect its low-noise half to model_low.")


def test_latents_of_another_vae_are_refused_before_the_first_step(comfyui):
    graph = workflow()
    start = one_of(graph, "PatchDiT_StartDenoising")
    graph["vae"]["inputs"]["vae_name"] = "wan2.2-vae.safetensors"
    graph["grey"] = node("EmptyImage", width=64, height=64, batch_size=5, color=0x808080)
    graph["grey latent"] = node("VAEEncode", pixels=["grey", 0], vae=["vae", 0])
    graph[start]["inputs"]["latent"] = ["grey latent", 0]
    said = refusal(comfyui, graph, start)
    assert "48 channels" in said and "has 16: both must belong to the same family" in said


def test_a_lora_for_another_model_is_refused_where_it_is_loaded(comfyui):
    graph = workflow()
    given = {"model": ["model", 0], "lora_name": "for-14b.safetensors", "strength": 1.0}
    graph["lora"] = node("PatchDiT_LoadVideoLora", **given)
    graph[one_of(graph, "PatchDiT_StartDenoising")]["inputs"]["model"] = ["lora", 0]
    said = refusal(comfyui, graph, "lora")
    assert "a network 5120 wide, the model is 128" in said
