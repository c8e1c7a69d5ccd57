"""Models and autoencoders that do not belong together are refused before anything is encoded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import host
from patchdit.nodes.extend import ExtendVideo, PrepareExtend
from patchdit.nodes.host.duck import Model
from patchdit.nodes.loop import LoopVideo
from patchdit.nodes.reframe import PrepareReframe, Reframe
from patchdit.nodes.remix import PrepareRemix, RemixVideo
from patchdit.nodes.stitch import PrepareStitch, StitchVideos
from patchdit.nodes.storyboard import Shot, Storyboard

from .conftest import VAE

VERBS = [ExtendVideo, StitchVideos, LoopVideo, RemixVideo, Reframe, Storyboard]
PREPARE = [PrepareExtend, PrepareStitch, PrepareRemix, PrepareReframe]


@pytest.fixture
def given(parts, model, vae, prompts):
    """A node's inputs, by their names."""
    clip = torch.rand(9, 32, 32, 3)
    (shots,) = Shot.execute(**defaults(Shot) | {"prompt": "a ball", "previous": ()}).args
    named = {"model": model, "vae": vae, "positive": prompts[0], "negative": prompts[1]}
    return named | {"video": clip, "video_a": clip, "video_b": clip, "shots": shots,
                    "clip": host.make_clip(parts.text, parts.tokenizer)}  # fmt: skip


def defaults(node):
    sockets = node.GET_SCHEMA().inputs
    return {s.id: s.default for s in sockets if getattr(s, "default", None) is not None}


def run(node, given):
    names = {socket.id for socket in node.GET_SCHEMA().inputs}
    text = {"negative": ""} if node is Storyboard else {}
    return node.execute(**defaults(node) | {k: v for k, v in given.items() if k in names} | text)


@pytest.fixture
def never_encoded(monkeypatch):
    monkeypatch.setattr(host, "encode_frames", lambda *_: pytest.fail("it was encoded"))


@pytest.mark.parametrize("node", [*VERBS, *PREPARE])
def test_an_autoencoder_of_other_latents(node, given, never_encoded):
    config = replace(VAE, latent_channels=48, latent_mean=(0.0,) * 48, latent_std=(1.0,) * 48)
    other = host.make_vae(VideoVAE(config).eval())
    with pytest.raises(ValueError, match=r"latents of 48 channels .* takes 16: connect"):
        run(node, given | {"vae": other})


@pytest.mark.parametrize("node", VERBS)
def test_half_of_a_pair_alone(node, parts, given, never_encoded):
    high = Model(parts.transformer, parts.vae, noise_half="high")
    with pytest.raises(ValueError, match=r"is the high-noise half .* to model_low"):
        run(node, given | {"model": high})


@pytest.mark.parametrize("node", PREPARE)
def test_a_prepare_node_takes_half_of_a_pair(node, parts, given):
    """Its sampler is another's, which may have the other half."""
    high = Model(parts.transformer, parts.vae, noise_half="high")
    latent, plan = run(node, given | {"model": high, "seconds": 0.5}).args
    assert plan.latent is latent
