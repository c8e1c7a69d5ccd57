"""Runs that are cancelled in a real ComfyUI and go on; what their files know a model by."""

from __future__ import annotations

import time

import pytest
import torch
from safetensors.torch import save_file

from patchdit.models.saved_run import load_run

from .graphs import keeping, latent_inside, lora_of, node, shipped

RESUMED = "Going on after step "


def journal_of(comfyui) -> list:
    """The files of runs under way."""
    return list((comfyui.base / "user").rglob("journal/*.safetensors"))


@pytest.fixture(autouse=True)
def empty_journal(comfyui):
    """Without what other tests cancelled and never went on with."""
    for path in journal_of(comfyui):
        path.unlink()


def cancelled_once_written(comfyui, graph: dict) -> bool:
    """Queue a graph, and cancel it as soon as something of it is on disk.

    False where the run was done before: its journal is gone then, even where the cancel still came
    in time for the node that saves the latent.
    """
    assert journal_of(comfyui) == []
    id = comfyui.queue(graph)
    while not journal_of(comfyui) and not comfyui.get(f"history/{id}"):
        time.sleep(0.01)
    comfyui.post("interrupt", {})
    messages = dict(comfyui.wait(id)["status"]["messages"])
    cancelled = "execution_interrupted" in messages
    assert cancelled or "execution_success" in messages, messages
    written = bool(journal_of(comfyui))
    assert cancelled or not written
    return written


def resumed_latent(comfyui, graph: dict) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """The latent, and after which step of how many its runs went on, as the log has it."""
    before = len(comfyui.log)
    latent = latent_inside(comfyui, graph)
    told = comfyui.log[before:].split(RESUMED)[1:]
    assert journal_of(comfyui) == []
    steps = [line.split(" of an earlier")[0].split(" of ") for line in told]
    return latent, [(int(step), int(total)) for step, total in steps]


def tiny(name: str, steps: int) -> dict:
    graph = shipped(name, steps)
    for entry in graph.values():
        if entry["class_type"] == "PatchDiT_LoadBlockworld":
            entry["inputs"]["weights"] = "tiny"
        if "text" in entry["inputs"]:
            entry["inputs"]["text"] = "a red ball"
        if "checkpoint" in entry["inputs"]:
            entry["inputs"]["checkpoint"] = False
    return graph


def test_a_cancelled_extension_goes_on_with_the_windows_that_are_missing(comfyui):
    steps = 40
    graph = keeping(tiny("extend", steps), "9")
    graph["9"]["inputs"] |= {"seconds": 12.0, "seed": 5}
    unbroken = latent_inside(comfyui, graph)
    graph["9"]["inputs"]["checkpoint"] = True
    assert cancelled_once_written(comfyui, graph)
    resumed, after = resumed_latent(comfyui, graph)
    assert after and all(0 < step <= total == steps for step, total in after)
    assert torch.equal(resumed, unbroken)


def test_a_cancelled_run_goes_on_at_the_step_it_had_come_to(comfyui):
    """A journal is written every five seconds; a run that is done before gets more steps."""

    def graph(steps, seed, checkpoint):
        graph = keeping(tiny("text_to_video", steps), "7")
        graph["4"]["inputs"] |= {"width": 128, "height": 128}
        graph["6"]["inputs"]["seed"] = seed
        graph["7"]["inputs"]["checkpoint"] = checkpoint
        return graph

    latent_inside(comfyui, graph(1, 1, False))
    started = time.monotonic()
    latent_inside(comfyui, graph(20, 2, False))
    steps = min(max(round(20 * 7 / (time.monotonic() - started)), 30), 1000)
    while not cancelled_once_written(comfyui, graph(steps, 3, True)):
        assert steps < 1000, "1000 steps take less than five seconds here"
        steps = min(2 * steps, 1000)
    resumed, [(step, total)] = resumed_latent(comfyui, graph(steps, 3, True))
    assert 0 < step < total == steps
    assert torch.equal(resumed, latent_inside(comfyui, graph(steps, 3, False)))


@pytest.fixture(scope="module")
def saved_fingerprint(comfyui, parts):
    """`saved_fingerprint(strength, steps)`: of the tiny model with a LoRA, after so many steps."""
    (comfyui.base / "models" / "loras").mkdir(exist_ok=True)
    save_file(lora_of(parts), comfyui.base / "models" / "loras" / "tiny.safetensors")

    def saved(strength: float, steps: int) -> str:
        graph = tiny("text_to_video", 4)
        del graph["7"], graph["8"], graph["9"]
        if strength:
            lora = {"lora_name": "tiny.safetensors", "strength_model": strength, "model": ["1", 0]}
            graph["lora"] = node("LoraLoaderModelOnly", **lora)
            graph["6"]["inputs"]["model"] = ["lora", 0]
        graph["run"] = node("PatchDiT_DenoiseStep", state=["6", 0], steps=steps, checkpoint=False)
        name = f"state {strength} {steps}"
        inputs = {"state": ["run", 0], "filename_prefix": name}
        graph["save"] = node("PatchDiT_SaveDenoiseState", **inputs)
        (path,) = comfyui.run(graph)["save"]["text"]
        return load_run(path).fingerprint

    return saved


def test_a_lora_is_another_model_and_taken_off_again_it_is_not(saved_fingerprint):
    plain, lora, stronger = (saved_fingerprint(strength, 1) for strength in (0, 0.5, 1.0))
    assert len({plain, lora, stronger}) == 3
    again = [saved_fingerprint(strength, 2) for strength in (0, 0.5, 1.0)]
    assert again == [plain, lora, stronger]


def test_another_process_knows_the_model_by_the_same_fingerprint(saved_fingerprint, inside):
    """With a LoRA too: there the weights were never loaded, here it is merged into them."""
    told = inside.fingerprints
    assert told == {str(strength): saved_fingerprint(strength, 3) for strength in (0, 0.5, 1.0)}
