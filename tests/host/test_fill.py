"""Runs inside_fill*.py, inside_loaders.py and inside_wan_fill.py: verbs with other MODELs."""

from .conftest import run_inside


def test_every_way_of_filling_with_cores_models(record_property):
    record_property("inside", run_inside("inside_fill"))


def test_pinned_images_are_told_as_cores_nodes_tell_them(record_property):
    record_property("inside", run_inside("inside_fill_pins"))


def test_every_way_of_filling_with_our_wan(record_property):
    record_property("inside", run_inside("inside_wan_fill"))


def test_what_cores_loaders_give(record_property):
    record_property("inside", run_inside("inside_loaders"))
