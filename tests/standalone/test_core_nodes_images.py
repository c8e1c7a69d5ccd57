"""The stand-ins that show text, scale pictures and run upscalers."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from patchdit.standalone.core_nodes import CORE_NODES
from patchdit.standalone.scaling import METHODS, scale_images

NODES = {node.GET_SCHEMA().node_id: node for node in CORE_NODES}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (None, "None"),
        (True, "True"),
        (0.5, "0.5"),
        ({"a": [1]}, '{\n    "a": [\n        1\n    ]\n}'),
        (
            {
                1,
            },
            "{1}",
        ),
    ],
)
def test_any_value_as_text(value, text):
    shown = NODES["PreviewAny"].execute(value)
    assert shown[0] == text and shown.ui == {"text": (text,)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(5, 4), (24, 30), (12, 10)])
def test_flat_pictures_stay_flat_at_any_size(method, size):
    flat = torch.full((2, 10, 12, 3), 0.25)
    scaled = NODES["ImageScale"].execute(flat, method, *size, "disabled")[0]
    assert scaled.shape == (2, size[1], size[0], 3)
    torch.testing.assert_close(scaled, torch.full_like(scaled, 0.25))


@pytest.mark.parametrize("size", [(5, 4), (24, 30)])
def test_lanczos_is_pillows(size):
    image = pytest.importorskip("PIL.Image")
    pixels = torch.randint(96, 160, (10, 12, 3), dtype=torch.uint8)  # clips nowhere
    theirs = image.fromarray(pixels.numpy()).resize(size, image.Resampling.LANCZOS)
    theirs = torch.tensor(list(theirs.tobytes())).reshape(size[1], size[0], 3)
    ours = scale_images(pixels[None] / 255, *size, "lanczos", False)[0] * 255
    assert (ours - theirs).abs().max() <= 1.5  # Pillow rounds twice


def test_a_side_of_zero_keeps_the_proportions():
    image = torch.rand(1, 10, 20, 3)
    assert scale_images(image, 0, 5, "area", False).shape == (1, 5, 10, 3)
    assert scale_images(image, 40, 0, "area", False).shape == (1, 20, 40, 3)
    assert scale_images(image, 0, 0, "area", False) is image


def test_the_middle_is_cut_out_of_the_new_proportions():
    image = torch.rand(1, 10, 20, 3)
    assert torch.equal(scale_images(image, 10, 10, "nearest-exact", True), image[:, :, 5:15])


class Doubler:
    """An upscaler that repeats pixels and overshoots."""

    def to(self, device):
        return self

    def __call__(self, x):
        assert len(x) == 1
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2) * 2 - 0.5


def test_frames_go_through_the_upscaler_and_stay_in_range():
    image = torch.rand(3, 4, 6, 3)
    large = NODES["ImageUpscaleWithModel"].execute(Doubler(), image)[0]
    assert large.shape == (3, 8, 12, 3)
    assert torch.equal(large[:, ::2, 1::2], (image * 2 - 0.5).clamp(0, 1))


def test_without_spandrel_one_sentence_says_what_to_install(monkeypatch, session):
    folder = session.input_directory.parent / "models" / "upscale_models"
    folder.mkdir(parents=True)
    (folder / "x.pth").write_bytes(b"")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install spandrel\.$"):
        NODES["UpscaleModelLoader"].execute("x.pth")
