"""Runs inside_text.py: Wan's text encoder in the process of a real ComfyUI."""

from .conftest import run_inside


def test_text_inside_the_process_of_comfyui(record_property):
    record_property("inside", run_inside("inside_text"))
