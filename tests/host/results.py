"""What the last whole run of tests/host found, in which versions, as data: results.json."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

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
        """Count a part of a test's run: each test once, with `inside` those that it ran."""
        file = self.file_of(report.nodeid)
        if not file:
            return
        counts = {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0}
        entry = self.files.setdefault(file, counts)
        entry["seconds"] = round(entry["seconds"] + report.duration, 2)
        if report.when == "call" or report.outcome != "passed":
            self.ran.add(report.nodeid)
            entry[report.outcome] += 1
            inside = dict(report.user_properties).get("inside", 0)
            if inside and report.when == "call":
                entry["inside"] = entry.get("inside", 0) + inside

    @property
    def complete(self) -> bool:
        """Whether all tests of all files ran: no choice of files or names, no early end."""
        files = {path.name for path in self.folder.glob("test_*.py")}
        named = {self.file_of(id) for id in self.wanted}
        return self.whole and files == named and self.wanted == self.ran

    def write(self, comfyui: Path, python: str) -> None:
        """results.json beside the tests: versions of the host, then the files by name."""
        said = subprocess.run(
            [python, "-c", VERSIONS], cwd=comfyui, capture_output=True, text=True, check=True
        )
        found = {"date": date.today().isoformat(), **json.loads(said.stdout)}
        found["tests"] = {name: self.files[name] for name in sorted(self.files)}
        path = self.folder / "results.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    def file_of(self, nodeid: str) -> str:
        """The name of a test's file if it lies in the folder; else empty."""
        file = PurePosixPath(nodeid.split("::")[0])
        return file.name if file.parent.parts[-2:] == self.folder.parts[-2:] else ""
