"""Draw the training curves of both models: `python training/plot_curves.py`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def read_log(path: Path) -> dict[str, list[float]]:
    """The columns of a run's log."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {key: [row[key] for row in rows if key in row] for key in rows[0]} if rows else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", default="docs/training/vae.jsonl")
    parser.add_argument("--dit", default="docs/training/dit.jsonl")
    parser.add_argument("--out", default="docs/training-curves.png")
    args = parser.parse_args()
    vae, dit = read_log(Path(args.vae)), read_log(Path(args.dit))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(vae["minutes"], vae["psnr"], label="whole clip")
    left.plot(vae["minutes"], vae["box_psnr"], label="inside subjects, last frame")
    left.set(title="Autoencoder", xlabel="minutes on 2 CPU cores", ylabel="held-out PSNR, dB")
    left.legend(frameon=False)
    right.plot(dit["minutes"], dit["loss"], color="tab:green")
    right.set(title="Transformer", xlabel="minutes on 2 CPU cores", ylabel="velocity loss")
    right.set_yscale("log")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.out, dpi=130)


if __name__ == "__main__":
    main()
