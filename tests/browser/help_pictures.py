"""Draws web/docs/<NodeId>.jpg: each node as the canvas shows it, wired to its neighbours.

A node is taken from the template that shows most of it, with the nodes next to it; one that is in
no template gets what feeds it. Run it whenever a node has changed, with Debian's chromium:
python -m patchdit.tests.browser.help_pictures [NodeId ...]
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from .conftest import QUIET, free_port, own_server
from .page import ROOT, Canvas, ask, opened

FOLDER = ROOT / "web" / "docs"
LARGEST = 60 * 1024  # bytes
CROWD = 9  # links
SOURCES = {  # what feeds an input of a type in a picture
    "MODEL": "PatchDiT_LoadBlockworld",
    "VAE": "PatchDiT_LoadBlockworld",
    "CLIP": "PatchDiT_LoadBlockworld",
    "CONDITIONING": "CLIPTextEncode",
    "VIDEO": "LoadVideo",
    "LATENT": "PatchDiT_EncodeVideo",
    "PLAN": "PatchDiT_PrepareExtend",
    "PATCHES": "PatchDiT_PatchifyLatent",
}
ALONE = """([kind, sources]) => {
    app.graph.clear();
    const node = LiteGraph.createNode(kind);
    app.graph.add(node);
    const made = {};
    for (const [slot, input] of (node.inputs ?? []).entries()) {
        const type = input.type.split(",").find(one => one in sources);
        if (!type || input.widget || sources[type] === kind) continue;
        let source = made[sources[type]];
        if (!source) {
            source = LiteGraph.createNode(sources[type]);
            if (!source) continue;
            app.graph.add(source);
            made[sources[type]] = source;
        }
        const output = source.outputs.findIndex(one => one.type === type);
        if (output >= 0) source.connect(output, node, slot);
    }
}"""
KEEP = """kind => {
    const node = app.graph._nodes.find(one => one.comfyClass === kind);
    const links = [...app.graph.links.values()];
    const some = ids => [...new Set(ids)].slice(0, 4);
    const before = some(links.filter(l => l.target_id === node.id).map(l => l.origin_id));
    const after = some(links.filter(l => l.origin_id === node.id).map(l => l.target_id));
    const kept = new Set([node.id, ...before, ...after]);
    for (const group of [...app.graph._groups]) app.graph.remove(group);
    for (const other of [...app.graph._nodes]) if (!kept.has(other.id)) app.graph.remove(other);
    const column = (ids, x) => {
        let y = 0;
        for (const id of ids) {
            const one = app.graph.getNodeById(id);
            one.pos = [x(one), y];
            y += one.size[1] + 60;
        }
        return y - 60;
    };
    const left = column(before, one => -90 - one.size[0]);
    const right = column(after.filter(id => !before.includes(id)), () => node.size[0] + 90);
    node.pos = [0, Math.max(0, (Math.max(left, right) - node.size[1]) / 2)];
}"""
BOX = """() => {  // clear of the menus
    const scale = (app.canvas.ds.scale *= 0.85), offset = app.canvas.ds.offset;
    offset[1] += 150 / scale - 90 / (scale / 0.85);
    app.canvas.setDirty(true, true);
    const boxes = app.graph._nodes.map(one => one.getBounding());
    const left = Math.min(...boxes.map(one => one[0])), top = Math.min(...boxes.map(one => one[1]));
    const right = Math.max(...boxes.map(one => one[0] + one[2]));
    const bottom = Math.max(...boxes.map(one => one[1] + one[3]));
    return [left, top, right, bottom].map((one, i) => (one + offset[i % 2]) * scale);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", help="node ids; all of them where none is named")
    names = parser.parse_args().nodes or sorted(path.stem for path in FOLDER.glob("PatchDiT_*.md"))
    with canvas_for_pictures() as canvas:
        for name in names:
            save(draw(canvas, name), FOLDER / f"{name}.jpg")
            print(name, flush=True)


@contextmanager
def canvas_for_pictures(**settings: Any) -> Iterator[Canvas]:
    """Our own canvas with the names of all files that templates choose, and less around it."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    port = free_port()
    with (
        TemporaryDirectory() as folder,
        own_server(with_names(Path(folder)), port),
        sync_playwright() as started,
    ):
        chromium = started.chromium.launch(executable_path=path, args=QUIET)
        address = f"http://127.0.0.1:{port}"
        ask(address, "/api/settings", {"Comfy.Graph.CanvasInfo": False, **settings})
        with opened(chromium, address) as canvas:
            yield canvas


def with_names(base: Path) -> Path:
    """A base directory with the names of the files that the templates and pictures choose."""
    (base / "input").mkdir()
    (base / "input" / "my_clip.mp4").touch()
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "workflows").glob("*.json")]
    for folder in ("diffusion_models", "vae", "text_encoders"):
        (base / "models" / folder).mkdir(parents=True)
        for name in set(re.findall(r'"([\w.-]+\.safetensors)"', "".join(texts))):
            (base / "models" / folder / name).touch()
    (base / "models" / "loras").mkdir()
    (base / "models" / "loras" / "my_style.safetensors").touch()
    return base


def draw(canvas: Canvas, kind: str) -> Image.Image:
    """The node with its neighbours, cut out of the canvas."""
    template = template_with(kind)
    if template is None:
        canvas.page.evaluate(ALONE, [kind, SOURCES])
        canvas.settle()
    else:
        canvas.load(template)
    canvas.page.evaluate(KEEP, kind)
    canvas.fit()
    left, top, right, bottom = canvas.page.evaluate(BOX)
    canvas.settle()
    clip = {"x": left - 16, "y": top - 40, "width": right - left + 32, "height": bottom - top + 56}
    return Image.open(io.BytesIO(canvas.page.screenshot(clip=clip))).convert("RGB")


def template_with(kind: str) -> dict | None:
    """The template in which a node has most links, but not more than a picture can show."""
    best, most = None, -1
    for path in sorted(
        (ROOT / "workflows").glob("*.json"), key=lambda p: ("wan" in p.name, p.name)
    ):
        template = json.loads(path.read_text(encoding="utf-8"))
        ids = [node["id"] for node in template["nodes"] if node["type"] == kind][:1]
        links = [link for link in template["links"] if link[1] in ids or link[3] in ids]
        if ids and most < len(links) <= CROWD:
            best, most = template, len(links)
    return best


def save(picture: Image.Image, path: Path) -> None:
    """A JPEG of at most LARGEST bytes, whole or not at all."""
    for quality in range(85, 20, -10):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() <= LARGEST:
            break
    path.with_suffix(".tmp").write_bytes(data.getvalue())
    path.with_suffix(".tmp").replace(path)


if __name__ == "__main__":
    main()
