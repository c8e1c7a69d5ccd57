"""The picture in README: what the shipped model makes of some prompts."""

from __future__ import annotations

import argparse

from patchdit.benchmarks.world_eval import Recipe, film
from patchdit.models.blockworld import FOLDER, load
from patchdit.training.page import FAINT, Page, spread, strip_size

SHOTS = (  # prompt, (width, height, frames), frames shown
    ("a red ball bounces in a meadow", (64, 64, 17), 6),
    ("a blue star circles at night", (64, 64, 17), 6),
    ("a yellow ring moves right underwater, static camera", (64, 64, 17), 6),
    ("a purple cube stands still in the snow, the camera zooms in", (64, 64, 17), 6),
    ("a green cone grows in a city", (64, 64, 17), 6),
    ("an orange ball moves left at sunset, the camera pans left", (64, 64, 17), 6),
    ("a white ball and a cyan cube move up under a starry sky", (112, 64, 17), 4),
    ("a red star moves right in a meadow", (112, 64, 17), 4),
)
MARGIN, LABEL, SCALE, COLUMNS = 20, 34, 1.6, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default=str(FOLDER), help="folder of the model's files")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--cfg", type=float, default=Recipe.cfg)
    parser.add_argument("--out", default="docs/gallery.png")
    args = parser.parse_args()
    model = load(args.weights)
    boxes = [strip_size(shown, *size[:2], SCALE) for _, size, shown in SHOTS]
    column, row = max(w for w, _ in boxes) + MARGIN, max(h for _, h in boxes) + LABEL
    rows = -(-len(SHOTS) // COLUMNS)
    page = Page(MARGIN + COLUMNS * column, MARGIN + rows * row)
    for i, (prompt, size, shown) in enumerate(SHOTS):
        clip = film(model, [prompt], Recipe(cfg=args.cfg, size=size), args.seed + i)[0]
        x, y = MARGIN + i % COLUMNS * column, MARGIN + i // COLUMNS * row
        page.strip(x, y, spread(clip, shown), SCALE)
        page.text(x, y + boxes[i][1] + 6, f'"{prompt}"', 11, FAINT)
        print(prompt, flush=True)
    page.save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
