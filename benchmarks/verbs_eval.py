"""Do the verbs do what they say? `python benchmarks/verbs_eval.py --json verbs.json`.

Every node runs as an artist would run it, with its own defaults and the shipped model, on held-out
clips of the procedural world (seeds and triples of subject, colour and motion never trained on),
and plain computer vision reads from its VIDEO whether the world goes on in it. One table: a number
with its 95% interval (Wilson's for shares, normal for means), its target, and two controls: what
the same measure says of the world's own frames ("truth": proves the reader) and of those after the
autoencoder in the node's own assembly ("vae": the most that a model could reach). Controls take a
quarter of the clips. What each row measures is said on top of its module:

    pins            verbs_pins.py      extend, chain   verbs_extend.py, verbs_chain.py
    loop, stitch    verbs_joins.py     remix, story    verbs_remix.py, verbs_story.py
    resume, sparse  verbs_runs.py (kill_and_resume.py and sparse_patches.py)

The nodes' own `execute` makes every clip; `verbs_together.py` only lets many of them call the
network as one batch, in bfloat16 unless --fp32.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from patchdit.benchmarks.verbs_chain import chain_rows
from patchdit.benchmarks.verbs_extend import extend_rows
from patchdit.benchmarks.verbs_joins import loop_rows, stitch_rows
from patchdit.benchmarks.verbs_pins import pin_rows
from patchdit.benchmarks.verbs_remix import remix_rows
from patchdit.benchmarks.verbs_rows import Row, table
from patchdit.benchmarks.verbs_runs import resume_rows, sparse_rows
from patchdit.benchmarks.verbs_story import story_rows
from patchdit.benchmarks.verbs_world import Bench
from patchdit.models.blockworld import FOLDER, NAMES, Blockworld, load

ROWS: dict[str, Callable[[Bench], list[Row]]] = {
    "pins": pin_rows,
    "extend": extend_rows,
    "chain": chain_rows,
    "loop": loop_rows,
    "stitch": stitch_rows,
    "remix": remix_rows,
    "story": story_rows,
    "resume": resume_rows,
    "sparse": sparse_rows,
}


def load_model(folder: str | Path) -> Blockworld:
    """The model in a folder; files that are not there, as in a training run's, are the shipped."""
    with TemporaryDirectory() as whole:
        for name in NAMES.values():
            own = Path(folder) / name
            shutil.copy(own if own.exists() else FOLDER / name, whole)
        return load(whole)


def measure_rows(bench: Bench, names: list[str], path: Path | None) -> list[Row]:
    """All rows of the named groups; `path` is written anew after each, so that none is lost."""
    rows, began = [], time.monotonic()
    for name in names:
        rows += ROWS[name](bench)
        logging.info("%s done, %.0f s", name, time.monotonic() - began)
        if path is not None:
            write(path, rows, bench)
    return rows


def write(path: Path, rows: list[Row], bench: Bench) -> None:
    """{"rows": [{"name", "value", "target", "met", "n", "low", "high", "controls"}], "recipe"}"""
    recipe = {name: getattr(bench, name) for name in ("clips", "steps", "cfg", "seed", "bf16")}
    result = {"rows": [row.record() for row in rows], "recipe": recipe}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), help="which groups")
    parser.add_argument("--clips", type=int, default=Bench.clips, help="held-out clips a row")
    parser.add_argument("--batch", type=int, default=Bench.batch, help="clips made at once")
    parser.add_argument("--steps", type=int, default=Bench.steps)
    parser.add_argument("--cfg", type=float, default=Bench.cfg)
    parser.add_argument("--seed", type=int, default=Bench.seed)
    parser.add_argument("--fp32", action="store_true", help="float32 throughout, not bfloat16")
    parser.add_argument("--weights", default=str(FOLDER), help="folder of the model's files")
    args = parser.parse_args()
    for name in ("clips", "batch", "steps"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}; need at least 1.")
    return args


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_arguments()
    model = load_model(args.weights)
    sampling = args.clips, args.steps, args.cfg, args.batch, args.seed
    rows = measure_rows(Bench(model, *sampling, not args.fp32), args.rows, args.json)
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
