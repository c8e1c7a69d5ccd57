"""What a node reports in words stands in the node, and is kept nowhere else."""

from __future__ import annotations

import json

from .page import ROOT

COST = "PatchDiT_EstimateCost"
REPORT = ".patchdit-report"
ADD = """kind => {
    const model = app.graph._nodes.find(one => one.comfyClass === "PatchDiT_LoadBlockworld");
    const node = LiteGraph.createNode(kind);
    node.pos = [model.pos[0], model.pos[1] + 900];
    app.graph.add(node);
    model.connect(0, node, node.inputs.findIndex(one => one.name === "model"));
    for (const one of app.graph._nodes) if (one.comfyClass === "SaveVideo") one.mode = 2;
}"""


def test_the_cost_of_a_run_is_told_in_its_node(canvas):
    canvas.load(json.loads((ROOT / "workflows" / "text_to_video.json").read_text()))
    canvas.page.evaluate(ADD, COST)
    canvas.look_at(COST)
    report = canvas.page.locator(REPORT)
    assert report.is_hidden()  # nothing to tell before it ran
    assert canvas.run(width=64, height=64) == "success"
    canvas.until(report.is_visible, True)
    told = report.inner_text()
    assert told.startswith("64x64, ") and "Memory: weights" in told
    canvas.settle()
    text = canvas.box(f"{REPORT}-text")
    box = canvas.box(REPORT)
    assert box["height"] >= text["height"]  # no line is cut off
    (node,) = (one for one in canvas.serialized()["nodes"] if one["type"] == COST)
    assert told not in json.dumps(node, ensure_ascii=False)
    sent = canvas.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert "report" not in sent[str(node["id"])]["inputs"]
