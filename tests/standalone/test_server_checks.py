"""Graphs that cannot run: the answer has the frontend's form, is clear, and comes soon."""

import json
import time

import pytest

from .serving import finished, node, post_json, queue, serve

SHOW = node("Show", value=["1", 0])


def refusal(base, prompt, **more):
    async def scenario(client):
        return await post_json(client, "/api/prompt", {"prompt": prompt, **more})

    status, told = serve(base, scenario)
    assert status == 400
    assert told["error"].keys() == {"type", "message", "details", "extra_info"}
    return told


@pytest.mark.parametrize(
    ("entry", "kind", "sentence"),
    [
        (node("Number", value=101, steps=0), "value_bigger_than_max", "need 0 to 100"),
        (node("Number", value=-(10**400), steps=0), "value_smaller_than_min", "need 0 to 100"),
        (node("Number", value="many", steps=0), "invalid_input_type", "but got 'many'"),
        (node("Number", value=1, steps=0, mode="x"), "value_not_in_list", "plain, doubled"),
        (node("Number", value=1), "required_input_missing", "lacks its input 'steps'"),
        (node("Add", a=["9", 0]), "bad_linked_input", "node 9, which is not in the workflow"),
        (node("LoadVideo", file="none.mp4"), "custom_validation_failed", "no video"),
        (node("LoadVideo", file="../../a.mp4"), "custom_validation_failed", "no path inside"),
        (node("LoadVideo", file="../a.mp4 [output]"), "custom_validation_failed", "no path inside"),
        (node("LoadImage", image="/etc/passwd"), "custom_validation_failed", "no path inside"),
        (node("LoadImage", image="a\0b.png"), "custom_validation_failed", "no path inside"),
    ],
)
def test_a_defect_is_told_at_its_node(tmp_path, entry, kind, sentence):
    told = refusal(tmp_path, {"1": entry, "2": SHOW})
    assert told["error"]["type"] == "prompt_outputs_failed_validation"
    assert sentence in told["error"]["details"]
    [(id, errors)] = told["node_errors"].items()
    assert (id, errors["class_type"]) == ("1", entry["class_type"])
    assert errors["dependent_outputs"] == ["2"]
    assert (errors["errors"][0]["type"], len(errors["errors"])) == (kind, 1)
    assert sentence in errors["errors"][0]["details"]
    assert errors["errors"][0]["extra_info"]["input_name"] in {*entry["inputs"], "steps"}


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (None, "no_prompt"),
        ([], "no_prompt"),
        ({}, "no_prompt"),
        ({"1": 4}, "missing_node_type"),
        ({"1": {"inputs": {}}}, "missing_node_type"),
        ({"1": node("Nope")}, "missing_node_type"),
        ({"1": node("Show", value=["1"])}, "bad_linked_input"),
        ({"1": node("Number", value=1, steps=0)}, "prompt_no_outputs"),
    ],
)
def test_a_prompt_that_is_none(tmp_path, prompt, kind):
    assert refusal(tmp_path, prompt)["error"]["type"] == kind


def test_an_unknown_node_is_named(tmp_path):
    prompt = {"7": node("Nope"), "8": node("Nope"), "1": SHOW}
    error = refusal(tmp_path, prompt)["error"]
    assert error["extra_info"] == {"node_id": "7", "class_type": "Nope"}
    assert error["details"].startswith('Node 7 "Nope" is a Nope, which is not known here;')
    assert error["details"].endswith("1 more like it.")


def test_what_is_whole_runs_though_another_output_is_not(tmp_path):
    prompt = {
        "1": node("Number", value=2, steps=0),
        "2": SHOW,
        "3": node("Number", value=999, steps=0),
        "4": node("Show", value=["3", 0]),
        "5": node("ShowAll", values=["1", 1]),
    }

    async def scenario(client):
        _, told = await post_json(client, "/prompt", {"prompt": prompt})
        return told["node_errors"], await finished(client, told["prompt_id"])

    errors, entry = serve(tmp_path, scenario)
    assert {id: error["dependent_outputs"] for id, error in errors.items()} == {"3": ["4"]}
    assert sorted(entry["outputs"]) == ["2", "5"]


def test_circles_are_told_and_what_hangs_on_none_runs(tmp_path):
    circles = {
        "a": node("Add", a=["b", 0]),
        "b": node("Add", a=["a", 0], b=["n", 0]),
        "c": node("Add", a=["c", 0]),
        "d": node("Add", a=["c", 0], b=["a", 0]),
        "n": node("Number", value=1, steps=0),
        "x": node("Show", value=["d", 0]),
        "y": node("Show", value=["c", 0]),
    }
    told = refusal(tmp_path, circles)
    assert "circle of links" in told["error"]["details"]
    found = {id: error["dependent_outputs"] for id, error in told["node_errors"].items()}
    assert found.pop("c") == ["x", "y"]
    assert not found or found == {"a": ["x"], "b": ["x"]}

    async def scenario(client):
        whole = {"z": node("Show", value=["n", 0])}
        return await finished(client, await queue(client, circles | whole))

    assert list(serve(tmp_path, scenario)["outputs"]) == ["z"]


