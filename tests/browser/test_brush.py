"""The patch brush paints into an ordinary widget, over the frames of the last run."""

from __future__ import annotations

import pytest

from patchdit.models.brush import read_brush
from patchdit.models.config import PatchSize
from patchdit.models.patches import Grid

SELECT = "PatchDiT_SelectPatches"
PICTURE = ".patchdit-picture"
GRID = Grid(5, 4, 4, PatchSize(1, 2, 2))  # of the template's clip


def painted(canvas) -> list[int]:
    return read_brush(canvas.widget(SELECT, "brush"), GRID).nonzero().flatten().tolist()


def stroke(canvas, *patches: tuple[int, int], keys: str | None = None) -> None:
    """Draw from one patch (row, column) to another, a key held down."""
    box = canvas.box(PICTURE)
    side = box["width"] / GRID.w, box["height"] / GRID.h
    ends = [
        (box["x"] + (column + 0.5) * side[0], box["y"] + (row + 0.5) * side[1])
        for row, column in patches
    ]
    if keys:
        canvas.page.keyboard.down(keys)
    canvas.drag(ends[0], ends[-1])
    if keys:
        canvas.page.keyboard.up(keys)


def open_brush(canvas, text: object = "") -> None:
    canvas.open("patches", SELECT)
    canvas.set(SELECT, "by", "brush")
    canvas.set(SELECT, "brush", text)


def test_painting_over_a_run(canvas):
    """Frames come from the run; strokes land in the widget, the workflow and the prompt."""
    open_brush(canvas)
    notice = canvas.page.locator(".patchdit-notice")
    assert notice.inner_text() == "Run once to see the frames here, then paint."
    canvas.page.evaluate(
        """kind => {
            const quick = { weights: "tiny", steps: 1, text: "a red ball" };
            for (const node of app.graph._nodes)
                for (const widget of node.widgets ?? [])
                    if (widget.name in quick) widget.value = quick[widget.name];
            const node = app.graph._nodes.find(one => one.comfyClass === kind);
            const decode = app.graph._nodes.find(one => one.comfyClass === "PatchDiT_DecodeVideo");
            decode.connect(0, node, node.inputs.findIndex(one => one.name === "frames"));
            app.queuePrompt(0, 1);
        }""",
        SELECT,
    )
    told = "() => Object.values(app.nodeOutputs).some(one => one.patchdit_grid)"
    canvas.page.wait_for_function(told)
    canvas.until(notice.is_hidden, True)
    canvas.settle()
    assert canvas.page.locator(".patchdit-when").inner_text() == "frame 0 · 0 of 80"
    stroke(canvas, (1, 1), (3, 3))
    assert painted(canvas) == [5, 10, 15]  # a diagonal of the first time
    stroke(canvas, (2, 2), keys="Shift")
    assert painted(canvas) == [5, 15]
    canvas.undo()  # a stroke is one step
    canvas.until(lambda: painted(canvas), [5, 10, 15])
    saved = canvas.serialized()
    node = next(one for one in saved["nodes"] if one["type"] == SELECT)
    assert node["widgets_values"][-1] == "5x4x4 0:5,10,15"
    sent = canvas.page.evaluate("() => app.graphToPrompt()")["output"]
    assert sent[str(node["id"])]["inputs"]["brush"] == "5x4x4 0:5,10,15"
    assert "patch_brush" not in sent[str(node["id"])]["inputs"]


def test_a_node_deleted_in_a_stroke_comes_back_by_undo(canvas):
    open_brush(canvas, "5x4x4 0:0")
    count = "kind => app.graph._nodes.filter(one => one.comfyClass === kind).length"
    select = "kind => app.canvas.selectItems(app.graph._nodes.filter(n => n.comfyClass === kind))"
    canvas.page.evaluate(select, SELECT)
    box = canvas.box(PICTURE)
    canvas.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    canvas.page.mouse.down()
    canvas.page.evaluate("() => app.canvas.deleteSelected()")  # the key clears the painting
    canvas.until(lambda: canvas.page.evaluate(count, SELECT), 0)
    canvas.page.mouse.up()
    canvas.settle()
    canvas.undo()
    canvas.until(lambda: canvas.page.evaluate(count, SELECT), 1)


