"""The stand-ins for core nodes, run as graphs on small files."""

import asyncio
import json
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch

from patchdit.models.config import TextConfig
from patchdit.models.text import TextEncoder
from patchdit.nodes.host.duck import Clip, Vae
from patchdit.standalone.core_nodes import CLIPTextEncode, VAEDecode, VAEEncode
from patchdit.standalone.executor import NodeError, run
from patchdit.standalone.graph import WorkflowError, read_graph
from patchdit.standalone.images import read_image


@pytest.fixture
def execute(classes, session):
    def execute(prompt, **options):
        return asyncio.run(run(read_graph(prompt, classes), **options))

    return execute


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


SAVE = {"filename_prefix": "clips/%width%x%height%", "format": "auto", "codec": "auto"}


def test_a_clip_goes_through_its_parts_and_back(execute, session, video_file):
    prompt = {
        "1": node("LoadVideo", file="bars.mp4"),
        "2": node("GetVideoComponents", video=["1", 0]),
        "3": node("CreateVideo", images=["2", 0], fps=8.0, audio=["2", 1]),
        "4": node("SaveVideo", video=["3", 0], **SAVE),
    }
    for count in (1, 2):
        shown = execute(prompt, extra_pnginfo={"workflow": {"nodes": []}})
        name = f"48x32_{count:05}_.mp4"
        assert shown["4"]["images"] == [{"filename": name, "subfolder": "clips", "type": "output"}]
    saved = session.output_directory / "clips" / name
    with av.open(str(saved)) as container:
        assert json.loads(container.metadata["prompt"]) == prompt
        assert json.loads(container.metadata["workflow"]) == {"nodes": []}
        assert container.streams.video[0].frames == 9
        assert len(container.streams.audio) == 1
    assert {path.suffix for path in saved.parent.iterdir()} == {".mp4"}


def test_pictures_are_saved_with_their_workflow_and_read_back(execute, session):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 4), np.uint8)
    cv2.imwrite(str(session.input_directory / "in.png"), pixels)
    prompt = {
        "1": node("LoadImage", image="in.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="still"),
        "3": node("PreviewImage", images=["1", 0]),
    }
    shown = execute(prompt, extra_pnginfo={"workflow": {"é": 1}})
    assert [shown[id]["images"][0]["type"] for id in "23"] == ["output", "temp"]
    saved = session.output_directory / shown["2"]["images"][0]["filename"]
    assert saved.name == "still_00001_.png"
    assert np.array_equal(cv2.imread(str(saved)), pixels[..., :3])
    data = saved.read_bytes()
    assert b"tEXtprompt\0" + json.dumps(prompt).encode() in data
    assert b'tEXtworkflow\0{"\\u00e9": 1}' in data


def test_the_mask_is_what_is_transparent(session):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, :, 3] = 255
    path = session.input_directory / "alpha.png"
    cv2.imwrite(str(path), pixels)
    image, mask = read_image(str(path))
    assert image.shape == (1, 2, 2, 3)
    assert mask.tolist() == [[[0, 0], [1, 1]]]


def test_a_picture_stands_as_the_camera_was_held(session):
    """Orientation 6 of EXIF: turned a quarter to the right; grey becomes RGB."""
    _, jpeg = cv2.imencode(".jpg", np.repeat([[0], [255]], 16, axis=1).repeat(8, 0).astype("uint8"))
    tag = b"\x01\0" + bytes.fromhex("1201 0300 0100 0000 0600 0000") + bytes(4)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tag
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    path = session.input_directory / "turned.jpg"
    path.write_bytes(jpeg.tobytes()[:2] + segment + jpeg.tobytes()[2:])
    image, mask = read_image(str(path))
    assert image.shape == (1, 16, 16, 3) and not mask.any()
    assert image[:, :, :6].min() > 0.9 and image[:, :, 10:].max() < 0.1


