"""Runs inside_lora.py: LoRAs in the process of a real ComfyUI."""

from .conftest import run_inside


def test_loras_inside_the_process_of_comfyui(record_property):
    record_property("inside", run_inside("inside_lora"))