def test_every_kind_of_defect_is_told_at_once(tmp_path):
    prompt = {
        "1": node("LoadVideo", file="../a.mp4"),
        "2": SHOW,
        "3": node("Number", value=101, steps=0),
        "4": node("Show", value=["3", 0]),
        "5": node("Add", a=["5", 0]),
        "6": node("Show", value=["5", 0]),
    }
    found = refusal(tmp_path, prompt)["node_errors"]
    assert {id: error["dependent_outputs"] for id, error in found.items()} == {
        "1": ["2"],
        "3": ["4"],
        "5": ["6"],
    }


def chain(length):
    links = {str(i): node("Add", a=[str(i - 1), 0]) for i in range(1, length)}
    first = {"0": node("Number", value=1, steps=0)}
    return {**first, **links, "show": node("Show", value=[str(length - 1), 0])}


def test_a_long_chain_runs_and_one_too_long_is_refused(tmp_path):
    async def scenario(client):
        return await finished(client, await queue(client, chain(1_500)))

    assert serve(tmp_path, scenario)["outputs"]["show"]["value"] == [1]
    told = refusal(tmp_path, chain(10_000))["error"]
    assert told["type"] == "prompt_too_large" and "10001 nodes" in told["details"]


@pytest.mark.parametrize("spare", [0, 40])
def test_a_hostile_graph_is_refused_at_once(tmp_path, spare):
    """100,000 nodes, within the bytes of a request and beyond them: in the frontend's form."""
    text = json.dumps({str(i): {"class_type": "A" + "x" * spare} for i in range(100_000)})

    async def scenario(client):
        started = time.monotonic()
        answer = await client.post("/api/prompt", data=f'{{"prompt": {text}}}')
        return answer.status, await answer.json(), time.monotonic() - started

    status, told, seconds = serve(tmp_path, scenario)
    assert (status, told["error"]["type"]) == (413 if spare else 400, "prompt_too_large")
    assert ("more than 5 MB" if spare else "100000 nodes") in told["error"]["details"]
    assert told["error"].keys() == {"type", "message", "details", "extra_info"}
    assert told["node_errors"] == {} and seconds < 5


@pytest.mark.parametrize("kind", ["circle", "defects", "circles"])
def test_a_graph_full_of_defects_is_answered_shortly_and_soon(tmp_path, kind):
    prompt = {"end": node("Show", value=["0", 0])}
    for i in range(1_999):
        source = {"circle": (i + 1) % 1_999, "defects": -1, "circles": i ^ 1}[kind]
        prompt[str(i)] = node("Add", a=[str(source), 0], b=[str(max(i - 1, 0)), 0])
    if kind != "circle":
        prompt |= {str(i): node("Show", value=[str(i - 1), 0]) for i in range(1, 1_999, 2)}
    started = time.monotonic()
    told = refusal(tmp_path, prompt)
    assert 0 < len(told["node_errors"]) <= 100
    assert len(json.dumps(told)) < 10**6 and time.monotonic() - started < 30


@pytest.mark.parametrize(
    "more",
    [
        {"client_id": 4},
        {"prompt_id": ["a"]},
        {"prompt_id": "a" * 101},
        {"number": "first"},
        {"number": True},
        {"number": 10**400},
        {"number": -(10**17)},
        {"extra_data": []},
        {"extra_data": {"extra_pnginfo": "x"}},
        {"partial_execution_targets": "1"},
        {"partial_execution_targets": [["2"]]},
    ],
)
def test_what_surrounds_the_prompt_is_checked(tmp_path, more):
    prompt = {"1": node("Number", value=1, steps=0), "2": SHOW}
    assert refusal(tmp_path, prompt, **more)["error"]["type"] == "bad_request"


def test_a_full_queue_takes_no_more(tmp_path):
    async def scenario(client):
        for _ in range(101):  # one runs, a hundred wait
            await queue(client, {"1": node("Wait", steps=9999), "2": SHOW})
        return await post_json(client, "/prompt", {"prompt": {"1": node("Odd")}})

    status, told = serve(tmp_path, scenario)
    assert status == 400 and told["error"]["type"] == "queue_full"


def test_many_targets_are_looked_up_soon(tmp_path):
    prompt = {str(id): node("Show", value=3) for id in range(3_000)}
    started = time.monotonic()
    refusal(tmp_path, prompt, partial_execution_targets=[f"x{i}" for i in range(400_000)])
    assert time.monotonic() - started < 5
