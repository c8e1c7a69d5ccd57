"""What the host takes in and shows: uploads, masks, outputs, and nothing beside its folders."""

import asyncio
import json

import aiohttp
import cv2
import numpy as np
import pytest
from yarl import URL

from .serving import serve

OUTSIDE = [
    "../secret.txt",
    "a/../../secret.txt",
    "/etc/passwd",
    "..\\secret.txt",
    "C:\\secret.txt",
    "C:/secret.txt",
    "a\0.txt",
    "a\n.txt",
    "..",
    ".",
    "",
    "link/secret.txt",
    "ring/a",
]


@pytest.fixture
def base(tmp_path):
    """A base directory with a secret beside it, and links that lead there and nowhere."""
    (tmp_path / "secret.txt").write_text("secret")
    base = tmp_path / "base"
    for folder in ("user/default/workflows", "input", "output/sub", "temp"):
        (base / folder).mkdir(parents=True)
    for folder in ("user/default", "input", "output"):
        (base / folder / "link").symlink_to(tmp_path, target_is_directory=True)
        (base / folder / "ring").symlink_to(base / folder / "ring")
    return base


def escape(name):
    return "".join(f"%{byte:02X}" for byte in name.encode())


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
def test_no_name_leads_out_of_the_folders(base, name):
    async def scenario(client):
        def url(path):
            return URL(path, encoded=True)

        hostile = escape(name)
        asked = [
            ("GET", f"/api/userdata/{hostile}"),
            ("POST", f"/api/userdata/{hostile}"),
            ("DELETE", f"/api/userdata/{hostile}"),
            ("POST", f"/userdata/{hostile}/move/b"),
            ("POST", f"/userdata/mine.json/move/{hostile}"),
            ("GET", f"/userdata?dir={hostile}"),
            ("GET", f"/view?filename={hostile}&type=output"),
            ("GET", f"/view?filename=secret.txt&subfolder={hostile}&type=input"),
            ("GET", f"/view?filename={hostile}%20%5Binput%5D"),
            ("GET", f"/extensions/ComfyUI-PatchDiT/{hostile}"),
            ("GET", f"/api/workflow_templates/ComfyUI-PatchDiT/{hostile}"),
        ]
        await client.post("/userdata/mine.json", data=b"{}")
        answers = []
        for method, path in asked:
            answer = await client.request(
                method, url(path), data=b"x" if method == "POST" else None
            )
            answers.append((method, path, answer.status, await answer.read()))
        form = aiohttp.FormData()
        form.add_field("image", b"x", filename="a.png")
        form.add_field("subfolder", name)
        answer = await client.post("/upload/image", data=form)
        return answers, answer.status

    answers, uploaded = serve(base, scenario)
    for method, path, status, body in answers:
        assert 400 <= status < 500, (method, path, status)
        assert body != b"secret"
    assert uploaded in (400, 403) or name in ("", ".")  # the folder itself
    assert (base.parent / "secret.txt").read_text() == "secret"
    assert sorted(path.name for path in base.parent.iterdir()) == ["base", "secret.txt"]
    assert (base / "user/default/mine.json").read_text() == "{}"


def form(data, name="a.png", **fields):
    form = aiohttp.FormData()
    for key, value in fields.items():
        form.add_field(key, value)
    form.add_field("image", data, filename=name)
    return form


