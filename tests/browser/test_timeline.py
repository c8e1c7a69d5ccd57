"""The timeline shows what the widgets say and edits nothing else."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

EXTEND, STITCH, BOARD, SHOT = (
    f"PatchDiT_{name}" for name in ("ExtendVideo", "StitchVideos", "Storyboard", "Shot")
)
SEGMENT = ".patchdit-segment"
KINDS = """() => [...document.querySelectorAll(".patchdit-segment")].map(
    one => (one.matches(".patchdit-seam") ? "|" : "") + one.dataset.kind).join(" ")"""
COLOURS = """() => new Set([...document.querySelectorAll(".patchdit-segment")].map(
    one => getComputedStyle(one).backgroundColor)).size"""
SHOTS = [
    "1  moves right in a meadow, 2 s",
    "2  bounces in a meadow, 2 s",
    "3  stands still at night, 2 s",
    "4  grows in the snow, 2 s",
]


def labels(canvas) -> list[str]:
    canvas.page.wait_for_selector(SEGMENT)
    words = "all => all.map(one => one.getAttribute('aria-label'))"
    return canvas.page.locator(SEGMENT).evaluate_all(words)


def drag_edge(canvas, place: int, side: str, by: float) -> None:
    """Pull an edge of a segment by so many of its own widths."""
    width = canvas.box(SEGMENT, place)["width"]
    edge = canvas.page.locator(SEGMENT).nth(place).locator(f".patchdit-edge-{side}").bounding_box()
    x, y = edge["x"] + edge["width"] / 2, edge["y"] + edge["height"] / 2
    canvas.drag((x, y), (x + by * width, y))


@pytest.mark.parametrize(
    ("template", "kind", "said", "kinds"),
    [
        ("extend", EXTEND, ["clip, 2 s", "what happens next, 4 s"], "known |new"),
        ("extend_backwards", EXTEND, ["what led to it, 2 s", "clip, 2 s"], "new |known"),
        ("stitch", STITCH, ["A, 1 s", "A becomes B, 2 s", "B, 1 s"], "known |morph |known"),
        ("storyboard", BOARD, SHOTS, "shot |shot shot shot"),
    ],
)
def test_segments_of_a_template(canvas, template, kind, said, kinds):
    """`kinds` of the segments, with | before one that flows out of the one before."""
    graph = canvas.open(template, kind)
    canvas.until(lambda: labels(canvas), said)  # a clip of a file is measured first
    assert canvas.page.evaluate(KINDS) == kinds
    assert canvas.page.evaluate(COLOURS) == len(set(kinds.replace("|", "").split()))
    boxes = [canvas.box(SEGMENT, place) for place in range(len(said))]
    seconds = [float(label.rsplit(", ", 1)[1].removesuffix(" s")) for label in said]
    scale = boxes[0]["width"] / seconds[0]
    for box, length in zip(boxes, seconds, strict=True):
        assert box["width"] == pytest.approx(length * scale, abs=1)
    for left, right in pairwise(boxes):
        assert left["x"] + left["width"] == pytest.approx(right["x"], abs=1)
    assert_saved_as(canvas.serialized(), graph)


def assert_saved_as(saved: dict, opened: dict) -> None:
    """The saved graph holds the widget values of the opened one, new widgets at their ends."""
    values = {node["id"]: node.get("widgets_values") for node in saved["nodes"]}
    for node in opened["nodes"]:
        if isinstance(node.get("widgets_values"), list):
            before = [value for value in node["widgets_values"] if value is not None]
            after = json.loads(json.dumps(values[node["id"]]))
            assert after[: len(before)] == before, node["type"]


@pytest.mark.parametrize(
    ("template", "kind"), [("extend", EXTEND), ("stitch", STITCH), ("storyboard", BOARD)]
)
def test_the_timeline_is_neither_saved_nor_sent(canvas, template, kind):
    """A round trip changes nothing, and widgets saved and sent are those of the node's schema."""
    canvas.open(template, kind)
    saved, nodes = canvas.serialized(), canvas.unsized_nodes()
    canvas.load(saved)
    canvas.look_at(kind)
    assert canvas.unsized_nodes() == nodes and canvas.serialized()["links"] == saved["links"]
    node = next(one for one in saved["nodes"] if one["type"] == kind)
    named = canvas.page.evaluate(
        """kind => app.graph._nodes.find(one => one.comfyClass === kind).widgets
            .map(one => [one.name, one.serialize !== false])""",
        kind,
    )
    assert named[-1] == ["timeline", False] and all(kept for _, kept in named[:-1])
    assert len(node["widgets_values"]) == len(named) - 1
    sent = canvas.page.evaluate("() => app.graphToPrompt()")["output"]
    assert all("timeline" not in one["inputs"] for one in sent.values())


