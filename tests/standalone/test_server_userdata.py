"""Settings and saved workflows; two who ask at once, files that are odd or gone, links."""

import asyncio
import json

import pytest

from .serving import serve

SETTINGS = "user/default/comfy.settings.json"


def test_workflows_are_listed_saved_moved_and_deleted(tmp_path):
    async def scenario(client):
        saved = {"größe": 1}
        path = "/api/userdata/workflows%2Fmine%20%C3%BC.json"
        answer = await client.post(f"{path}?full_info=true&overwrite=false", json=saved)
        info = await answer.json()
        assert info["path"] == "workflows/mine ü.json" and info["size"] > 0
        assert (await client.post(f"{path}?overwrite=false", json={})).status == 409
        assert await (await client.get(path)).json() == saved
        listing = "/api/userdata?dir=workflows&recurse=true&split=false&full_info=true"
        assert [f["path"] for f in await (await client.get(listing)).json()] == ["mine ü.json"]
        split = await (await client.get("/userdata?dir=workflows&split=true")).json()
        assert split == [["mine ü.json", "mine ü.json"]]
        moved = await client.post(f"{path}/move/workflows%2Fsub%2Fb.json?overwrite=false")
        assert await moved.json() == "workflows/sub/b.json"
        whole = await (await client.get("/v2/userdata?path=workflows")).json()
        assert [(e["path"], e["type"]) for e in whole] == [
            ("workflows/sub", "directory"),
            ("workflows/sub/b.json", "file"),
        ]
        assert (await client.delete("/userdata/workflows%2Fsub%2Fb.json")).status == 204
        assert (await client.get("/userdata/workflows%2Fsub%2Fb.json")).status == 404
        assert (await client.get("/userdata?dir=nowhere")).status == 404
        assert (await client.get("/userdata")).status == 400

    serve(tmp_path, scenario)


def test_settings_outlive_the_host(tmp_path):
    async def first(client):
        assert (await (await client.get("/api/settings")).json())["Comfy.TutorialCompleted"] is True
        assert (await client.post("/api/settings", json={"a": 1, "b": 2})).status == 200
        assert (await client.post("/api/settings/b", json=[3])).status == 200
        assert await (await client.get("/api/settings/none")).json() is None

    async def second(client):
        assert await (await client.get("/api/settings/b")).json() == [3]
        return await (await client.get("/settings")).json()

    serve(tmp_path, first)
    assert serve(tmp_path, second)["a"] == 1
    stored = json.loads((tmp_path / SETTINGS).read_text())
    assert stored == {"a": 1, "b": [3]}


def test_broken_settings_are_kept_beside_new_ones(tmp_path):
    (tmp_path / SETTINGS).parent.mkdir(parents=True)
    (tmp_path / SETTINGS).write_text('{"a": ')

    async def scenario(client):
        await client.post("/settings", json={"b": 1})
        return await (await client.get("/settings/b")).json()

    assert serve(tmp_path, scenario) == 1
    assert (tmp_path / "user/default/comfy.settings.broken.json").read_text() == '{"a": '


def test_a_page_that_opens_a_template_starts_empty(tmp_path):
    async def scenario(client):
        await client.post("/settings", json={"Comfy.TutorialCompleted": True})
        page = {"Referer": str(client.make_url("/?template=text_to_video"))}
        told = [await client.get("/api/settings", headers=headers) for headers in (page, {})]
        return [(await answer.json())["Comfy.TutorialCompleted"] for answer in told]

    assert serve(tmp_path, scenario) == [False, True]


async def slowly(data):
    """A body whose second half comes after all other requests."""
    yield data[: len(data) // 2]
    await asyncio.sleep(0.2)
    yield data[len(data) // 2 :]


def test_settings_posted_at_once_are_all_kept(tmp_path):
    async def scenario(client):
        slow = asyncio.ensure_future(client.post("/settings", data=slowly(b'{"slow": 1}')))
        await asyncio.sleep(0.1)
        await client.post("/settings", json={"fast": 1})
        await slow

    serve(tmp_path, scenario)
    assert json.loads((tmp_path / SETTINGS).read_text()) == {"slow": 1, "fast": 1}


def test_of_two_who_save_under_one_new_name_one_hears_of_it(tmp_path):
    async def scenario(client):
        path = "/userdata/workflows%2Fa.json?overwrite=false"
        slow = asyncio.ensure_future(client.post(path, data=slowly(b'"slow"')))
        await asyncio.sleep(0.1)
        fast = await client.post(path, data=b'"fast"')
        return fast.status, (await slow).status

    assert serve(tmp_path, scenario) == (200, 409)
    assert (tmp_path / "user/default/workflows/a.json").read_text() == '"fast"'


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', "[" * 100_000])
def test_settings_that_no_browser_reads_are_put_aside(tmp_path, text):
    (tmp_path / SETTINGS).parent.mkdir(parents=True)
    (tmp_path / SETTINGS).write_text(text)

    async def scenario(client):
        return await (await client.get("/settings")).text()

    assert "a" not in json.loads(serve(tmp_path, scenario))
    assert (tmp_path / SETTINGS).with_suffix(".broken.json").read_text() == text


def test_a_users_folder_may_be_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "user").mkdir()
    (tmp_path / "user/default").symlink_to(tmp_path / "elsewhere", target_is_directory=True)

    async def scenario(client):
        saved = await client.post("/userdata/workflows%2Fa.json?full_info=true", data=b"{}")
        listed = await client.get("/v2/userdata?path=workflows")
        return (await saved.json())["path"], [entry["path"] for entry in await listed.json()]

    assert serve(tmp_path, scenario) == ("workflows/a.json", ["workflows/a.json"])


def test_files_that_the_frontend_asks_for_are_blank_where_deleted(tmp_path):
    async def scenario(client):
        told = []
        for name in ("user.css", "comfy.templates.json"):
            await client.post(f"/userdata/{name}", data=b"1")
            paths = [f"/userdata/{name}"] + ["/user.css"] * (name == "user.css")
            told += [await (await client.get(path)).text() for path in paths]
            assert (await client.delete(f"/userdata/{name}")).status == 204
            for path in paths:
                answer = await client.get(path)
                told += [answer.status, answer.content_type, await answer.text()]
        return told

    css = [200, "text/css", ""]
    assert serve(tmp_path, scenario) == ["1", "1", *css, *css, "1", 200, "application/json", "[]"]