def test_uploads_never_replace_others_unless_told(base):
    async def scenario(client):
        names = []
        for data, more in ((b"1", {}), (b"2", {}), (b"1", {}), (b"3", {"overwrite": "true"})):
            answer = await client.post("/api/upload/image", data=form(data, **more))
            names.append((await answer.json())["name"])
        sub = await client.post("/upload/image", data=form(b"4", type="temp", subfolder="x/y"))
        assert await sub.json() == {"name": "a.png", "subfolder": "x/y", "type": "temp"}
        assert (await client.post("/upload/image", data=form(b"5", type="output"))).status == 400
        hostile = b'--x\r\nContent-Disposition: form-data; name="image"; filename="../../a.png"'
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        body = hostile + b"\r\n\r\n6\r\n--x--\r\n"
        stripped = await client.post("/upload/image", data=body, headers=headers)
        assert stripped.status == 403 or (await stripped.json())["name"] == "a (2).png"
        half = await client.post("/upload/image", data=hostile, headers=headers)
        assert half.status == 400
        assert (await client.post("/upload/image", data=b"no form")).status == 400
        assert (await client.post("/upload/image", data={"type": "input"})).status == 400
        listed = await (await client.get("/internal/files/input")).json()
        return names, listed

    names, listed = serve(base, scenario)
    assert names == ["a.png", "a (1).png", "a.png", "a.png"]
    assert {"a (1).png", "a.png"} <= set(listed) <= {"a (1).png", "a (2).png", "a.png"}
    assert (base / "input/a.png").read_bytes() == b"3"


def test_uploads_at_once_under_one_name_are_all_kept(base):
    async def scenario(client):
        data = [bytes([i]) * 10**6 for i in range(8)]
        answers = await asyncio.gather(
            *(client.post("/upload/image", data=form(d, "image.png")) for d in data)
        )
        return data, [(await answer.json())["name"] for answer in answers]

    data, names = serve(base, scenario)
    assert [(base / "input" / name).read_bytes() for name in names] == data


def test_an_upload_beyond_the_cap_leaves_nothing(base, monkeypatch):
    monkeypatch.setattr("patchdit.standalone.server.files.UPLOAD_BYTES", 10**6)

    async def scenario(client):
        good = await client.post("/upload/image", data=form(b"x" * 10**6, "good.mp4"))
        bad = await client.post("/upload/image", data=form(b"x" * (10**6 + 1), "bad.mp4"))
        field = await client.post("/upload/image", data=form(b"x", "c.mp4", note="x" * 2000))
        return good.status, bad.status, field.status

    assert serve(base, scenario) == (200, 413, 413)
    assert {path.name for path in (base / "input").iterdir()} == {"good.mp4", "link", "ring"}


