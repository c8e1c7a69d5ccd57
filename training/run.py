"""A training run on disk: a clock, a log and checkpoints that survive a kill."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import torch


class Run:
    """A run of `minutes` in `folder`: time already spent is read back, so a killed run goes on.

    `progress` goes from 0 to 1 over the whole run, however many times it was interrupted.
    """

    def __init__(self, folder: str | Path, minutes: float, checkpoint_seconds: float = 120):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seconds = minutes * 60
        self.checkpoint_seconds = checkpoint_seconds
        self.step = 0
        self.spent = 0.0
        self.started = self.saved = time.monotonic()
        self.path = self.folder / "checkpoint.pt"

    def resume(self, device="cpu") -> dict | None:
        """The last checkpoint's payload, or None at the start of a run."""
        if not self.path.exists():
            return None
        state = torch.load(self.path, map_location=device, weights_only=True)
        self.step, self.spent = state["step"], state["spent"]
        return state["payload"]

    @property
    def progress(self) -> float:
        return min((self.spent + time.monotonic() - self.started) / self.seconds, 1.0)

    def rate(self, progress: float, warmup: int = 50) -> float:
        """Learning-rate scale: linear warm-up, then a cosine to zero at the end of the run."""
        return min((self.step + 1) / warmup, 1.0) * 0.5 * (1 + math.cos(math.pi * progress))

    def log(self, **values) -> None:
        row = {"step": self.step, "minutes": round(self.progress * self.seconds / 60, 2)}
        row |= {k: float(f"{v:.5g}") for k, v in values.items()}
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def due(self) -> bool:
        return time.monotonic() - self.saved > self.checkpoint_seconds

    def save(self, payload: dict) -> None:
        """Write a checkpoint whole or not at all."""
        spent = self.spent + time.monotonic() - self.started
        state = {"step": self.step, "spent": spent, "payload": payload}
        torch.save(state, self.path.with_suffix(".tmp"))
        os.replace(self.path.with_suffix(".tmp"), self.path)
        self.saved = time.monotonic()
