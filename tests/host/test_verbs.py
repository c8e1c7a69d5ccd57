"""The verbs in a real ComfyUI: their numbers are the stand-in's, core's nodes go on both sides."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
import torch

from patchdit.nodes.api import InputImpl, Types

from .graphs import (
    keeping,
    latent_inside,
    latent_outside,
    needs_shipped_weights,
    node,
    one_of,
    shipped,
)

FPS, FRAMES = 10, 17  # of the clip
ENDS = {"from_frame": -1, "window": 0, "context": 0, "generate_fps": 0.0}
PREPARED = {  # settings; frames of the video: seconds of new time are 8, and 10 in the clip's time
    "Extend": ({"direction": "forwards", "seconds": 1.0, **ENDS}, FRAMES + 10),
    "Stitch": ({"fit": "crop", "crossfade": 0.02, "seconds": 1.0, **ENDS}, 2 * FRAMES + 10),
    "Loop": ({"crossfade": 0.02, "seconds": 1.0, **ENDS}, FRAMES + 10),
    "Reframe": (
        {
            "aspect": "width x height",
            "how": "widen",
            "width": 96,
            "height": 64,
            "anchor_x": 0.5,
            "anchor_y": 0.5,
            "feather": 4,
            "window": 0,
        },
        FRAMES,
    ),
    "Remix": ({"window": 0}, FRAMES),
}


@needs_shipped_weights
@pytest.mark.parametrize(
    ("template", "verb"),
    [("remix", "RemixVideo"), ("stitch", "StitchVideos"), ("extend_backwards", "ExtendVideo")],
)
def test_same_latent_as_without_comfyui(comfyui, tmp_path, template, verb):
    """Flow edit and a transform have two runs of one MODEL inside each other; extending has one."""
    graph = shipped(template, steps=4)
    id = one_of(graph, f"PatchDiT_{verb}")
    settings = graph[id]["inputs"]
    expected = {"method": "flow edit"} if template == "remix" else {"mode": "transform"}
    if template == "extend_backwards":
        expected = {"direction": "backwards"}
        settings["seeds"] = "2"
    assert settings.items() >= expected.items()
    inside = latent_inside(comfyui, keeping(graph, id))
    outside = latent_outside(keeping(graph, id), tmp_path)
    assert inside.shape == outside.shape and inside.std() > 0.1
    assert (inside - outside).abs().max() < 1e-4


@pytest.fixture(scope="module")
def clip(comfyui) -> torch.Tensor:
    """The frames of verbs.mp4 in the input folder, which also has sound."""
    generator = torch.Generator().manual_seed(1)
    frames_FHWC = torch.rand(FRAMES, 4, 4, 3, generator=generator)
    frames_FHWC = frames_FHWC.repeat_interleave(16, 1).repeat_interleave(16, 2)
    tone = torch.sin(torch.arange(16000 * FRAMES // FPS) / 20)[None, None]
    sound = {"waveform": tone, "sample_rate": 16000}
    parts = Types.VideoComponents(images=frames_FHWC, frame_rate=Fraction(FPS), audio=sound)
    path = str(comfyui.base / "input" / "verbs.mp4")
    InputImpl.VideoFromComponents(parts).save_to(path)
    return InputImpl.VideoFromFile(path).get_components().images


def with_clip(name: str) -> dict:
    """LoadVideo, the tiny weights and prompts; the clip's frames are saved under a name, anew."""
    return {
        "model": node("PatchDiT_LoadBlockworld", weights="tiny"),
        "positive": node("CLIPTextEncode", text="a red ball bounces", clip=["model", 1]),
        "negative": node("CLIPTextEncode", text="", clip=["model", 1]),
        "clip": node("LoadVideo", file="verbs.mp4"),
        "own": node("GetVideoComponents", video=["clip", 0]),
        "frames": node("SaveImage", images=["own", 0], filename_prefix=f"own_{name}"),
    }


PROMPTS = {"positive": ["positive", 0], "negative": ["negative", 0]}


def saved(video: list) -> dict:
    """Nodes that save a video as a file and, free of any codec, as pictures."""
    return {
        "video": node("SaveVideo", video=video, filename_prefix="v", format="auto", codec="auto"),
        "parts": node("GetVideoComponents", video=video),
        "pictures": node("SaveImage", images=["parts", 0], filename_prefix="all"),
    }


def pictures(comfyui, files: list) -> torch.Tensor:
    """The pictures as numbers, FHWC."""
    found = []
    for file in files:
        with av.open(str(comfyui.output(file))) as container:
            found += [torch.tensor(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return torch.stack(found)


def test_a_video_file_with_sound_is_extended(comfyui, clip):
    settings = {**PREPARED["Extend"][0], "seeds": "", "drift_limit": 0.0, "checkpoint": False}
    inputs = {"video": ["clip", 0], "vae": ["model", 2], "fps": 8.0, "model": ["model", 0]}
    sampling = {**PROMPTS, "seed": 1, "steps": 2, "cfg": 3.0}
    extend = node("PatchDiT_ExtendVideo", **inputs, **sampling, **settings)
    outputs = comfyui.run({**with_clip("file"), "verb": extend, **saved(["verb", 1])})
    with av.open(str(comfyui.output(outputs["video"]["images"][0]))) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.average_rate == FPS
        assert abs(float(audio.duration * audio.time_base) - (FRAMES + 10) / FPS) < 0.1
        assert sum(1 for _ in container.decode(video)) == FRAMES + 10
    own = pictures(comfyui, outputs["frames"]["images"])
    whole = pictures(comfyui, outputs["pictures"]["images"])
    assert len(own) == FRAMES and torch.equal(whole[:FRAMES], own)
    assert (whole[FRAMES:] != own[-1]).any()


@pytest.mark.parametrize("verb", PREPARED)
def test_prepare_cores_sampler_finish(comfyui, clip, verb):
    settings, frames = PREPARED[verb]
    names = ("video_a", "video_b") if verb == "Stitch" else ("video",)
    if verb != "Extend":
        settings = {name: value for name, value in settings.items() if name != "from_frame"}
    inputs = {**{name: ["clip", 0] for name in names}, "vae": ["model", 2], "model": ["model", 0]}
    prepare = node(f"PatchDiT_Prepare{verb}", **inputs, fps=8.0, **settings)
    finish = node("PatchDiT_FinishVideo", latent=["sampler", 0], plan=["prepare", 1])
    nodes = {"prepare": prepare, "sampler": ksampler(verb), "finish": finish}
    outputs = comfyui.run({**with_clip(verb), **nodes, **saved(["finish", 1])})
    own = pictures(comfyui, outputs["frames"]["images"])
    whole = pictures(comfyui, outputs["pictures"]["images"])
    assert len(whole) == frames
    if verb == "Reframe":
        assert whole.shape[2] == 96 and torch.equal(whole[:, :, 16:80], own)
    elif verb != "Remix":
        assert torch.equal(whole[:FRAMES], own)
    if verb == "Stitch":
        assert torch.equal(whole[-FRAMES:], own)


def ksampler(verb: str = "", latent: str = "prepare") -> dict:
    """Core's own, eight steps with guidance; half of the noise for a remix."""
    settings = dict(seed=3, steps=8, cfg=3.0, sampler_name="euler", scheduler="simple")
    links = {"model": ["model", 0], **PROMPTS, "latent_image": [latent, 0]}
    return node("KSampler", **settings, **links, denoise=0.5 if verb == "Remix" else 1.0)


def test_pinned_frames_and_cores_sampler(comfyui, clip):
    sizes = {"aspect": "width x height", "width": 64, "height": 64, "length_in": "frames"}
    lengths = {"seconds": 2.0, "frames": 17, "fps": 8.0, "batch_size": 1}
    one = node("ImageFromBatch", image=["own", 0], batch_index=0, length=1)
    pin = {"latent": ["canvas", 0], "vae": ["model", 2], "images": ["one", 0]}
    graph = {
        **with_clip("pin"),
        "one": one,
        "canvas": node("PatchDiT_EmptyVideoLatent", **sizes, **lengths),
        "pin": node("PatchDiT_PinFrames", **pin, frame=0, strength=1.0, fit="crop"),
        "soft": node("PatchDiT_PinFrames", **pin, frame=-1, strength=0.6, fit="crop"),
        "sampler": ksampler(latent="soft"),
        "video": node("PatchDiT_DecodeVideo", latent=["sampler", 0], vae=["model", 2], fps=0.0),
    }
    graph["soft"]["inputs"]["latent"] = ["pin", 0]
    made = latent_inside(comfyui, keeping(graph, "sampler"))
    pinned = latent_inside(comfyui, keeping(graph, "soft"))
    assert made.isfinite().all() and made.shape == pinned.shape == (1, 16, 5, 8, 8)
    assert (made[:, :, 0] - pinned[:, :, 0]).abs().max() < 1e-4
    assert (made[:, :, 1:4] - pinned[:, :, 1:4]).abs().max() > 0.1
