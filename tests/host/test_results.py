"""What results.json says of a run: which code, and what was left out."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace

import pytest

from .results import REFRESHED, Results, Tally, code_of


@pytest.mark.parametrize(
    ("line", "tally"),
    [
        ("12 passed in 3.45s", Tally(12, 0)),
        ("12 passed, 2 skipped in 3.45s", Tally(12, 2)),
        ("3 skipped, 1 passed, 4 warnings in 0.10s", Tally(1, 3)),
    ],
)
def test_what_ran_there_is_read_from_the_last_line(line, tally):
    assert Tally.of(f"....\n7 passed in 1s, said a test\n{line}\nand a pack goodbye\n") == tally


def test_a_run_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="No test passed there"):
        Tally.of("sss\n3 skipped in 0.01s\n")


def test_what_was_skipped_there_is_counted(tmp_path):
    folder = tmp_path / "tests" / "host"
    results = Results(folder)
    for inside in (Tally(5, 1), Tally(7, 0), None):
        said = [("inside", inside)] if inside else []
        results.add(
            SimpleNamespace(
                nodeid="tests/host/test_a.py::test", when="call", outcome="passed",
                duration=1.0, user_properties=said,
            )
        )  # fmt: skip
    entry = results.files["test_a.py"]
    assert entry["passed"] == 3 and (entry["inside"], entry["inside_skipped"]) == (12, 1)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_and_whether_files_differ_from_it(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    folder = tmp_path / "tests" / "host"
    folder.mkdir(parents=True)
    assert code_of(folder) == {"commit": "", "dirty": True}
    git("init")
    (folder / "test_a.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    clean = code_of(folder)
    assert len(clean["commit"]) == 40 and not clean["dirty"]
    (tmp_path / REFRESHED[0]).write_text("{}")  # by the run itself
    assert code_of(folder) == clean
    (folder / "test_b.py").write_text("2")
    assert code_of(folder) == clean | {"dirty": True}
