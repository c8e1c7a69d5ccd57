"""Runs inside.py and inside_verbs.py: our own model in the process of a real ComfyUI."""


def test_our_own_model_inside_the_process_of_comfyui(inside, record_property):
    record_property("inside", inside.passed)
    assert inside.passed > 0
