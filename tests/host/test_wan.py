"""Runs inside_wan*.py: Wan's files in the process of a real ComfyUI."""

from .conftest import run_inside


def test_wan_files_inside_the_process_of_comfyui(record_property):
    passed = run_inside("inside_wan", "inside_wan_memory", "inside_wan_vae")
    record_property("inside", passed)


def test_how_wan_files_are_loaded_there(record_property):
    passed = run_inside("inside_wan_formats", "inside_wan_partial", "inside_wan_dynamic")
    record_property("inside", passed)


def test_what_loading_them_takes(record_property):
    record_property("inside", run_inside("inside_wan_peak"))
