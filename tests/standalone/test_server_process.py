"""The host as `make canvas` starts it, with the shipped model: a whole run, a kill, a restart."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import cv2
import numpy as np
import pytest

from .serving import Browser, finished, queue

ROOT = Path(__file__).resolve().parents[2]
PROMPT = json.loads((ROOT / "workflows" / "api" / "text_to_video.json").read_text())

pytest.importorskip("comfyui_frontend_package", reason="needs the frontend from PyPI")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def command_of(base, port):
    command = [sys.executable, str(ROOT / "canvas.py"), "--port", str(port)]
    return [*command, "--base-directory", str(base)]


def start_in_vain(base, port):
    """A host that cannot start, once it has ended."""
    command = command_of(base, port)
    done = subprocess.run(command, cwd=base.parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    return done


@contextmanager
def canvas(base, port=None):
    """A running host; the process, its address and what it said in the terminal."""
    port = port or free_port()
    command = command_of(base, port)
    process = subprocess.Popen(command, cwd=base.parent, stderr=subprocess.PIPE, text=True)
    try:
        said = []
        for line in process.stderr:  # its last line says that it is about to listen
            said.append(line)
            if "Ctrl-C stops" in line:
                break
        until = time.monotonic() + 30
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as trial:
                if not trial.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        yield process, f"http://127.0.0.1:{port}", said
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


def talk(address, scenario):
    async def main():
        async with aiohttp.ClientSession(address) as client:
            return await asyncio.wait_for(scenario(client), 120)

    return asyncio.run(main())


def text_to_video(steps):
    prompt = json.loads(json.dumps(PROMPT))
    prompt["5"]["inputs"]["steps"] = steps
    prompt["4"]["inputs"]["seconds"] = 0.5
    return prompt


def test_a_sentence_becomes_a_video_and_a_kill_loses_nothing(tmp_path):
    base = tmp_path / "canvas"

    async def make_and_leave(client):
        page = await client.get("/")
        assert "<html" in await page.text()
        await client.post("/api/settings", json={"Comfy.Locale": "zh"})
        await client.post("/api/userdata/workflows%2Fmine.json", json={"nodes": []})
        async with Browser(client, "b") as browser:
            extra = {"extra_pnginfo": {"workflow": {"id": "w", "nodes": []}}}
            id = await queue(client, text_to_video(2), client_id="b", extra_data=extra)
            shown = await browser.until("executed", node="9")
            [file] = shown["output"]["images"]
            await browser.until("executing", node=None)
            assert "execution_success" in browser.events()
            steps = [d for e, d in browser.heard if e == "progress" and d["max"] == 2]
            assert steps[-1]["value"] == 2
            assert (await finished(client, id))["outputs"]["9"] == shown["output"]
            job = await (await client.get(f"/api/jobs/{id}")).json()
            assert job["preview_output"]["filename"] == file["filename"]
            video = await client.get("/api/view", params=file, headers={"Range": "bytes=4-7"})
            assert (video.status, await video.read()) == (206, b"ftyp")
            await queue(client, text_to_video(1000), client_id="b")
            await browser.until("progress")
            await queue(client, text_to_video(2))
        return file

    async def come_back(client):
        assert await (await client.get("/api/settings/Comfy.Locale")).json() == "zh"
        saved = await (await client.get("/api/userdata/workflows%2Fmine.json")).json()
        assert saved == {"nodes": []}
        assert (await client.get("/api/view", params=file)).status == 200
        queued = await (await client.get("/api/queue")).json()
        assert queued == {"queue_running": [], "queue_pending": []}

    with canvas(base) as (_, address, _):
        file = talk(address, make_and_leave)
    videos = [path.name for path in base.rglob("*.mp4")]
    assert videos == [file["filename"]]
    with canvas(base) as (_, address, _):
        talk(address, come_back)


def test_what_a_killed_host_left_goes_when_the_next_one_starts(tmp_path):
    """Its address is ours then, so it is gone; a host that runs loses nothing to another."""
    base, port = tmp_path / "base", free_port()
    with canvas(base) as (other, other_address, _):
        with canvas(base, port) as (_, address, _):

            async def leave(client):
                form = aiohttp.FormData({"type": "temp"})
                form.add_field("image", b"x", filename="a.png")
                assert (await client.post("/upload/image", data=form)).status == 200

            talk(address, leave)
            talk(other_address, leave)
            start_in_vain(base, port)
            assert len(list(base.rglob("a.png"))) == 2
        assert len(list(base.rglob("a.png"))) == 2  # killed
        with canvas(base, port):
            [left] = base.rglob("a.png")
        other.terminate()
        assert other.wait(20) == 0 and not left.exists()


def test_a_picture_with_too_many_pixels_is_shown_as_it_is(tmp_path):
    """A small file that would take a minute and gigabytes as a light copy."""
    vast = cv2.imencode(".png", np.zeros((10_001, 10_000), np.uint8))[1].tobytes()
    base = tmp_path / "base"
    (base / "output").mkdir(parents=True)
    (base / "output" / "vast.png").write_bytes(vast)

    async def look(client):
        answer = await client.get("/view?filename=vast.png&preview=webp;10")
        return await answer.read()

    with canvas(base) as (_, address, _):
        assert talk(address, look) == vast


def test_a_taken_port_is_a_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = start_in_vain(tmp_path, taken.getsockname()[1])
    assert "Traceback" not in done.stderr and "--port" in done.stderr.splitlines()[-1]


def test_the_host_says_what_it_is_and_ends_on_ctrl_c(tmp_path):
    """It listens on this machine's own address alone."""
    with canvas(tmp_path / "base") as (process, address, said):
        assert "preview host" in said[0] and "this pack's nodes" in said[0]
        assert address in said[-1]
        port = int(address.rsplit(":", 1)[1])
        socket.create_connection(("127.0.0.1", port), 20).close()
        with pytest.raises(OSError):  # where 0.0.0.0 would answer
            socket.create_connection(("127.0.0.2", port), 20)
        process.send_signal(2)
        assert process.wait(20) in (0, 130)


def test_it_stops_soon_while_a_browser_listens(tmp_path):
    with canvas(tmp_path / "canvas") as (process, address, _):

        async def stay(client):
            async with Browser(client, "b") as browser:
                await browser.until("status")
                process.terminate()
                kind = None
                while kind not in ("CLOSE", "CLOSING", "CLOSED"):
                    kind = (await asyncio.wait_for(browser.socket.receive(), 20)).type.name

        talk(address, stay)
        process.wait(20)
