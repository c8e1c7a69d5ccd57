"""Is a run that was killed with SIGKILL and started again the same, bit for bit?

    python benchmarks/kill_and_resume.py [--json FILE] [--kills 20] [--steps 12]

The shipped model denoises clips of 80 tokens, solver and known frames by turns, in a process that
is killed at a random moment of a random step, and again in a new process that finds the journal.
The outcome is compared with that of a process that was left alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from patchdit.models import blockworld
from patchdit.models.journal import Journal
from patchdit.models.solvers import shift_for, shifted_sigmas
from patchdit.nodes import host
from patchdit.nodes.sampling import begin, sample
from patchdit.standalone.host import Session, use_session

SHAPE, TOKENS, KNOWN = (1, 16, 5, 8, 8), 80, 2
MOST_FINGERPRINT = 0.3  # seconds


@dataclass(frozen=True)
class Outcome:
    """What came of one kill; `redone` steps were written before it and taken again."""

    killed_at: int
    identical: bool
    redone: int


def model_and_prompts() -> tuple[Any, list]:
    parts = blockworld.load(blockworld.FOLDER)
    clip = host.make_clip(parts.text, parts.tokenizer)
    texts = "a red ball bounces in a meadow, the camera pans left", ""
    prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts]
    return host.make_model(parts.transformer, parts.vae), prompts


def child(number: int, steps: int, journal: Path, out: Path) -> None:
    """One run, which tells the number of every step once it is done and written."""
    model, prompts = model_and_prompts()
    noise = torch.Generator().manual_seed(number)
    latent: dict[str, Any] = {"samples": torch.zeros(SHAPE)}
    if number % 4 > 1:
        latent["samples"] = torch.randn(SHAPE, generator=noise)
        latent["noise_mask"] = torch.ones(1, 1, *SHAPE[2:])
        latent["noise_mask"][:, :, :KNOWN] = 0
    solver = ("euler", "unipc")[number % 2]
    sigmas = shifted_sigmas(steps, shift_for(TOKENS))

    def told(node: str | None, value: float, total: float) -> None:
        print(int(value), flush=True)

    with use_session(Session(on_progress=told)):
        run = begin(model, *prompts, 4.0, latent, sigmas, number, solver)
        done = sample(run, Journal(journal, seconds=0))
    save_file({"samples": done["samples"]}, out)


def start_child(number: int, steps: int, journal: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, __file__, "--child", str(number), str(journal), str(out)]
    return subprocess.Popen(
        [*command, "--steps", str(steps)], stdout=subprocess.PIPE, text=True, env=os.environ
    )


def steps_of(process: subprocess.Popen, until: int | None = None) -> list[int]:
    """The steps it tells of, up to one of them or to its end."""
    told: list[int] = []
    assert process.stdout is not None
    for line in process.stdout:
        told.append(int(line))
        if told[-1] == until:
            break
    return told


def kill_and_resume(number: int, steps: int, folder: Path) -> Outcome:
    """One run left alone, and the same killed and begun again."""
    whole, resumed = folder / f"{number}-whole", folder / f"{number}-resumed"
    alone = start_child(number, steps, folder / "alone", whole)
    steps_of(alone)
    if alone.wait():
        raise RuntimeError("The run that was left alone failed; what it said is above.")
    kill_at = random.randint(1, steps - 1)
    first = start_child(number, steps, folder / "killed", resumed)
    steps_of(first, kill_at)
    time.sleep(random.uniform(0, 0.1))
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = start_child(number, steps, folder / "killed", resumed)
    told = steps_of(second)
    second.wait()
    same = torch.equal(load_file(whole)["samples"], load_file(resumed)["samples"])
    return Outcome(kill_at, same, sum(step <= kill_at for step in told))


def fingerprint_seconds() -> float:
    model, _ = model_and_prompts()
    begun = time.perf_counter()
    host.fingerprint(model)
    return time.perf_counter() - begun


def rows(outcomes: list[Outcome], seconds: float) -> list[dict[str, Any]]:
    """{"name", "value", "target", "met"} of each number."""
    identical = sum(outcome.identical for outcome in outcomes) / len(outcomes)
    redone = sum(outcome.redone for outcome in outcomes)
    values = [
        (f"resume/identical of {len(outcomes)} kills", identical, 1.0, identical == 1),
        ("resume/written steps taken again", redone, 0, redone == 0),
        (
            "resume/seconds for the fingerprint",
            seconds,
            MOST_FINGERPRINT,
            seconds <= MOST_FINGERPRINT,
        ),
    ]
    return [dict(zip(("name", "value", "target", "met"), row, strict=True)) for row in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the rows here")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        number, journal, out = args.child
        return child(int(number), args.steps, Path(journal), Path(out))
    outcomes = []
    with TemporaryDirectory() as folder:
        for number in range(args.kills):
            outcomes.append(kill_and_resume(number, args.steps, Path(folder)))
            print(number, outcomes[-1])
    table = rows(outcomes, fingerprint_seconds())
    for row in table:
        print(f"{row['name']:40} {row['value']:8.3g}  {row['target']:8.3g}  {row['met']}")
    if args.json:
        Path(args.json).write_text(json.dumps({"rows": table}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
