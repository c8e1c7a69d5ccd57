"""run.py: what it prints, what it writes, how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from patchdit.standalone.api import ComfyExtension
from patchdit.standalone.cli import main
from patchdit.standalone.contact_sheet import SHEET_WIDTH, contact_sheet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(classes, tmp_path, capfd):
    """Run main on a prompt with the fake nodes; give exit status, stdout and stderr."""

    class Fakes(ComfyExtension):
        async def get_node_list(self):
            return list(classes.values())

    async def entrypoint():
        return Fakes()

    def command(prompt, *arguments):
        path = tmp_path / "workflow.json"
        path.write_text(prompt if isinstance(prompt, str) else json.dumps(prompt))
        folders = ["--input", str(tmp_path / "input"), "--output", str(tmp_path / "output")]
        status = main(entrypoint, [str(path), *folders, *arguments])
        return status, *capfd.readouterr()

    return command


@pytest.fixture
def prompt(video_file):
    return {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "bars.mp4"}},
        "2": {
            "class_type": "SaveVideo",
            "inputs": {
                "video": ["1", 0],
                "filename_prefix": "clip",
                "format": "auto",
                "codec": "auto",
            },
            "_meta": {"title": "Save it"},
        },
        "3": {"class_type": "Number", "inputs": {"value": 3, "steps": 4}},
        "4": {"class_type": "Show", "inputs": {"value": ["3", 0]}},
    }


def test_prints_the_paths_of_the_video_and_its_contact_sheet(command, prompt, tmp_path):
    status, out, err = command(prompt, "--set", "Save it.filename_prefix=mine")
    video = tmp_path / "output" / "mine_00001_.mp4"
    sheet = video.with_name("mine_00001_sheet.png")
    assert (status, out.split()) == (0, [str(video), str(sheet)])
    assert video.is_file()
    assert cv2.imread(str(sheet)).shape[1] == SHEET_WIDTH
    bars = [bar.split("|")[0].strip() for bar in err.replace("\r", "\n").splitlines()]
    assert [f"A Number {step}/4" for step in range(5)] == list(dict.fromkeys(filter(None, bars)))


def test_list_says_what_can_be_set_and_runs_nothing(command, prompt, tmp_path):
    status, out, _ = command(prompt, "--list", "--set", "Number.value=8")
    assert status == 0
    assert "2  Save it  (SaveVideo)\n    filename_prefix = 'clip'" in out
    assert "    value = 8\n" in out
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("value", "need NODE.INPUT=VALUE"),
        ("9.value=1", "No node is called '9'; the workflow has: 1 Load Video; 2 Save it;"),
        ("3.nothing=1", "has no input 'nothing' to set; it has: value, steps, mode."),
        ("3.value=x", "Node 3 \"A Number\" needs INT at 'value', but --set got 'x'."),
        ("3.value=999", "has 'value' = 999; need 0 to 100."),
        ("2.video=1", "has no input 'video' to set"),
    ],
)
def test_a_bad_setting_is_one_sentence(command, prompt, settings, words):
    status, out, err = command(prompt, "--set", settings)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_name_that_two_nodes_share(command, prompt):
    prompt["5"] = prompt["3"]
    status, _, err = command(prompt, "--set", "A Number.value=1")
    assert (status, err) == (2, "--set 'A Number' fits several nodes (3, 5); use an id.\n")


@pytest.mark.parametrize(
    "text", ['{"1": {"class_ty', "", "[" * 100000, "3", "null", "1" * 5000, "\0", "[NaN]"]
)
def test_files_that_are_no_workflow(command, text):
    status, out, err = command(text)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_windows_editors_mark_does_no_harm(command, prompt):
    status, out, _ = command("\ufeff" + json.dumps(prompt), "--list")
    assert status == 0 and "Save it" in out


def test_a_node_that_lacks_its_inputs_can_be_set(command):
    status, out, _ = command({"1": {"class_type": "Number"}}, "--set", "1.value=5", "--list")
    assert status == 0 and "value = 5" in out


@pytest.mark.parametrize("title", [1e308, None, ["a"], ""])
def test_a_title_that_is_no_text_is_none(command, prompt, title):
    prompt["3"]["_meta"] = {"title": title}
    status, _, err = command(prompt)
    assert status == 0 and "A Number 4/4" in err


def test_a_missing_file(command, tmp_path):
    status, _, err = command({}, "--output", str(tmp_path), "--set", "1.a=1")
    assert (status, err) == (2, "The workflow holds no nodes; need API-format or UI-format JSON.\n")
    assert main(lambda: _nothing(), [str(tmp_path / "none.json")]) == 2


async def _nothing():
    class Empty(ComfyExtension):
        async def get_node_list(self):
            return []

    return Empty()


@pytest.mark.parametrize(
    ("how", "status", "traceback"), [("value", 2, False), ("greed", 2, False), ("bug", 1, True)]
)
def test_only_a_defect_shows_a_traceback(command, prompt, how, status, traceback, caplog):
    prompt["3"] = {"class_type": "Fail", "inputs": {"how": how}}
    got, _, err = command(prompt)
    said = err + caplog.text
    assert got == status
    assert ("Traceback" in said) == traceback
    assert 'Node 3 "Fail"' in said


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_ctrl_c_ends_the_run_at_its_next_step_or_twice_at_once(command, prompt, how):
    before = signal.getsignal(signal.SIGINT)
    prompt["3"] = {"class_type": "Fail", "inputs": {"how": how}}
    status, out, err = command(prompt)
    assert (status, out) == (130, "")
    assert err.endswith("The run was cancelled.\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_the_ui_format_is_embedded_as_it_came(command, video_file, tmp_path):
    workflow = {
        "nodes": [
            {
                "id": 1,
                "type": "LoadVideo",
                "outputs": [{"type": "VIDEO"}],
                "widgets_values": ["bars.mp4"],
            },
            {
                "id": 2,
                "type": "SaveVideo",
                "inputs": [{"name": "video", "type": "VIDEO", "link": 1}],
                "widgets_values": ["clip", "auto", "auto"],
            },
        ],
        "links": [[1, 1, 0, 2, 0, "VIDEO"]],
    }
    status, out, _ = command(workflow)
    assert status == 0
    saved = Path(out.split()[0]).read_bytes()
    assert json.dumps(workflow).encode() in saved


def test_run_py_starts_as_a_script(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), str(broken)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "is not whole JSON" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in `run.py WORKFLOW --list | head`."""
    workflow = ROOT / "workflows" / "api" / "text_to_video.json"
    command = [sys.executable, str(ROOT / "run.py"), str(workflow), "--list"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run.stdout.close()
    assert (run.wait(60), run.stderr.read()) == (0, b"")
    run.stderr.close()


def test_titles_that_a_console_cannot_show_are_escaped(tmp_path):
    """As on Windows, whose consoles and pipes have a code page."""
    path = tmp_path / "titles.json"
    node = {"class_type": "SaveImage", "inputs": {}, "_meta": {"title": "红球 🎈"}}
    path.write_text(json.dumps({"1": node}))
    command = [sys.executable, str(ROOT / "run.py"), str(path), "--list"]
    done = subprocess.run(
        command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "cp1252"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"1  \\u7ea2\\u7403 \\U0001f388  (SaveImage)")


@pytest.mark.parametrize("count", [1, 2, 9, 12])
def test_a_contact_sheet_shows_every_frame_with_gaps_between(count):
    frames = [np.full((32, 48, 3), 100 + 10 * i, np.uint8) for i in range(count)]
    sheet = contact_sheet(frames, [i / 8 for i in range(count)])
    assert sheet.shape[1] == SHEET_WIDTH
    shown = {100 + 10 * i for i in range(count)}
    areas = {value: int((sheet == value).all(-1).sum()) for value in shown}
    assert max(areas.values()) - min(areas.values()) < 0.02 * max(areas.values())
    assert (sheet[:, [0, -1]] == 24).all()
