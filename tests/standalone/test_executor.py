"""Running graphs: order, lists, laziness, cancel, and what is never run."""

import asyncio
import dataclasses
import weakref

import pytest
import torch

from patchdit.standalone.api import io
from patchdit.standalone.executor import NodeError, run
from patchdit.standalone.graph import read_graph
from patchdit.standalone.host import InterruptProcessingException, use_session


@pytest.fixture
def execute(classes, session):
    def execute(prompt, **options):
        return asyncio.run(run(read_graph(prompt, classes), **options))

    return execute


def number(value, **more):
    return {"class_type": "Number", "inputs": {"value": value, "steps": 0} | more}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def test_values_flow_and_each_node_runs_once(execute):
    started = []
    prompt = {
        "1": number(3),
        "2": node("Add", a=["1", 0], b=["1", 0]),
        "3": node("Add", a=["2", 0], b=["1", 0]),
        "4": node("Show", value=["3", 0]),
        "5": number(50),
    }
    shown = execute(prompt, on_start=lambda node: started.append(node.id))
    assert shown == {"4": {"value": [9], "id": ["4"]}}
    assert started == ["1", "2", "3", "4"]


def test_a_list_runs_a_node_per_item_and_repeats_the_shorter(execute):
    prompt = {
        "1": number(3),
        "2": node("Add", a=["1", 0], b=["1", 1]),
        "3": node("Show", value=["2", 0]),
        "4": node("ShowAll", values=["2", 0]),
    }
    shown = execute(prompt)
    assert shown["3"]["value"] == [3, 4, 5]
    assert shown["4"]["values"] == [[3, 4, 5]]


def test_an_empty_list_is_an_error_that_names_the_input(execute):
    prompt = {"1": number(0), "2": node("Show", value=["1", 1])}
    with pytest.raises(NodeError, match=r"Node 2 \"Show\": Input 'value' got an empty list"):
        execute(prompt)


@pytest.mark.parametrize("first", [True, False])
def test_a_lazy_branch_that_nobody_asks_for_never_runs(execute, first):
    started = []
    prompt = {
        "1": number(1),
        "2": number(2),
        "3": node("Choose", first=first, a=["1", 0], b=["2", 0]),
        "4": node("Show", value=["3", 0]),
    }
    shown = execute(prompt, on_start=lambda node: started.append(node.id))
    assert shown["4"]["value"] == [1 if first else 2]
    assert ("1" in started, "2" in started) == (first, not first)


def test_a_node_that_fails_to_choose_is_named(execute, classes, monkeypatch):
    def refuse(first, a, b):
        raise ValueError("cannot choose.")

    monkeypatch.setattr(classes["Choose"], "check_lazy_status", refuse)
    prompt = {
        "1": number(1),
        "3": node("Choose", first=True, a=["1", 0], b=["1", 0]),
        "4": node("Show", value=["3", 0]),
    }
    with pytest.raises(NodeError, match=r'^Node 3 "Choose": cannot choose\.$'):
        execute(prompt)


def test_results_are_let_go_once_used(execute, classes, monkeypatch):
    """Of a chain of large values, no more than maker and user are alive at once."""
    alive, most = weakref.WeakSet(), []

    async def add(a, b=0):
        made = torch.zeros(1) + a + 1
        alive.add(made)
        most.append(len(alive))
        return io.NodeOutput(made)

    monkeypatch.setattr(classes["Add"], "execute", add)
    prompt = {"0": number(1)}
    for i in range(1, 10):
        prompt[str(i)] = node("Add", a=[str(i - 1), 0])
    prompt["end"] = node("Show", value=["9", 0])
    assert execute(prompt)["end"]["value"] == [10]
    assert len(most) == 9
    assert max(most) <= 2


def test_a_chain_of_five_thousand_nodes(execute):
    prompt = {"0": number(1)}
    for i in range(1, 5000):
        prompt[str(i)] = node("Add", a=[str(i - 1), 0])
    prompt["end"] = node("Show", value=["4999", 0])
    assert execute(prompt)["end"]["value"] == [1]


def test_a_failing_node_is_named(execute):
    prompt = {"1": node("Fail", how="value"), "2": node("Show", value=["1", 0])}
    with pytest.raises(NodeError, match=r'^Node 1 "Fail": need a kinder input\.$') as error:
        execute(prompt)
    assert isinstance(error.value.__cause__, ValueError)


def test_a_node_cannot_keep_state(execute):
    prompt = {"1": node("Fail", how="state"), "2": node("Show", value=["1", 0])}
    with pytest.raises(NodeError, match="Fail is locked while it executes"):
        execute(prompt)


def test_progress_names_the_node_and_cancel_stops_within_a_step(execute, session):
    reports = []

    def report(node, value, total):
        reports.append((node, value, total))
        if value == 2:
            session.interrupt.set()

    prompt = {"1": number(1, steps=5), "2": node("Show", value=["1", 0])}
    with (
        use_session(dataclasses.replace(session, on_progress=report)),
        pytest.raises(InterruptProcessingException),
    ):
        execute(prompt)
    assert reports == [("1", 1, 5), ("1", 2, 5)]
