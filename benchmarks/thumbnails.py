"""Draws workflows/<name>.jpg: frames of what each template makes with the shipped model.

A Wan template, whose files are not here, shows its own nodes and links instead. Run it whenever
weights or templates have changed: python -m patchdit.benchmarks.thumbnails [NAME ...]
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import av
from PIL import Image, ImageColor, ImageDraw, ImageFont

from patchdit import comfy_entrypoint
from patchdit.standalone.executor import run
from patchdit.standalone.graph import Graph, read_graph
from patchdit.standalone.host import Session, use_session
from patchdit.standalone.node_list import list_nodes

FOLDER = Path(__file__).resolve().parents[1] / "workflows"
SIZE = 400, 225
LARGEST = 40 * 1024  # bytes
DARK, BOX, TITLE, LINE, INK = "#161616", "#353535", "#4a4a4a", "#6f8f9f", "#dddddd"
LAYOUTS = ((4, 2), (3, 2), (2, 2))  # columns and rows of frames
UPSCALING = "UpscaleModelLoader"  # needs a file that nobody is made to download for a picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="templates; all of them where none is named")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    args = parser.parse_args()
    for name in args.names or sorted(path.stem for path in args.folder.glob("*.json")):
        template = json.loads((args.folder / f"{name}.json").read_text(encoding="utf-8"))
        if name.startswith("wan_"):
            picture = draw_graph(template)
        else:
            prompt = json.loads((args.folder / "api" / f"{name}.json").read_text(encoding="utf-8"))
            picture = contact_strip(film(prompt))
        save(picture, args.folder / f"{name}.jpg")
        print(name, flush=True)


def film(prompt: dict) -> list[Image.Image]:
    """The frames of the last video that a template saves, without upscaling by a model."""
    with TemporaryDirectory() as name, use_session(Session(*3 * [Path(name)])):
        graph = read_graph(prompt, asyncio.run(list_nodes(comfy_entrypoint)))
        graph = without(graph, UPSCALING)
        shown = asyncio.run(run(graph))
        files = [file for node in shown.values() for file in node.get("images", ())]
        videos = [file for file in files if file["filename"].endswith(".mp4")]
        with av.open(str(Path(name) / videos[-1]["subfolder"] / videos[-1]["filename"])) as video:
            return [frame.to_image() for frame in video.decode(video=0)]


def without(graph: Graph, kind: str) -> Graph:
    """The graph without the nodes of a kind and all that need them."""
    gone = {id for id, node in graph.nodes.items() if node.schema.node_id == kind}
    kept = {id: n for id, n in graph.nodes.items() if not gone & graph.needed_by([id]).keys()}
    return Graph(kept, {id: graph.prompt[id] for id in kept})


def contact_strip(frames: list[Image.Image]) -> Image.Image:
    """Frames spread over the clip, in the rows and columns that show them largest."""
    width, height = frames[0].size

    def scale_of(layout: tuple[int, int]) -> float:
        return min(SIZE[0] / (layout[0] * width), SIZE[1] / (layout[1] * height))

    columns, rows = max(LAYOUTS, key=lambda each: scale_of(each) ** 2 * each[0] * each[1])
    scale = scale_of((columns, rows))
    cell = int(width * scale) - 2, int(height * scale) - 2
    count = columns * rows
    page = Image.new("RGB", SIZE, DARK)
    left, top = (SIZE[0] - columns * (cell[0] + 2)) // 2, (SIZE[1] - rows * (cell[1] + 2)) // 2
    for i in range(count):
        frame = frames[round(i * (len(frames) - 1) / max(count - 1, 1))]
        place = left + i % columns * (cell[0] + 2), top + i // columns * (cell[1] + 2)
        page.paste(frame.resize(cell, Image.Resampling.LANCZOS), place)
    return page


def draw_graph(template: dict) -> Image.Image:
    """The template's own nodes and links, as they lie on the canvas."""
    nodes = {node["id"]: node for node in template["nodes"] if node["type"] != "MarkdownNote"}
    boxes = {id: (*node["pos"], *node["size"]) for id, node in nodes.items()}
    groups = [group["bounding"] for group in template["groups"]]
    x0, y0 = (min(group[i] for group in groups) for i in (0, 1))
    x1, y1 = (max(group[i] + group[i + 2] for group in groups) for i in (0, 1))
    scale = min((SIZE[0] - 16) / (x1 - x0), (SIZE[1] - 16) / (y1 - y0))
    x0 -= (SIZE[0] / scale - (x1 - x0)) / 2
    y0 -= (SIZE[1] / scale - (y1 - y0)) / 2

    def place(x: float, y: float) -> tuple[float, float]:
        return (x - x0) * scale, (y - y0) * scale

    page = Image.new("RGB", SIZE, DARK)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(8)
    for group in template["groups"]:
        x, y, w, h = group["bounding"]
        tint = tuple(c // 3 for c in ImageColor.getrgb(group["color"]))
        draw.rectangle([place(x, y), place(x + w, y + h)], tint)
    for _, source, slot, target, slot_to, _ in template["links"]:
        x, y, w, _ = boxes[source]
        start = place(x + w, y + 14 + 20 * slot)
        end = place(boxes[target][0], boxes[target][1] + 14 + 20 * slot_to)
        draw.line([start, end], LINE, 1)
    for id, (x, y, w, h) in boxes.items():
        draw.rounded_rectangle([place(x, y - 30), place(x + w, y + h)], 3, BOX, TITLE)
        title = nodes[id].get("title") or nodes[id]["type"].removeprefix("PatchDiT_")
        left, top = place(x + 10, y - 22)
        draw.text((left, top), fitted(title, font, w * scale - 6), INK, font)
    return page


def fitted(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> str:
    """As much of a text as a width has room for."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


def save(picture: Image.Image, path: Path) -> None:
    """A JPEG of at most LARGEST bytes."""
    for quality in (90, 80, 70, 60):
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= LARGEST:
            return
    raise ValueError(f"{path.name} is larger than {LARGEST} bytes at any quality.")


if __name__ == "__main__":
    main()
