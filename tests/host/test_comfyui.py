"""The pack inside a real ComfyUI: it loads, runs beside core, its numbers are the stand-in's."""

from __future__ import annotations

import asyncio
import json
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from safetensors.torch import load_file

from patchdit.nodes import PatchDiTExtension, host
from patchdit.nodes.api import InputImpl, Types
from patchdit.nodes.denoise import FinishDenoising
from patchdit.nodes.latent_dicts import mask_of
from patchdit.nodes.load import LoadBlockworld

from .conftest import PACK, ROOT
from .graphs import needs_shipped_weights

INFO = Path(__file__).parent / "object_info"
WORKFLOW = json.loads((ROOT / "workflows" / "api" / "text_to_video.json").read_text())
PROMPT = "a red ball bounces"
CHOICES = {  # of files that users have
    "LoadVideoModel": ("model_name", "diffusion_models"),
    "LoadVideoVAE": ("vae_name", "vae"),
    "LoadVideoLora": ("lora_name", "loras"),
}


def workflow(weights="tiny", **changes):
    """text_to_video.json with other inputs, such as n5_steps=3, and its latent saved too."""
    graph = json.loads(json.dumps(WORKFLOW))
    graph["1"]["inputs"]["weights"] = weights
    graph["2"]["inputs"]["text"] = PROMPT
    for name, value in changes.items():
        node, key = name[1:].split("_", 1)
        graph[node]["inputs"][key] = value
    save = {"samples": ["7", 0], "filename_prefix": "latent"}
    graph["20"] = {"class_type": "SaveLatent", "inputs": save}
    return graph


def saved_latent(comfyui, graph):
    outputs = comfyui.run(graph)
    return load_file(str(comfyui.output(outputs["20"]["latents"][0])))["latent_tensor"]


def alone(monkeypatch, comfyui, weights, graph, mask=None):
    """The same latent from the nodes without ComfyUI."""
    monkeypatch.setattr(host, "weights_folder", lambda: comfyui.base / "models" / "patchdit")
    nodes = {n.GET_SCHEMA().node_id: n for n in extension_nodes()}

    def run(id, **links):
        given = {k: v for k, v in graph[id]["inputs"].items() if not isinstance(v, list)}
        return nodes[graph[id]["class_type"]].execute(**given, **links).args

    model, clip, _ = LoadBlockworld.execute(weights).args
    texts = (graph[id]["inputs"]["text"] for id in ("2", "3"))
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(t)) for t in texts)
    latent = run("4")[0]
    if mask is not None:
        latent["noise_mask"] = mask
    (sigmas,) = run("5", latent=latent)
    (state,) = run(
        "6", model=model, positive=positive, negative=negative, latent=latent, sigmas=sigmas
    )
    return FinishDenoising.execute(state).args[0]["samples"]


def extension_nodes():
    return asyncio.run(PatchDiTExtension().get_node_list())


def test_every_node_is_listed_and_its_schema_stored(comfyui):
    """Refreshes object_info/<version>.json, which tests/nodes compares the stand-in with."""
    version = comfyui.get("system_stats")["system"]["comfyui_version"]
    listed = comfyui.get("object_info")
    ids = [node.GET_SCHEMA().node_id for node in extension_nodes()]
    assert [id for id in ids if id not in listed] == []
    stored = {id: listed[id] for id in sorted(ids)}
    weights = stored["PatchDiT_LoadBlockworld"]["input"]["required"]["weights"][1]
    assert weights["options"] == ["blockworld-mini", "tiny", "wan"]
    weights["options"] = ["blockworld-mini"]
    for id, (socket, folder) in CHOICES.items():
        choice = stored[f"PatchDiT_{id}"]["input"]["required"][socket][1]
        files = [path.name for path in (comfyui.base / "models" / folder).iterdir()]
        assert choice["options"] == sorted(name for name in files if not name.startswith("put_"))
        choice["options"] = []
    for info in stored.values():
        assert info.pop("python_module") == f"custom_nodes.{PACK}"
    INFO.mkdir(exist_ok=True)
    text = json.dumps(stored, indent=1, ensure_ascii=False)
    (INFO / f"{version}.json").write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_same_seed_same_latent_as_without_comfyui(comfyui, monkeypatch, solver):
    graph = workflow(n5_steps=6, n6_solver=solver, n4_batch_size=2)
    inside = saved_latent(comfyui, graph)
    outside = alone(monkeypatch, comfyui, "tiny", graph)
    assert inside.shape == outside.shape == (2, 16, 5, 8, 8)
    assert (inside - outside).abs().max() < 1e-4