def test_files_are_shown_whole_in_ranges_and_light(base):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 24, 4), np.uint8)
    cv2.imwrite(str(base / "output/sub/a.png"), pixels)
    (base / "output/page.html").write_text("<script>alert(1)</script>")
    (base / "output/a.svg").write_text("<svg/>")
    whole = (base / "output/sub/a.png").read_bytes()

    async def scenario(client):
        path = "/api/view?filename=a.png&subfolder=sub&type=output"
        answer = await client.get(path)
        assert answer.content_type == "image/png" and await answer.read() == whole
        part = await client.get(path, headers={"Range": "bytes=4-9"})
        assert (part.status, await part.read()) == (206, whole[4:10])
        named = await client.get("/view?filename=sub/a.png%20%5Boutput%5D&type=input")
        assert await named.read() == whole
        light = await client.get(f"{path}&preview=webp;50")
        assert light.content_type == "image/webp"
        image = cv2.imdecode(np.frombuffer(await light.read(), np.uint8), cv2.IMREAD_UNCHANGED)
        assert image.shape[:2] == (16, 24)
        for channel, taken in (("rgb", slice(0, 3)), ("a", slice(3, 4))):
            answer = await client.get(f"{path}&channel={channel}")
            data = np.frombuffer(await answer.read(), np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            found = image if channel == "rgb" else image[..., 3:]
            np.testing.assert_array_equal(found, pixels[..., taken])
        for name in ("page.html", "a.svg"):
            answer = await client.get(f"/view?filename={name}&preview=webp")
            assert answer.content_type == "application/octet-stream"
        assert (await client.get("/view?filename=none.png")).status == 404
        assert (await client.get("/view?filename=sub")).status == 404

    serve(base, scenario)


def test_a_light_copy_is_small_and_an_empty_file_stays_as_it_is(base):
    (base / "output/wide.png").write_bytes(png(np.zeros((30, 5000, 3), np.uint8)))
    (base / "output/thread.png").write_bytes(png(np.zeros((9000, 1, 3), np.uint8)))
    (base / "output/empty.png").write_bytes(b"")

    async def scenario(client):
        shapes = []
        for name in ("wide", "thread"):
            answer = await client.get(f"/view?filename={name}.png&preview=webp;50")
            data = np.frombuffer(await answer.read(), np.uint8)
            shapes.append(cv2.imdecode(data, cv2.IMREAD_UNCHANGED).shape)
        empty = [
            await client.get(f"/view?filename=empty.png&{how}")
            for how in ("preview=webp", "channel=rgb", "channel=a")
        ]
        return shapes, [(answer.status, await answer.read()) for answer in empty]

    assert serve(base, scenario) == ([(12, 2048, 3), (2048, 1, 3)], [(200, b"")] * 3)


def test_a_full_disk_is_a_sentence_and_the_old_file_stays(base, full_disk):
    async def scenario(client):
        await client.post("/userdata/w.json", data=b"old")
        with full_disk():
            answer = await client.post("/userdata/w.json", data=b"x" * 5000)
            settings = (await client.post("/settings", json={"a": "x" * 5000})).status
        return answer.status, await answer.text(), settings

    status, text, settings = serve(base, scenario)
    assert (status, settings) == (400, 400) and text.startswith("The disk refused")
    assert (base / "user/default/w.json").read_text() == "old"
    assert not list((base / "user/default").glob("*.partial"))


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def mask_form(data, ref):
    made = aiohttp.FormData()
    made.add_field("image", data, filename="clipspace-mask.png")
    made.add_field("original_ref", ref)
    made.add_field("subfolder", "clipspace")
    return made


def test_a_mask_becomes_the_alpha_of_its_picture(base):
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    drawn = np.zeros((4, 6, 4), np.uint8)
    drawn[:2, :, 3] = 255
    (base / "input" / "p.png").write_bytes(png(picture))
    ref = json.dumps({"filename": "p.png", "type": "input", "subfolder": ""})

    async def scenario(client):
        answer = await client.post("/api/upload/mask", data=mask_form(png(drawn), ref))
        return await answer.json()

    told = serve(base, scenario)
    assert told == {"name": "clipspace-mask.png", "subfolder": "clipspace", "type": "input"}
    kept = cv2.imread(str(base / "input/clipspace/clipspace-mask.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(kept[..., :3], picture) and np.array_equal(kept[..., 3], drawn[..., 3])


@pytest.mark.parametrize(
    ("ref", "mask", "status"),
    [
        ("no json", (4, 6), 400),
        ("[]", (4, 6), 400),
        ('{"filename": 3}', (4, 6), 400),
        ('{"filename": "gone.png", "type": "input"}', (4, 6), 404),
        ('{"filename": "../secret.txt", "type": "input"}', (4, 6), 403),
        ('{"filename": "p.png", "type": "input"}', (3, 6), 400),
        ('{"filename": "text.png", "type": "input"}', (4, 6), 400),
        ('{"filename": "empty.png", "type": "input"}', (4, 6), 400),
    ],
)
def test_a_mask_without_its_picture_is_refused(base, ref, mask, status):
    (base / "input" / "p.png").write_bytes(png(np.zeros((4, 6, 3), np.uint8)))
    (base / "input" / "text.png").write_text("no picture")
    (base / "input" / "empty.png").write_bytes(b"")

    async def scenario(client):
        body = mask_form(png(np.zeros((*mask, 4), np.uint8)), ref)
        return (await client.post("/upload/mask", data=body)).status

    assert serve(base, scenario) == status
    assert not (base / "input" / "clipspace").exists()
