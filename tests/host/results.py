"""What the last whole run of tests/host found, in which versions, as data: results.json."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pytest

VERSIONS = """
import json, platform, sys
from importlib.metadata import version
sys.path.insert(0, "")
from comfyui_version import __version__
print(json.dumps({
    "comfyui": __version__,
    "frontend": version("comfyui-frontend-package"),
    "torch": version("torch"),
    "python": platform.python_version(),
    "platform": platform.platform(),
}))
"""

REFRESHED = "tests/host/results.json", "tests/host/object_info"  # by the run itself


class Tally(NamedTuple):
    """Of tests that ran in a process of ComfyUI's."""

    passed: int
    skipped: int = 0

    @classmethod
    def of(cls, output: str) -> Tally:
        """As the last line of pytest's own says; ValueError where none passed."""
        counts, lines = dict.fromkeys(cls._fields, 0), re.findall(r".*\d .* in [\d.]+s.*", output)
        for count, outcome in re.findall(r"(\d+) (passed|skipped)", lines[-1] if lines else ""):
            counts[outcome] = int(count)
        if not counts["passed"]:
            raise ValueError(f"No test passed there: {output[-3000:]}")
        return cls(**counts)


class Results:
    """Counts and times of the tests in one folder, by file; `complete` once each of them ran."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.wanted: set[str] = set()
        self.ran: set[str] = set()
        self.whole = True
        self.files: dict[str, dict[str, Any]] = {}

    def collected(self, nodeids: Iterable[str]) -> None:
        self.wanted = {id for id in nodeids if self.file_of(id)}

    def deselected(self, nodeids: Iterable[str]) -> None:
        self.whole = self.whole and not any(map(self.file_of, nodeids))

    def add(self, report: pytest.TestReport) -> None:
        """Count a part of a test's run: each test once, with `inside` those that it ran there."""
        file = self.file_of(report.nodeid)
        if not file:
            return
        counts = {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0}
        entry = self.files.setdefault(file, counts)
        entry["seconds"] = round(entry["seconds"] + report.duration, 2)
        if report.when == "call" or report.outcome != "passed":
            self.ran.add(report.nodeid)
            entry[report.outcome] += 1
            inside: Any = dict(report.user_properties).get("inside")
            if inside and report.when == "call":
                tally = inside if isinstance(inside, Tally) else Tally(inside)
                entry["inside"] = entry.get("inside", 0) + tally.passed
                entry["inside_skipped"] = entry.get("inside_skipped", 0) + tally.skipped

    @property
    def complete(self) -> bool:
        """Whether all tests of all files ran: no choice of files or names, no early end."""
        files = {path.name for path in self.folder.glob("test_*.py")}
        named = {self.file_of(id) for id in self.wanted}
        return self.whole and files == named and self.wanted == self.ran

    def write(self, comfyui: Path, python: str) -> None:
        """results.json beside the tests: what ran, versions of the host, then the files by name."""
        said = subprocess.run(
            [python, "-c", VERSIONS], cwd=comfyui, capture_output=True, text=True, check=True
        )
        ran = {"date": date.today().isoformat(), **code_of(self.folder)}
        found = {**ran, **json.loads(said.stdout)}
        found["tests"] = {name: self.files[name] for name in sorted(self.files)}
        path = self.folder / "results.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    def file_of(self, nodeid: str) -> str:
        """The name of a test's file if it lies in the folder; else empty."""
        file = PurePosixPath(nodeid.split("::")[0])
        return file.name if file.parent.parts[-2:] == self.folder.parts[-2:] else ""


def code_of(folder: Path) -> dict[str, Any]:
    """The commit that is checked out, and whether files differ from it; no commit without git.

    Files that git does not know count as well: they may be code that ran.
    """
    top = folder.parents[1]
    others = [f":(exclude){name}" for name in REFRESHED]
    try:
        commit = git(top, "rev-parse", "HEAD").strip()
        changed = git(top, "status", "--porcelain", "--", ".", *others)
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "dirty": True}
    return {"commit": commit, "dirty": bool(changed)}


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout
