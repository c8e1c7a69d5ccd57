"""A model of a few thousand random weights, in memory and as files like the shipped ones."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace

import pytest
import torch

from patchdit.models import blockworld
from patchdit.models.config import TextConfig, TransformerConfig, VAEConfig
from patchdit.models.text import TextEncoder, Tokenizer
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import PatchDiTExtension, host
from patchdit.standalone.core_nodes import CORE_NODES

TRANSFORMER = TransformerConfig(
    48, 96, 3, 2, text_width=32, text_length=16, frame_timesteps=True, known_attends_known=True
)
VAE = VAEConfig(
    encoder_width=16,
    decoder_width=16,
    width_multipliers=(1, 2, 2),
    blocks=1,
    spatial_downsample=(True, False),
    temporal_downsample=(True, True),
    pixel_patch=4,
    layout="mini",
    latent_mean=tuple(i / 16 for i in range(16)),
    latent_std=(2.0,) * 16,
)


@pytest.fixture(scope="session")
def parts() -> blockworld.Blockworld:
    """The tiny model's modules."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = Tokenizer(blockworld.FOLDER / blockworld.NAMES["tokenizer"])
        text = TextConfig(tokenizer.size, width=32, heads=2, layers=1, length=16)
        return blockworld.Blockworld(
            PatchDiT(TRANSFORMER).eval(), VideoVAE(VAE).eval(), TextEncoder(text).eval(), tokenizer
        )


@pytest.fixture(scope="session")
def plain_parts(parts) -> blockworld.Blockworld:
    """The same with a transformer that knows one noise level per clip only."""
    config = replace(TRANSFORMER, frame_timesteps=False, known_attends_known=False)
    network = PatchDiT(config).eval()
    network.load_state_dict(parts.transformer.state_dict())
    return replace(parts, transformer=network)


@pytest.fixture(scope="session")
def weights(parts, tmp_path_factory):
    """A folder that LoadBlockworld can load."""
    folder = tmp_path_factory.mktemp("weights")
    for part in ("transformer", "vae", "text"):
        blockworld.save(part, getattr(parts, part), folder, {})
    shutil.copy(blockworld.FOLDER / blockworld.NAMES["tokenizer"], folder)
    return folder


@pytest.fixture
def model(parts):
    return host.make_model(parts.transformer, parts.vae)


@pytest.fixture
def vae(parts):
    return host.make_vae(parts.vae)


@pytest.fixture
def prompts(parts):
    """Positive and negative conditioning."""
    clip = host.make_clip(parts.text, parts.tokenizer)
    texts = "a red ball bounces", ""
    return [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts]


@pytest.fixture
def node_classes():
    """Our nodes and core's stand-ins by id."""
    nodes = [*CORE_NODES, *asyncio.run(PatchDiTExtension().get_node_list())]
    return {node.GET_SCHEMA().node_id: node for node in nodes}
