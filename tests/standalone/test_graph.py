"""A workflow is checked before it runs: one sentence for each defect, naming the node."""

import pytest

from patchdit.standalone.graph import WorkflowError, read_graph, validate


def show(source="1", **number):
    return {
        "1": {"class_type": "Number", "inputs": {"value": 3, "steps": 0} | number},
        "2": {
            "class_type": "Show",
            "inputs": {"value": [source, 0]},
            "_meta": {"title": "Look here"},
        },
    }


def check(prompt, classes):
    graph = read_graph(prompt, classes)
    validate(graph)
    return graph


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ({}, "The workflow holds no nodes; need API-format or UI-format JSON."),
        ([], "The workflow holds no nodes; need API-format or UI-format JSON."),
        ({"1": {"inputs": {}}}, 'Node 1 "?" is not a node; need class_type and inputs.'),
        ({"1": 4}, 'Node 1 "?" is not a node; need class_type and inputs.'),
        (
            {"1": {"class_type": ["a"], "_meta": 3}},
            'Node 1 "?" is not a node; need class_type and inputs.',
        ),
        (
            {"1": {"class_type": "Nope", "inputs": {}, "_meta": {"title": "Odd"}}},
            'Node 1 "Odd" is a Nope, which is not known here; '
            "install the pack that has it, or remove the node.",
        ),
        (
            {"1": {"class_type": "Number", "inputs": {"value": 1, "steps": 0}}},
            "The workflow has no output node, such as Save Video; add one.",
        ),
        (
            show("9"),
            "Node 2 \"Look here\" takes 'value' from node 9, which is not in the workflow.",
        ),
        (show(value=101), "Node 1 \"A Number\" has 'value' = 101; need 0 to 100."),
        (show(value=float("nan")), "Node 1 \"A Number\" needs INT at 'value', but got nan."),
        (show(value="many"), "Node 1 \"A Number\" needs INT at 'value', but got 'many'."),
        (show(value=1.5), "Node 1 \"A Number\" needs INT at 'value', but got 1.5."),
        (
            show(mode="tripled"),
            "Node 1 \"A Number\" has 'mode' = 'tripled'; the choices are: plain, doubled.",
        ),
        (
            {"1": {"class_type": "Show", "inputs": {}}},
            "Node 1 \"Show\" lacks its input 'value' (*).",
        ),
        (
            {"1": {"class_type": "Show", "inputs": {"value": 4}}},
            "Node 1 \"Show\" needs a link at 'value' (*), but got the value 4.",
        ),
        (
            {"1": {"class_type": "Show", "inputs": {"value": ["1"]}}},
            "Node 1 \"Show\" has a bad link at input 'value'; need [node id, output index].",
        ),
    ],
)
def test_defects(prompt, sentence, classes, session):
    with pytest.raises(WorkflowError) as error:
        check(prompt, classes)
    assert str(error.value) == sentence


def test_wrong_type_on_a_link(classes, session):
    prompt = show() | {
        "3": {"class_type": "Choose", "inputs": {"first": True, "a": ["1", 1], "b": ["1", 0]}}
    }
    prompt["2"]["inputs"]["value"] = ["3", 0]
    with pytest.raises(WorkflowError, match=r"Node 3 \"Choose\" needs INT at 'a', but .* NUMBERS"):
        check(prompt, classes)


def test_output_that_does_not_exist(classes, session):
    prompt = show()
    prompt["2"]["inputs"]["value"] = ["1", 5]
    with pytest.raises(WorkflowError, match=r"output 5 of Node 1 \"A Number\", which has 2\."):
        check(prompt, classes)


def test_a_circle_is_named(classes, session):
    prompt = show("3") | {
        "3": {"class_type": "Add", "inputs": {"a": ["4", 0]}},
        "4": {"class_type": "Add", "inputs": {"a": ["3", 0], "b": ["1", 0]}},
    }
    with pytest.raises(WorkflowError, match=r'Node [34] "Add" -> Node [34] "Add" -> Node [34]'):
        check(prompt, classes)


def test_all_defects_are_told_at_once(classes, session):
    prompt = show(value=-1, mode="tripled")
    with pytest.raises(WorkflowError) as error:
        check(prompt, classes)
    assert len(str(error.value).splitlines()) == 2


def test_what_the_outputs_do_not_need_may_be_unfinished(classes, session):
    check(show() | {"7": {"class_type": "Add", "inputs": {}}}, classes)


def test_values_take_their_sockets_type(classes, session):
    graph = check(show(value="7", steps=2.0), classes)
    assert graph.nodes["1"].values == {"value": 7, "steps": 2}
    assert isinstance(graph.nodes["1"].values["steps"], int)


def test_inputs_that_the_node_does_not_have_are_ignored(classes, session):
    assert "upload" not in check(show(upload="image"), classes).nodes["1"].values


def test_a_node_checks_its_own_inputs(classes, session):
    class Picky(classes["Number"]):
        @classmethod
        def validate_inputs(cls, value):
            return True if value % 2 else f"value {value} is even; need an odd one."

    mine = classes | {"Number": Picky}
    check(show(value=101), mine)
    with pytest.raises(WorkflowError, match=r'^Node 1 "A Number": value 4 is even'):
        check(show(value=4), mine)