@pytest.mark.parametrize("grid", ["1x1x9999", "1x9999x1"])
def test_a_long_thin_grid_is_drawn_in_a_node_of_usual_size(canvas, grid):
    open_brush(canvas, f"{grid} 0:0")
    box = canvas.box(PICTURE)
    assert min(box["width"], box["height"]) > 30 and max(box["width"], box["height"]) < 400


def test_the_tools(canvas):
    """A painting shows without a run; all times, erasing, sizes and clearing."""
    open_brush(canvas, "5x4x4 2:0-15")
    tool = canvas.page.locator(".patchdit-tool")
    tool.get_by_text("All times").click()
    stroke(canvas, (0, 0), (0, 3))
    assert painted(canvas) == [*range(4), *range(16, 20), *range(32, 52), *range(64, 68)]
    tool.get_by_text("Erase").click()
    stroke(canvas, (0, 0), (0, 3))
    assert painted(canvas) == list(range(36, 48))
    tool.get_by_text("Clear").click()
    assert canvas.widget(SELECT, "brush") == ""


def test_the_keyboard(canvas):
    open_brush(canvas, "5x4x4 0:0")
    canvas.page.locator(PICTURE).focus()
    for key in ("ArrowDown", "ArrowRight", "Space", "PageUp", "PageUp", "Enter", "ArrowLeft"):
        canvas.page.keyboard.press(key)
    assert painted(canvas) == [0, 5, 32 + 5]
    words = canvas.page.locator(PICTURE).get_attribute("aria-label")
    assert words.startswith("time 3 of 5, row 2, column 1, not painted")
    canvas.page.keyboard.press("Delete")
    assert painted(canvas) == [0, 5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "The text in brush is no painting: clear it."),
        ("9x9x9 0:81", "clear it"),
        ("5x4x4 2:0 0:0", "clear it"),  # what does not rise, Python refuses too
        ("5x4x4 0:0-3,0-3", "clear it"),
        ("1x2048x2048 0:0-4194303", "clear it"),  # would take seconds to draw
        (5, "clear it"),
    ],
)
def test_a_text_that_is_no_painting(canvas, text, said):
    open_brush(canvas, text)
    assert said in canvas.page.locator(".patchdit-notice").inner_text()
    canvas.page.locator(".patchdit-tool").get_by_text("Clear").click()
    assert canvas.widget(SELECT, "brush") == ""


def test_other_ways_to_choose_show_no_brush(canvas):
    open_brush(canvas, "5x4x4 0:0")
    assert canvas.page.locator(".patchdit-brush").is_visible()
    canvas.set(SELECT, "by", "all")
    assert canvas.page.locator(".patchdit-brush").is_hidden()
    assert canvas.widget(SELECT, "brush") == "5x4x4 0:0"  # kept for later


def test_saving_and_opening(canvas):
    open_brush(canvas, "5x4x4 0:0 4:3-9")
    saved = canvas.unsized_nodes()
    canvas.load(canvas.serialized())
    canvas.look_at(SELECT)
    assert canvas.unsized_nodes() == saved
    assert painted(canvas) == [0, *range(67, 74)]


def test_python_and_the_browser_write_and_read_the_same_text(canvas):
    """The browser's own reader and writer, over paintings of every kind of row."""
    url = canvas.page.evaluate(
        """() => performance.getEntriesByType("resource").map(one => one.name)
            .find(name => name.endsWith("/brush_text.js"))"""
    )
    texts = ["5x4x4 0:0", "5x4x4 0:0-15 4:15", "5x4x4 1:0,2,4-7,15 2:3", "5x4x4 3:1-2"]
    done = canvas.page.evaluate(
        """async ([url, texts]) => {
            const { readBrush, writeBrush } = await import(url);
            return texts.map(text => [[...readBrush(text).cells], writeBrush(readBrush(text))]);
        }""",
        [url, texts],
    )
    for text, (cells, again) in zip(texts, done, strict=True):
        assert again == text
        assert [bool(cell) for cell in cells] == read_brush(text, GRID).tolist()
