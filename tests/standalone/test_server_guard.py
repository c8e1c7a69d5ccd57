"""Who may ask, and what no request can do."""

import asyncio
import json

import aiohttp
import pytest
from yarl import URL

from .serving import post_json, serve


def status_of(base, headers, method="GET", path="/api/settings", **options):
    async def scenario(client):
        answer = await client.request(method, path, headers=headers, allow_redirects=False)
        return answer.status, await answer.text()

    return serve(base, scenario, **options)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:8188"},
        {"Host": "192.168.0.4:8188"},
        {"Host": "["},
        {"Host": "localhost:8188", "Origin": "http://evil.example"},
        {"Host": "localhost:8188", "Origin": "http://localhost:3000"},
        {"Host": "localhost:8188", "Origin": "null"},
        {"Host": "localhost:8188", "Origin": "http://["},
        {"Host": "localhost:8188", "Sec-Fetch-Site": "cross-site"},
        {"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_strangers_are_refused(tmp_path, headers, method):
    status, text = status_of(tmp_path, headers, method)
    assert status == 403 and text.endswith(".")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:9000", "Origin": "http://localhost:9000"},
        {"Host": "[::1]:8188", "Origin": "http://[::1]:8188"},
        {"Host": "127.0.0.1", "Sec-Fetch-Site": "same-origin"},
        {"Host": "LOCALHOST:1", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"},
    ],
)
def test_our_own_pages_are_served(tmp_path, headers):
    assert status_of(tmp_path, headers)[0] == 200


def test_listening_wider_takes_addresses_but_no_strange_names(tmp_path):
    wide = {"listen": "0.0.0.0"}
    assert status_of(tmp_path, {"Host": "192.168.0.4:8188"}, **wide)[0] == 200
    assert status_of(tmp_path, {"Host": "evil.example"}, **wide)[0] == 403
    host = {"Host": "Studio:8188"}
    assert status_of(tmp_path, host, listen="studio")[0] == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/%0aOpen%20http:%2f%2fevil.example%1b[31m", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/userdata/%C2%9B31m" + "x" * 300, {}, 400),  # the disk knows no name as long
    ],
    ids=["strange", "ours"],
)
def test_no_address_steers_the_terminal(tmp_path, path, headers, status, caplog):
    assert status_of(tmp_path, headers, "POST", URL(path, encoded=True))[0] == status
    [said] = [record.getMessage() for record in caplog.records]
    assert said.isprintable()


def test_a_strange_page_opens_no_websocket(tmp_path):
    async def scenario(client):
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await client.ws_connect("/ws", headers={"Origin": "http://evil.example"})
        return error.value.status

    assert serve(tmp_path, scenario) == 403


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "not whole JSON"),
        (b"{", 400, "not whole JSON"),
        (b"[1]", 400, "need a JSON object"),
        (b'{"number": NaN}', 400, "NaN is no number"),
        (b'{"number": 1e999}', 400, "too large a number"),
        (b'{"number": ' + b"9" * 5000 + b"}", 400, "not whole JSON"),
        (b"[" * 100_000, 400, "nested too deep"),
        (b"\xff\xfe\x00", 400, "not whole JSON"),
        (b'{"a": "' + b"x" * (5 * 2**20) + b'"}', 413, "more than 5 MB"),
    ],
    ids=["empty", "half", "list", "nan", "inf", "digits", "deep", "bytes", "long"],
)
@pytest.mark.parametrize("path", ["/api/prompt", "/settings", "/queue", "/api/history"])
def test_bodies_that_are_no_request(tmp_path, path, body, status, sentence):
    async def scenario(client):
        answer = await client.post(path, data=body)
        return answer.status, await answer.text()

    found, text = serve(tmp_path, scenario)
    assert found == status and sentence in text


def test_a_body_without_a_length_is_cut_off_too(tmp_path):
    async def endless():
        for _ in range(12):
            yield b"x" * 2**19
            await asyncio.sleep(0)

    async def scenario(client):
        return (await client.post("/prompt", data=endless())).status

    assert serve(tmp_path, scenario) == 413


def test_noise_on_the_websocket_harms_nothing(tmp_path):
    async def scenario(client):
        socket = await client.ws_connect("/ws")
        for noise in ("", "{", "[" * 60_000, "4", '{"type": "feature_flags", "data": 3}'):
            await socket.send_str(noise)
        await socket.send_str(json.dumps({"type": "feature_flags", "data": {}}))
        heard = [(await socket.receive_json())["type"] for _ in range(3)]
        await socket.send_str("x" * 70_000)
        assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE
        return heard, (await client.get("/queue")).status

    assert serve(tmp_path, scenario) == (["status", "feature_flags", "feature_flags"], 200)


def test_every_answer_forbids_other_sites_and_guessing_of_types(tmp_path):
    async def scenario(client):
        found = [await client.get(path) for path in ("/?a", "/api/features", "/nothing", "/view")]
        return [answer.headers for answer in found]

    for headers in serve(tmp_path, scenario):
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers


def test_what_is_not_there_is_a_sentence(tmp_path):
    async def scenario(client):
        return await post_json(client, "/api/customnode/install", {})

    status, told = serve(tmp_path, scenario)
    assert (status, told["error"]) == (
        404,
        "This preview host has no POST /api/customnode/install.",
    )
