"""--set changes the graph and the prompt that saved files carry."""

import pytest

from patchdit.standalone.graph import WorkflowError, read_graph
from patchdit.standalone.settings import apply_settings


@pytest.fixture
def graph(classes, session):
    prompt = {
        "1": {"class_type": "Number", "inputs": {"value": 3, "steps": 0}},
        "2": {"class_type": "Number", "inputs": {"value": ["1", 0], "steps": 0}},
        "3": {"class_type": "Choose", "inputs": {"first": True, "a": ["1", 0], "b": ["2", 0]}},
        "4": {"class_type": "Show", "inputs": {"value": ["3", 0]}, "_meta": {"title": "v1.5"}},
    }
    return read_graph(prompt, classes)


def test_values_take_the_inputs_type_in_graph_and_prompt(graph):
    apply_settings(graph, ["1.value=8", "1.mode=doubled", "choose.first=No"])
    assert graph.nodes["1"].values == {"value": 8, "steps": 0, "mode": "doubled"}
    assert graph.prompt["1"]["inputs"] == {"value": 8, "steps": 0, "mode": "doubled"}
    assert graph.nodes["3"].values["first"] is False


def test_a_linked_input_is_cut_loose(graph):
    apply_settings(graph, ["2.value=8"])
    assert graph.nodes["2"].links == {}
    assert graph.prompt["2"]["inputs"]["value"] == 8


def test_text_may_hold_dots_and_equals_signs(classes, session):
    prompt = {"1": {"class_type": "SaveImage", "inputs": {}, "_meta": {"title": "My v1.5"}}}
    graph = read_graph(prompt, classes)
    apply_settings(graph, ["my v1.5.filename_prefix=a.b=c"])
    assert graph.nodes["1"].values == {"filename_prefix": "a.b=c"}


@pytest.mark.parametrize("setting", ["choose.first=perhaps", "1.value=1e3", "1.value=", "v1.5=3"])
def test_values_that_do_not_fit(graph, setting):
    with pytest.raises(WorkflowError):
        apply_settings(graph, [setting])
