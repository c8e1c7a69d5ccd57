"""Stand-in for what nodes take from ComfyUI's machinery: progress, interrupt, device, folders.

Everything hangs on the `Session` of the run in progress, so that two runs in one process do not
share a folder or a cancel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from torch import Tensor

ProgressReport = Callable[[str | None, float, float], None]


class InterruptProcessingException(Exception):
    """Somebody cancelled the run."""


@dataclass(frozen=True)
class Session:
    """Where one run reads and writes, who hears of its progress, and how to stop it.

    `on_progress(node id, value, total)` hears every step of a long node.
    """

    input_directory: Path = Path("input")
    output_directory: Path = Path("output")
    temp_directory: Path = Path(gettempdir()) / "patchdit"
    on_progress: ProgressReport = lambda node, value, total: None
    interrupt: threading.Event = field(default_factory=threading.Event)


_session: ContextVar[Session] = ContextVar("session")
_node: ContextVar[str | None] = ContextVar("node", default=None)


def session() -> Session:
    """The session of the run in progress; outside a run, one with the default folders."""
    return _session.get(Session())


@contextmanager
def use_session(value: Session) -> Iterator[Session]:
    token = _session.set(value)
    try:
        yield value
    finally:
        _session.reset(token)


@contextmanager
def executing(node: str) -> Iterator[None]:
    """Mark the node that progress reports belong to."""
    token = _node.set(node)
    try:
        yield
    finally:
        _node.reset(token)


class ProgressBar:
    """As `comfy.utils.ProgressBar`; previews have nowhere to go and are ignored."""

    def __init__(self, total: int, node_id: str | None = None):
        self.total = total
        self.current = 0
        self.node_id = node_id or _node.get()

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        session().on_progress(self.node_id, self.current, self.total)

    def update(self, value: int) -> None:
        self.update_absolute(self.current + value)


def throw_if_interrupted() -> None:
    """Raise InterruptProcessingException once somebody has cancelled."""
    if session().interrupt.is_set():
        raise InterruptProcessingException("The run was cancelled.")


def get_torch_device() -> torch.device:
    """Where models run: the first GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Model:
    """A MODEL: our network, its TransformerConfig, and the VAEConfig whose latents it denoises."""

    network: Any
    config: Any
    vae_config: Any


class Clip:
    """A CLIP over `models.text`: a Tokenizer and a TextEncoder."""

    def __init__(self, tokenizer: Any, text_encoder: Any):
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder

    def tokenize(self, text: str) -> Tensor:
        return self.tokenizer.batch([text], self.text_encoder.config.length)

    @torch.inference_mode()
    def encode_from_tokens_scheduled(self, tokens: Tensor) -> list:
        """CONDITIONING: one context_BSD on the CPU, with no pooled part."""
        device = next(self.text_encoder.parameters()).device
        return [[self.text_encoder(tokens.to(device)).cpu(), {"pooled_output": None}]]


class Vae:
    """A VAE over `models.video_vae.VideoVAE`; latents are raw means, pixels [B,F,H,W,3] in 0..1."""

    def __init__(self, video_vae: Any):
        self.video_vae = video_vae

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """A batch of videos, or [F,H,W,3] of one, to latent_BCTHW on the CPU."""
        video = (pixels[None] if pixels.ndim == 4 else pixels)[..., :3].movedim(-1, 1)
        return self.video_vae.encode(self._to_device(video * 2 - 1)).float().cpu()

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """latent_BCTHW to pixels on the CPU."""
        video = self.video_vae.decode(self._to_device(latent))
        return ((video.float().cpu() + 1) / 2).clamp(0, 1).movedim(1, -1)

    def spacial_compression_decode(self) -> int:
        return self.video_vae.spatial_stride

    def temporal_compression_decode(self) -> int:
        return self.video_vae.temporal_stride

    def _to_device(self, x: Tensor) -> Tensor:
        weight = next(self.video_vae.parameters())
        return x.to(weight.device, weight.dtype)
