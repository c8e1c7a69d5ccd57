"""Runs inside_fill*.py and inside_wan_fill.py: the verbs with Wan, HunyuanVideo and LTXV."""

from .conftest import run_inside


def test_every_way_of_filling_with_cores_models(record_property):
    record_property("inside", run_inside("inside_fill"))


def test_pinned_images_are_told_as_cores_nodes_tell_them(record_property):
    record_property("inside", run_inside("inside_fill_pins"))


def test_every_way_of_filling_with_our_wan(record_property):
    record_property("inside", run_inside("inside_wan_fill"))
