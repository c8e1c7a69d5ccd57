"""Runs inside_ltx.py: the verbs with ComfyUI's own LTX VAE."""

from .conftest import run_inside


def test_the_verbs_with_cores_ltx(record_property):
    record_property("inside", run_inside("inside_ltx"))