@pytest.mark.parametrize("content", [b"", b"GIF no more", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_picture_is_one_sentence(session, content):
    path = session.input_directory / "bröken.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Cannot read image .*br.ken\.png.*OpenCV opens\.$"):
        read_image(str(path))


@pytest.mark.parametrize("file", ["other.mp4", "", "bars.mp4 [output]", 7])
def test_a_missing_file_is_told_with_those_that_are_there(execute, video_file, file):
    prompt = {
        "1": node("LoadVideo", file=file),
        "2": node("SaveVideo", video=["1", 0], **SAVE),
    }
    with pytest.raises(WorkflowError, match=r"is no video .*; the input folder has: bars\.mp4\."):
        execute(prompt)


def test_a_video_of_the_output_folder_can_be_loaded(execute, session, video_file):
    session.output_directory.mkdir()
    video_file.rename(session.output_directory / "bars.mp4")
    prompt = {
        "1": node("LoadVideo", file="bars.mp4 [output]"),
        "2": node("SaveVideo", video=["1", 0], **SAVE),
    }
    assert execute(prompt)["2"]["images"]


def test_an_unreadable_video_is_named_by_its_loader(execute, session):
    (session.input_directory / "broken.mp4").write_bytes(b"0" * 99)
    prompt = {
        "1": node("LoadVideo", file="broken.mp4"),
        "2": node("SaveVideo", video=["1", 0], **SAVE),
    }
    with pytest.raises(NodeError, match=r'^Node 1 "Load Video": Cannot read video .*broken\.mp4'):
        execute(prompt)
    assert not session.output_directory.exists()


@pytest.mark.parametrize("prefix", ["../out", "a/../../out"])
def test_nothing_is_written_outside_the_output_folder(execute, video_file, prefix):
    prompt = {
        "1": node("LoadVideo", file="bars.mp4"),
        "2": node("SaveVideo", video=["1", 0], **SAVE | {"filename_prefix": prefix}),
    }
    with pytest.raises(NodeError, match="leaves the output folder"):
        execute(prompt)


def test_an_unwritable_output_folder(execute, session, video_file):
    session.output_directory.write_text("a file where the folder should be")
    prompt = {
        "1": node("LoadVideo", file="bars.mp4"),
        "2": node("SaveVideo", video=["1", 0], **SAVE),
    }
    with pytest.raises(NodeError, match=r'Node 2 "Save Video": Cannot write .*output'):
        execute(prompt)


def test_a_name_too_long_for_the_disk(execute, session, video_file):
    prompt = {
        "1": node("LoadVideo", file="bars.mp4"),
        "2": node("SaveVideo", video=["1", 0], **SAVE | {"filename_prefix": "x" * 5000}),
    }
    with pytest.raises(NodeError, match=r'Node 2 "Save Video": Cannot write .*too long'):
        execute(prompt)
    assert list(session.output_directory.iterdir()) == []


def on_cpu(_memory=0):
    return torch.device("cpu")


class Autoencoder:
    """Takes every second row and column for a latent."""

    spatial_stride, temporal_stride = 2, 4
    config = SimpleNamespace(latent_channels=3)
    conv1 = SimpleNamespace(weight=torch.zeros(1))

    def check_frames(self, frames):
        assert frames % 4 == 1

    def encode(self, video):
        return video[..., ::2, ::2]

    def encode_stream(self, videos):
        return map(self.encode, videos)

    def decode_stream(self, latent):
        yield self.decode(latent)

    def decode(self, latent):
        return latent.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_latents_and_pixels_through_the_vae_nodes():
    vae = Vae(Autoencoder(), on_cpu)
    pixels = torch.rand(5, 4, 6, 3).repeat_interleave(2, 1).repeat_interleave(2, 2)
    latent = VAEEncode.execute(pixels, vae)[0]
    assert latent["samples"].shape == (1, 3, 5, 4, 6)
    assert torch.equal(latent["samples"][0, :, :, 0, 0], pixels[:, 0, 0].T * 2 - 1)
    assert torch.allclose(VAEDecode.execute(latent, vae)[0], pixels, atol=1e-6)


class Letters:
    """A tokenizer of ASCII codes."""

    def batch(self, texts, length):
        return torch.tensor([[ord(c) for c in text.ljust(length, "\0")] for text in texts])


def test_a_prompt_through_the_text_node():
    encoder = TextEncoder(TextConfig(vocabulary=128, width=16, heads=2, layers=1, length=8))
    ((context, more),) = CLIPTextEncode.execute("a ball", Clip(encoder, Letters(), on_cpu))[0]
    with torch.no_grad():
        assert torch.equal(context, encoder(Letters().batch(["a ball"], 8)))
    assert context.shape == (1, 8, 16)
    assert more == {"pooled_output": None}
