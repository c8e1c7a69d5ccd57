"""Runs inside.py, inside_verbs.py and inside_attention.py in the process of a real ComfyUI."""

from .conftest import run_inside


def test_our_own_model_inside_the_process_of_comfyui(inside, record_property):
    record_property("inside", inside.tally)
    assert inside.tally.passed > 0


def test_whose_attention_it_is_there(record_property):
    record_property("inside", run_inside("inside_attention"))