def test_dragging_the_end_of_the_new_part(canvas):
    canvas.open("extend", EXTEND)
    drag_edge(canvas, 1, "right", -0.5)
    assert canvas.widget(EXTEND, "seconds") == pytest.approx(2, abs=0.13)
    assert canvas.widget(EXTEND, "seconds") * 8 % 1 == 0  # whole frames
    canvas.undo()  # one drag is one step
    canvas.until(lambda: canvas.widget(EXTEND, "seconds"), 4)
    canvas.until(lambda: labels(canvas), ["clip, 2 s", "what happens next, 4 s"])


@pytest.mark.parametrize(("kind", "place"), [(BOARD, 0), (SHOT, 3)])
def test_a_node_deleted_in_a_drag_comes_back_by_undo(canvas, kind, place):
    """The one with the timeline, and the one whose edge is held."""
    canvas.open("storyboard", BOARD)
    count = "kind => app.graph._nodes.filter(one => one.comfyClass === kind).length"
    before = canvas.page.evaluate(count, kind)
    canvas.page.evaluate(
        """([kind, place]) => app.canvas.selectItems(
            [app.graph._nodes.filter(one => one.comfyClass === kind)[place]])""",
        [kind, place],
    )
    edge = canvas.page.locator(SEGMENT).nth(3).locator(".patchdit-edge-right").bounding_box()
    x, y = edge["x"] + edge["width"] / 2, edge["y"] + edge["height"] / 2
    canvas.page.mouse.move(x, y)
    canvas.page.mouse.down()
    canvas.page.mouse.move(x - 20, y, steps=3)
    canvas.page.keyboard.press("Delete")
    canvas.until(lambda: canvas.page.evaluate(count, kind), before - 1)
    canvas.page.mouse.up()
    canvas.settle()
    canvas.undo()
    canvas.until(lambda: canvas.page.evaluate(count, kind), before)


def test_dragging_the_joint_drops_frames_of_the_clip(canvas):
    canvas.open("extend", EXTEND)
    drag_edge(canvas, 0, "right", -0.5)
    frame = canvas.widget(EXTEND, "from_frame")
    assert frame in (6, 7, 8) and canvas.widget(EXTEND, "seconds") == 4
    assert labels(canvas)[0] == f"clip to frame {frame}, {(frame + 1) / 8:.2f} s".replace(".00", "")
    drag_edge(canvas, 0, "right", 2)  # beyond its end: the whole clip
    assert canvas.widget(EXTEND, "from_frame") == -1


def test_dragging_backwards(canvas):
    canvas.open("extend_backwards", EXTEND)
    drag_edge(canvas, 0, "left", -1)
    assert canvas.widget(EXTEND, "seconds") == pytest.approx(4, abs=0.2)
    drag_edge(canvas, 1, "left", 0.5)
    assert canvas.widget(EXTEND, "from_frame") in (7, 8, 9)


def test_a_transform_grows_to_both_sides_and_a_bridge_to_one(canvas):
    canvas.open("stitch", STITCH)
    drag_edge(canvas, 1, "left", 0.25)
    assert canvas.widget(STITCH, "seconds") == pytest.approx(1, abs=0.13)
    canvas.set(STITCH, "mode", "bridge")
    assert labels(canvas)[0] == "A, 2 s" and labels(canvas)[1].startswith("bridge")
    drag_edge(canvas, 1, "right", 1)
    assert canvas.widget(STITCH, "seconds") == pytest.approx(2, abs=0.2)


