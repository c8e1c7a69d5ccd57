"""A real ComfyUI, started once on a free port, with the pack symlinked into its base directory.

It is looked for at COMFYUI_PATH, around the pack if that lies in a custom_nodes folder, and where
comfy-cli puts it. COMFYUI_PYTHON is the Python to start it with: by default that of a venv beside
it, else this one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
import torch

from patchdit.models import blockworld
from patchdit.models.config import VAE_PRESETS, TextConfig, TransformerConfig
from patchdit.models.text import TextEncoder
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE

from ..nodes.conftest import parts, weights
from .results import Results, Tally
from .wan_files import write_wan_files

__all__ = ["parts", "weights"]  # fixtures: the tiny model of tests/nodes

ROOT = Path(__file__).resolve().parents[2]
PACK = "ComfyUI-PatchDiT"
results = Results(Path(__file__).parent)


def pytest_collection_finish(session: pytest.Session) -> None:
    results.collected(item.nodeid for item in session.items)


def pytest_deselected(items: list[pytest.Item]) -> None:
    results.deselected(item.nodeid for item in items)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    results.add(report)


def pytest_sessionfinish() -> None:
    folder = find_comfyui()
    if folder is not None and results.complete:
        results.write(folder, python_of(folder))


def find_comfyui() -> Path | None:
    """The folder of a real ComfyUI."""
    named = os.environ.get("COMFYUI_PATH")
    places = [Path(named)] if named else [ROOT.parent.parent, Path.home() / "comfy" / "ComfyUI"]
    return next(
        (p for p in places if (p / "comfy_api").is_dir() and (p / "main.py").is_file()), None
    )


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

    def queue(self, prompt: dict, **extra: Any) -> str:
        return self.post("prompt", {"prompt": prompt, "extra_data": extra})["prompt_id"]

    def wait(self, id: str, seconds: float = 300) -> dict:
        """The history entry of a prompt once it is done, well or not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            entry = self.get(f"history/{id}").get(id)
            if entry is not None:
                return entry
            time.sleep(0.1)
        raise AssertionError(f"Prompt {id} took more than {seconds} s.")

    def run(self, prompt: dict, **extra: Any) -> dict:
        """The outputs of a prompt that has to go well; `extra` goes along as extra_data."""
        entry = self.wait(self.queue(prompt, **extra))
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
        return entry["outputs"]

    def error_of(self, prompt: dict) -> dict:
        """The execution_error message of a prompt that has to fail."""
        entry = self.wait(self.queue(prompt))
        messages = dict(entry["status"]["messages"])
        assert "execution_error" in messages, messages
        return messages["execution_error"]

    @property
    def log(self) -> str:
        return (self.base / "log.txt").read_text()

    def output(self, file: dict) -> Path:
        return self.base / file["type"] / file["subfolder"] / file["filename"]


@pytest.fixture(scope="session")
def wan_weights(parts, tmp_path_factory) -> Path:
    """A tiny model with Wan's own head size, text width and latent statistics."""
    folder = tmp_path_factory.mktemp("wan")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = PatchDiT(TransformerConfig(128, 256, 1, 2, text_length=16))
        text = TextEncoder(TextConfig(parts.tokenizer.size, 4096, heads=1, layers=0, length=16))
    wan = VAE_PRESETS["wan2.1"]
    config = replace(parts.vae.config, latent_mean=wan.latent_mean, latent_std=wan.latent_std)
    vae = VideoVAE(config)
    vae.load_state_dict(parts.vae.state_dict())
    for name, module in (("transformer", network), ("vae", vae), ("text", text)):
        blockworld.save(name, module, folder, {})
    shutil.copy(blockworld.FOLDER / blockworld.NAMES["tokenizer"], folder)
    return folder


@pytest.fixture(scope="session")
def comfyui(weights, wan_weights, tmp_path_factory):
    """The server; the tiny model of tests/nodes is its `tiny` weights.

    `wan` is another, whose transformer ComfyUI also loads by itself, as tiny-wan.safetensors. The
    folders for models hold what wan_files.py writes.
    """
    if find_comfyui() is None:
        pytest.skip("no real ComfyUI found; name one with COMFYUI_PATH")
    base = tmp_path_factory.mktemp("comfyui")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
    shutil.copytree(weights, base / "models" / "patchdit" / "tiny")
    shutil.copytree(wan_weights, base / "models" / "patchdit" / "wan")
    write_wan_files(base / "models")
    network = wan_weights / blockworld.NAMES["transformer"]
    shutil.copy(network, base / "models" / "diffusion_models" / "tiny-wan.safetensors")
    with served(base) as server:
        yield server


@contextmanager
def served(base: Path) -> Iterator[ComfyUI]:
    """A real ComfyUI with a base directory of its own; skips where there is none."""
    folder = find_comfyui()
    if folder is None:
        pytest.skip("no real ComfyUI found; name one with COMFYUI_PATH")
    (base / "input").mkdir()
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


START = """
import sys
paths, sys.argv = sys.argv[1:], ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import comfy.cli_args
import utils.extra_config  # as ComfyUI does, before another package takes the name
try:
    import pytest
except ImportError:
    sys.exit("no pytest")
sys.exit(pytest.main(paths))
"""


def run_inside(*names: str, **told: str) -> Tally:
    """How many tests of tests/host/<name>.py pass in a process of ComfyUI's, and were skipped.

    None may fail. `told` are environment variables. Skips where there is no real ComfyUI, or none
    with pytest.
    """
    folder = find_comfyui()
    if folder is None:
        pytest.skip("no real ComfyUI found; name one with COMFYUI_PATH")
    tests = [ROOT / "tests" / "host" / f"{name}.py" for name in names]
    done = subprocess.run(
        [python_of(folder), "-c", START, *map(str, ("-x", "-c", ROOT / "pyproject.toml", *tests))],
        cwd=folder,  # where `import comfy` finds it
        env={**os.environ, "PYTHONPATH": "", **told},
        capture_output=True,
        text=True,
        timeout=900,
    )
    if "no pytest" in done.stderr:
        pytest.skip(f"{python_of(folder)} has no pytest")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return Tally.of(done.stdout)


@dataclass(frozen=True)
class Inside:
    """What became of tests in a process of ComfyUI's, and the fingerprints that they found."""

    tally: Tally
    fingerprints: dict[str, str]


@pytest.fixture(scope="session")
def inside(weights, tmp_path_factory) -> Inside:
    """What became of inside.py and inside_verbs.py there."""
    found = tmp_path_factory.mktemp("inside") / "fingerprints.json"
    told = {"PATCHDIT_WEIGHTS": str(weights), "PATCHDIT_FINGERPRINTS": str(found)}
    tally = run_inside("inside", "inside_verbs", **told)
    return Inside(tally, json.loads(found.read_text()))


def wait_until_up(server: ComfyUI, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.process.poll() is None:
        try:
            server.get("system_stats")
            return
        except (URLError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(server.log[-4000:])