@needs_shipped_weights
def test_same_latent_with_the_shipped_weights(comfyui, monkeypatch):
    graph = workflow("blockworld-mini")
    outside = alone(monkeypatch, comfyui, "blockworld-mini", graph)
    assert (saved_latent(comfyui, graph) - outside).abs().max() < 1e-4


def test_the_video_is_saved(comfyui):
    outputs = comfyui.run(workflow(n5_steps=2, n4_width=96, n9_filename_prefix="t2v/clip"))
    with av.open(str(comfyui.output(outputs["9"]["images"][0]))) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (96, 64, 8)
        assert sum(1 for _ in container.decode(stream)) == 17
        assert "PatchDiT_DecodeVideo" in container.metadata["prompt"]


def core_euler(graph):
    """The graph with core's SamplerCustom in place of our Start and Finish."""
    links = {k: v for k, v in graph["6"]["inputs"].items() if isinstance(v, list)}
    links["latent_image"] = links.pop("latent")
    graph["21"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
    rest = {"add_noise": True, "noise_seed": 1, "cfg": 4.0, "sampler": ["21", 0]}
    graph["7"] = {"class_type": "SamplerCustom", "inputs": {**links, **rest}}
    del graph["6"]
    return graph


def test_core_euler_on_our_model_equals_our_euler(comfyui):
    ours = saved_latent(comfyui, workflow(n5_steps=5, n6_solver="euler"))
    core = saved_latent(comfyui, core_euler(workflow(n5_steps=5)))
    assert (ours - core).abs().max() < 1e-4


def test_core_euler_holds_a_region_as_ours_does(comfyui):
    """Core masks by itself; the network hears of it by the noise mask."""
    ours = saved_latent(comfyui, region(workflow(n5_steps=5, n6_solver="euler")))
    graph = core_euler(region(workflow(n5_steps=5)))
    assert (ours - saved_latent(comfyui, graph)).abs().max() < 1e-4


def test_core_ksampler_with_cfg(comfyui):
    graph = workflow()
    links = {name: graph["6"]["inputs"][name] for name in ("model", "positive", "negative")}
    settings = dict(
        seed=3, steps=4, cfg=3.0, sampler_name="dpmpp_2m", scheduler="simple", denoise=1
    )
    inputs = {**links, **settings, "latent_image": ["4", 0]}
    graph["7"] = {"class_type": "KSampler", "inputs": inputs}
    del graph["5"], graph["6"]
    latent = saved_latent(comfyui, graph)
    assert torch.isfinite(latent).all() and latent.std() > 0.1


def region(graph, kept=0.0):
    """The graph with a mask of core's: the left half of the picture at `kept`, the rest at 1."""

    def mask(value, width):
        return {"class_type": "SolidMask", "inputs": dict(value=value, width=width, height=64)}

    graph["30"], graph["31"] = mask(1.0, 64), mask(kept, 32)
    place = dict(destination=["30", 0], source=["31", 0], x=0, y=0, operation="multiply")
    graph["32"] = {"class_type": "MaskComposite", "inputs": place}
    masked = {"samples": ["4", 0], "mask": ["32", 0]}
    graph["33"] = {"class_type": "SetLatentNoiseMask", "inputs": masked}
    graph["6"]["inputs"]["latent"] = ["33", 0]
    return graph


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_region_is_kept_and_equals_the_run_without_comfyui(comfyui, monkeypatch, kept):
    graph = region(workflow(n5_steps=4), kept)
    inside = saved_latent(comfyui, graph)
    mask_FHW = torch.ones(1, 64, 64)
    mask_FHW[:, :, :32] = kept
    mask = mask_of({"noise_mask": mask_FHW}, tuple(inside.shape))
    outside = alone(monkeypatch, comfyui, "tiny", graph, mask)
    assert (inside - outside).abs().max() < 1e-4
    # An empty latent is zeros in the model's own space, and comes back as the VAE's mean.
    held = inside[..., :4]
    spread = (held - held[:, :, :1, :1, :1]).abs().max()
    assert spread < 1e-5 if kept == 0 else spread > 0.1


@pytest.mark.parametrize("masked", [False, True])
def test_a_model_of_cores_own_gives_what_ours_gives(comfyui, masked):
    """The same weights loaded by core as Wan 2.1: also what is kept is held alike ("replace")."""
    graph = workflow("wan", n5_steps=4)
    graph = region(graph) if masked else graph
    ours = saved_latent(comfyui, graph)
    loader = {"unet_name": "tiny-wan.safetensors", "weight_dtype": "default"}
    graph["50"] = {"class_type": "UNETLoader", "inputs": loader}
    graph["6"]["inputs"]["model"] = ["50", 0]
    assert (saved_latent(comfyui, graph) - ours).abs().max() < 1e-4


def test_previews_and_step_caches(comfyui):
    """A run with previews on, through core's EasyCache, which the log names."""
    graph = workflow(n5_steps=5, n6_seed=9)
    cache = dict(model=["1", 0], reuse_threshold=0.2, start_percent=0.15, end_percent=0.95)
    graph["60"] = {"class_type": "EasyCache", "inputs": {**cache, "verbose": False}}
    graph["6"]["inputs"]["model"] = ["60", 0]
    comfyui.run(graph, preview_method="latent2rgb")
    assert "easycache on this MODEL" in comfyui.log


@pytest.mark.parametrize("kept", [None, 0.0, 0.6])
def test_single_steps_equal_one_run(comfyui, kept):
    """Also where what a run computes once, known tokens, is computed anew by every node."""

    def graph():
        plain = workflow(n5_steps=4)
        return plain if kept is None else region(plain, kept)

    whole = saved_latent(comfyui, graph())
    single = graph()
    for id, before in (("40", "6"), ("41", "40")):
        inputs = {"state": [before, 0], "steps": 1}
        single[id] = {"class_type": "PatchDiT_DenoiseStep", "inputs": inputs}
    single["7"]["inputs"]["state"] = ["41", 0]
    assert torch.equal(saved_latent(comfyui, single), whole)


def test_cancel_stops_a_run(comfyui):
    id = comfyui.queue(workflow(n5_steps=1000, n6_seed=77))
    time.sleep(2)
    started = time.monotonic()
    comfyui.post("interrupt", {})
    entry = comfyui.wait(id, 20)
    assert "execution_interrupted" in dict(entry["status"]["messages"])
    assert time.monotonic() - started < 5


def test_bad_input_is_one_sentence_at_the_node(comfyui):
    error = comfyui.error_of(workflow(n4_length_in="frames", n4_frames=7))
    assert error["node_id"] == "4"
    assert error["exception_message"].strip() == "A clip has 1 + 4k frames; got 7, nearest 5 or 9."
    error = comfyui.error_of(workflow(n2_text="ball " * 2000))
    assert error["node_id"] == "2" and "shorten it" in error["exception_message"]


def test_video_in_and_out_keeps_length_rate_and_sound(comfyui):
    frames_FHWC = torch.rand(10, 64, 64, 3)
    tone = torch.sin(torch.arange(16000) / 20)[None, None]
    sound = {"waveform": tone, "sample_rate": 16000}
    parts = Types.VideoComponents(images=frames_FHWC, frame_rate=Fraction(10), audio=sound)
    InputImpl.VideoFromComponents(parts).save_to(str(comfyui.base / "input" / "clip.mp4"))
    outputs = comfyui.run(round_trip("clip.mp4"))
    with av.open(str(comfyui.output(outputs["4"]["images"][0]))) as container:
        assert container.streams.video[0].average_rate == 10
        assert sum(1 for _ in container.decode(video=0)) == 10
        assert container.streams.audio[0].duration > 0


def test_an_unreadable_video_is_one_sentence(comfyui):
    (comfyui.base / "input" / "broken.mp4").write_bytes(b"no video" * 99)
    error = comfyui.error_of(round_trip("broken.mp4"))
    assert error["node_id"] == "3" and "cannot be read" in error["exception_message"]


def round_trip(file):
    """LoadVideo, EncodeVideo, DecodeVideo, SaveVideo."""

    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    return {
        "1": node("PatchDiT_LoadBlockworld", weights="tiny"),
        "2": node("LoadVideo", file=file),
        "3": node("PatchDiT_EncodeVideo", video=["2", 0], vae=["1", 2], fit="pad", fps=8.0),
        "5": node("PatchDiT_DecodeVideo", latent=["3", 0], vae=["1", 2], fps=0.0, audio=["3", 1]),
        "4": node("SaveVideo", video=["5", 0], filename_prefix="x", format="auto", codec="auto"),
    }


def test_saving_a_long_video_takes_no_more_memory(comfyui):
    """A minute at 128x128 would be 283 MB of frames."""
    comfyui.run(workflow(n5_steps=1, n4_length_in="frames", n4_frames=5))  # everything is loaded
    graph = workflow(n4_width=128, n4_height=128, n4_length_in="frames", n4_frames=1441)
    graph["8"]["inputs"]["latent"] = ["4", 0]
    for id in ("2", "3", "5", "6", "7", "20"):
        del graph[id]
    before = resident(comfyui.process.pid, reset=True)
    comfyui.run(graph)
    assert resident(comfyui.process.pid) - before < 100


def resident(pid: int, reset: bool = False) -> float:
    """The most memory in MB that a process has held since the last reset."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
