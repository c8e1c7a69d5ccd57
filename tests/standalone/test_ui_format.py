"""The canvas's file format becomes the prompt that the canvas would send."""

import pytest

from patchdit.standalone.graph import WorkflowError
from patchdit.standalone.ui_format import is_ui_format, to_api_format


def node(id, kind, widgets=None, links=(), outputs=("INT",), mode=0, **more):
    """`links`: (input name, type, link id or None)."""
    return {
        "id": id,
        "type": kind,
        "mode": mode,
        "inputs": [{"name": name, "type": type, "link": link} for name, type, link in links],
        "outputs": [{"name": type, "type": type} for type in outputs],
        "widgets_values": widgets or [],
    } | more


def canvas(*nodes, links=()):
    return {"nodes": list(nodes), "links": [[*link, "INT"] for link in links], "version": 0.4}


def test_recognised_by_its_list_of_nodes():
    assert is_ui_format(canvas())
    assert not is_ui_format({"1": {"class_type": "Show", "inputs": {}}})
    assert not is_ui_format([])


def test_widgets_links_titles_and_the_seeds_control(classes, session):
    workflow = canvas(
        node(1, "Number", [7, "randomize", 3, "doubled"], title="Seven"),
        node(2, "Show", links=[("value", "*", 5)]),
        node(3, "Note", ["words"]),
        node(4, "MarkdownNote", ["words"]),
        links=[(5, 1, 0, 2, 0)],
    )
    assert to_api_format(workflow, classes) == {
        "1": {
            "class_type": "Number",
            "inputs": {"value": 7, "steps": 3, "mode": "doubled"},
            "_meta": {"title": "Seven"},
        },
        "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
    }


def test_a_seed_without_its_control_would_shift_all_that_follows(classes, session):
    workflow = canvas(node(1, "Number", [7, 3, "doubled"]))
    with pytest.raises(WorkflowError, match=r"Node 1 \(Number\) does not say behind value what"):
        to_api_format(workflow, classes)


def test_links_as_objects_and_widgets_by_name(classes, session):
    workflow = canvas(
        node(1, "Number", {"value": 4, "mode": "plain"}),
        node(2, "Show", links=[("value", "*", 5)]),
    )
    link = {"id": 5, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0}
    prompt = to_api_format(workflow | {"links": [link]}, classes)
    assert prompt["1"]["inputs"] == {"value": 4, "steps": 0, "mode": "plain"}
    assert prompt["2"]["inputs"] == {"value": ["1", 0]}


def test_widgets_newer_than_the_file_have_their_defaults(classes, session):
    prompt = to_api_format(canvas(node(1, "Number", [7, "fixed"])), classes)
    assert prompt["1"]["inputs"] == {"value": 7, "steps": 0, "mode": "plain"}


def test_a_link_wins_over_the_widget_beneath_it(classes, session):
    workflow = canvas(
        node(1, "Number", [7, "fixed", 0, "plain"]),
        node(2, "Number", [9, "fixed", 0, "plain"], links=[("value", "INT", 5)]),
        links=[(5, 1, 0, 2, 0)],
    )
    assert to_api_format(workflow, classes)["2"]["inputs"]["value"] == ["1", 0]


def test_a_primitives_value_already_lies_in_the_widget(classes, session):
    workflow = canvas(
        node(1, "PrimitiveNode", [9, "fixed"]),
        node(2, "Number", [9, "fixed", 0, "plain"], links=[("value", "INT", 5)]),
        links=[(5, 1, 0, 2, 0)],
    )
    prompt = to_api_format(workflow, classes)
    assert list(prompt) == ["2"]
    assert prompt["2"]["inputs"]["value"] == 9


def test_reroutes_and_bypassed_nodes_are_looked_through(classes, session):
    workflow = canvas(
        node(1, "Number", [7, "fixed"]),
        node(2, "Reroute", links=[("", "*", 10)], outputs=("*",)),
        node(3, "Add", links=[("x", "NUMBERS", 11), ("a", "INT", 12)], mode=4),
        node(4, "Show", links=[("value", "*", 13)]),
        links=[(10, 1, 0, 2, 0), (11, 1, 1, 3, 0), (12, 2, 0, 3, 1), (13, 3, 0, 4, 0)],
    )
    prompt = to_api_format(workflow, classes)
    assert set(prompt) == {"1", "4"}
    assert prompt["4"]["inputs"] == {"value": ["1", 0]}


def test_a_muted_node_takes_its_links_with_it(classes, session):
    workflow = canvas(
        node(1, "Number", [7, "fixed"], mode=2),
        node(2, "Show", links=[("value", "*", 5)]),
        links=[(5, 1, 0, 2, 0)],
    )
    assert to_api_format(workflow, classes) == {"2": {"class_type": "Show", "inputs": {}}}


def test_a_circle_of_reroutes_ends(classes, session):
    workflow = canvas(
        node(1, "Reroute", links=[("", "*", 1)], outputs=("*",)),
        node(2, "Reroute", links=[("", "*", 2)], outputs=("*",)),
        node(3, "Show", links=[("value", "*", 3)]),
        links=[(1, 2, 0, 1, 0), (2, 1, 0, 2, 0), (3, 1, 0, 3, 0)],
    )
    assert to_api_format(workflow, classes)["3"]["inputs"] == {}


def test_an_unknown_node_stays_for_the_graph_to_name(classes, session):
    prompt = to_api_format(canvas(node(1, "Nope", [1])), classes)
    assert prompt == {"1": {"class_type": "Nope", "inputs": {}}}


def test_subgraphs_are_refused_by_name(classes, session):
    workflow = canvas(node(1, "some-uuid", title="Inner"))
    workflow["definitions"] = {"subgraphs": [{"id": "some-uuid"}]}
    with pytest.raises(WorkflowError, match=r'Node 1 "Inner" is a subgraph; unpack it first\.'):
        to_api_format(workflow, classes)


@pytest.mark.parametrize("nodes", [[{}], [3], [{"id": 1}]])
def test_broken_files_are_one_sentence(nodes, classes, session):
    with pytest.raises(WorkflowError, match="not whole UI-format JSON"):
        to_api_format({"nodes": nodes}, classes)
