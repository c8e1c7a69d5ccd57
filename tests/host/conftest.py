"""A real ComfyUI, started once on a free port with the pack symlinked into a base directory of its own.

It is looked for at COMFYUI_PATH, around the pack if that lies in a custom_nodes folder, and where comfy-cli
puts it. COMFYUI_PYTHON is the Python to start it with: by default that of a venv beside it, else this one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACK = "ComfyUI-PatchDiT"


def find_comfyui() -> Path | None:
    """The folder of a real ComfyUI."""
    named = os.environ.get("COMFYUI_PATH")
    places = [Path(named)] if named else [ROOT.parent.parent, Path.home() / "comfy" / "ComfyUI"]
    return next((p for p in places if (p / "comfy_api").is_dir() and (p / "main.py").is_file()), None)


def python_of(comfyui: Path) -> str:
    beside = [
        comfyui.parent / "venv" / "bin" / "python",
        comfyui / "venv" / "bin" / "python",
        comfyui / ".venv" / "bin" / "python",
    ]
    named = os.environ.get("COMFYUI_PYTHON")
    return named or next((str(python) for python in beside if python.exists()), sys.executable)


@dataclass(frozen=True)
class ComfyUI:
    """A running server, its base directory and its process."""

    url: str
    base: Path
    process: subprocess.Popen

    def get(self, path: str) -> Any:
        with urlopen(f"{self.url}/{path}", timeout=60) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: Any) -> Any:
        request = Request(f"{self.url}/{path}", json.dumps(body).encode())
        try:
            with urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def queue(self, prompt: dict) -> str:
        return self.post("prompt", {"prompt": prompt})["prompt_id"]

    def wait(self, id: str, seconds: float = 300) -> dict:
        """The history entry of a prompt once it is done, well or not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            entry = self.get(f"history/{id}").get(id)
            if entry is not None:
                return entry
            time.sleep(0.1)
        raise AssertionError(f"Prompt {id} took more than {seconds} s.")

    def run(self, prompt: dict) -> dict:
        """The outputs of a prompt that has to go well."""
        entry = self.wait(self.queue(prompt))
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
        return entry["outputs"]

    def error_of(self, prompt: dict) -> dict:
        """The execution_error message of a prompt that has to fail."""
        entry = self.wait(self.queue(prompt))
        messages = dict(entry["status"]["messages"])
        assert "execution_error" in messages, messages
        return messages["execution_error"]

    def output(self, file: dict) -> Path:
        return self.base / "output" / file["subfolder"] / file["filename"]


@pytest.fixture(scope="session")
def comfyui(weights, tmp_path_factory):
    """The server; the tiny model of tests/nodes is its `tiny` weights."""
    folder = find_comfyui()
    if folder is None:
        pytest.skip("no real ComfyUI found; name one with COMFYUI_PATH")
    base = tmp_path_factory.mktemp("comfyui")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
    shutil.copytree(weights, base / "models" / "patchdit" / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python_of(folder), "main.py", "--cpu", "--port", str(port)]
    command += ["--base-directory", str(base), "--disable-api-nodes"]
    command += ["--database-url", f"sqlite:///{base}/comfyui.db"]
    with open(base / "log.txt", "w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    server = ComfyUI(f"http://127.0.0.1:{port}", base, process)
    try:
        wait_until_up(server)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def wait_until_up(server: ComfyUI, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.process.poll() is None:
        try:
            server.get("system_stats")
            return
        except (URLError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError((server.base / "log.txt").read_text()[-4000:])