def test_the_keyboard(canvas):
    canvas.open("storyboard", BOARD)
    keys, segments = canvas.page.keyboard, canvas.page.locator(SEGMENT)
    segments.nth(0).focus()
    keys.press("ArrowRight")
    keys.press("Shift+ArrowRight")
    assert canvas.widget(SHOT, "seconds", 0) == 3.125
    assert segments.nth(0).get_attribute("role") == "slider"
    assert segments.nth(0).get_attribute("aria-valuenow") == "3.125"
    keys.press("Tab")
    keys.press("ArrowLeft")
    assert canvas.widget(SHOT, "seconds", 1) == 1.875
    keys.press("r")
    seed = canvas.widget(SHOT, "seed", 1)
    assert seed >= 0
    keys.press("End")
    keys.press("l")
    assert [canvas.widget(SHOT, "lock", place) for place in range(4)] == [False] * 3 + [True]
    assert segments.nth(3).get_attribute("role") == "img"  # its length is locked as well
    keys.press("ArrowRight")
    keys.press("r")
    assert canvas.widget(SHOT, "seconds", 3) == 2 and canvas.widget(SHOT, "seed", 3) == -1
    canvas.undo()
    canvas.until(lambda: canvas.widget(SHOT, "lock", 3), False)
    assert canvas.widget(SHOT, "seed", 1) == seed


@pytest.mark.parametrize(("template", "kind"), [("extend", EXTEND), ("stitch", STITCH)])
def test_another_take_of_a_new_part_by_key(canvas, template, kind):
    canvas.open(template, kind)
    seed = canvas.widget(kind, "seed")
    known, made = (canvas.page.locator(SEGMENT).nth(place) for place in (0, 1))
    known.focus()
    canvas.page.keyboard.press("r")
    assert canvas.widget(kind, "seed") == seed  # a clip that is there has no other take
    made.focus()
    canvas.page.keyboard.press("r")
    assert canvas.widget(kind, "seed") != seed
    canvas.undo()
    canvas.until(lambda: canvas.widget(kind, "seed"), seed)


def test_the_buttons_of_a_shot(canvas):
    canvas.open("storyboard", BOARD)
    shot = canvas.page.locator(SEGMENT).nth(2)
    shot.hover()
    shot.locator(".patchdit-reroll").click()
    assert canvas.widget(SHOT, "seed", 2) >= 0
    shot.locator(".patchdit-lock").click()
    assert canvas.widget(SHOT, "lock", 2) is True
    assert shot.get_attribute("aria-label").endswith("locked")
    assert shot.locator(".patchdit-reroll").is_hidden()


def test_what_the_widgets_say_shows_at_once(canvas):
    canvas.open("storyboard", BOARD)
    canvas.set(SHOT, "seconds", 5.5, 1)
    canvas.set(SHOT, "prompt", "<b>falls</b>", 1)
    assert labels(canvas)[1] == "2  <b>falls</b>, 5.5 s"
    assert canvas.page.locator(".patchdit-total").inner_text() == "11.5 s"
    assert canvas.page.locator(f"{SEGMENT} b").count() == 0  # a prompt is text, never markup


def test_a_clip_of_unknown_length_says_so(canvas):
    canvas.open("extend", EXTEND)
    canvas.page.evaluate(
        """kind => {
            const node = app.graph._nodes.find(one => one.comfyClass === kind);
            node.disconnectInput(node.inputs.findIndex(one => one.name === "video"));
        }""",
        EXTEND,
    )
    canvas.until(lambda: labels(canvas), ["clip, length unknown", "what happens next, 4 s"])
    drag_edge(canvas, 1, "right", -0.5)
    assert canvas.widget(EXTEND, "seconds") == pytest.approx(2, abs=0.2)


def test_shots_that_go_round_in_a_circle_end(canvas):
    canvas.open("storyboard", BOARD)
    canvas.page.evaluate(
        """kind => {
            const shots = app.graph._nodes.filter(one => one.comfyClass === kind);
            const slot = shots[0].inputs.findIndex(one => one.name === "previous");
            shots.at(-1).connect(0, shots[0], slot);
        }""",
        SHOT,
    )
    canvas.settle()
    assert len(labels(canvas)) == 4
