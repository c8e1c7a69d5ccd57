"""From a network to a denoiser: timesteps, classifier-free guidance and what a run can reuse.

Shapes: B batch, C channels, T H W latent frames, rows, columns, S text tokens.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .blocks import KnownCache, TextKeysValues
from .patches import token_maximum
from .transformer import PatchDiT

BATCHINGS = ("batched", "sequential")


class Denoiser(Protocol):
    """Predicts the clean latent (B,C,T,H,W) of x; sigma is (B), (B,T) or (B,T,H,W)."""

    def __call__(self, x_BCTHW: Tensor, sigma: Tensor, /) -> Tensor: ...


def guided_by_known(
    informed: Denoiser, blind: Denoiser, cfg: float, noise_BCTHW: Tensor
) -> Denoiser:
    """Classifier-free guidance by the known frames as well as by the prompt.

    `blind`, under the negative prompt, is shown known frames (sigma 0) as noisy as all others, as
    `noise_BCTHW` makes them: so cfg leads away from what would be made of nothing (History
    Guidance, arXiv:2502.06764). Levels that are not per frame, (B) or (B,T,H,W), are shown to both.
    """

    def denoise(x_BCTHW: Tensor, sigma: Tensor) -> Tensor:
        unseen = without_known(x_BCTHW, sigma, noise_BCTHW) if sigma.ndim == 2 else (x_BCTHW, sigma)
        return torch.lerp(blind(*unseen), informed(x_BCTHW, sigma), cfg)

    return denoise


def without_known(x_BCTHW: Tensor, sigma_BT: Tensor, noise_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    """x with its known frames (sigma 0) at the highest level of their clip, and that level_B."""
    level_B = sigma_BT.amax(1)
    noisy = torch.lerp(x_BCTHW, noise_BCTHW.to(x_BCTHW), level_B[:, None, None, None, None])
    known = (sigma_BT == 0)[:, None, :, None, None]
    return torch.where(known, noisy, x_BCTHW), level_B


class ModelDenoiser:
    """Our network as a Denoiser, guided: v = v_neg + cfg (v_pos - v_neg) (arXiv:2207.12598).

    How the prompts are batched is fixed here, because it changes the last digits: "batched" runs
    both in one call, "sequential" one after the other. What does not change during a run, the
    text's keys and values and those of known tokens, is computed by the first call.

    Contexts have one row, or one for each item of the batch. `concat_BCTHW` is what
    image-conditioned weights see beside x (mask, image latent); `image_features` their CLIP ones.
    """

    def __init__(
        self,
        model: PatchDiT,
        positive_BSD: Tensor,
        negative_BSD: Tensor | None = None,
        cfg: float = 1.0,
        batching: str = "batched",
        image_features: Tensor | None = None,
        concat_BCTHW: Tensor | None = None,
    ):
        if batching not in BATCHINGS:
            raise ValueError(f"Got batching {batching!r}; need one of {', '.join(BATCHINGS)}.")
        if cfg != 1 and negative_BSD is None:
            raise ValueError(f"Guidance of {cfg} needs a negative prompt; got none.")
        self.model, self.cfg, self.batching = model, cfg, batching
        self.dtype = next(model.parameters()).dtype
        self.contexts = [positive_BSD]
        if cfg != 1 and negative_BSD is not None:
            self.contexts.append(negative_BSD)
        self.image_features, self.concat_BCTHW = image_features, concat_BCTHW
        self.batch = 0
        self.calls: list[tuple[TextKeysValues, KnownCache]] = []

    def __call__(self, x_BCTHW: Tensor, sigma: Tensor) -> Tensor:
        """The clean latent (B,C,T,H,W) that x predicts."""
        if len(x_BCTHW) != self.batch:
            self.prepare(len(x_BCTHW))
        levels = sigma if sigma.ndim < 4 else token_maximum(sigma, self.model.config.patch)
        velocities = self.velocities(self.network_input(x_BCTHW), 1000 * levels)
        velocity = velocities[0].float()
        if len(velocities) == 2:
            velocity = torch.lerp(velocities[1].float(), velocity, self.cfg)
        spread = sigma.reshape(*sigma.shape, *(1,) * (4 - sigma.ndim)).unsqueeze(1)
        return x_BCTHW - spread * velocity

    def prepare(self, batch: int) -> None:
        """Compute the text's keys and values for a batch of this size."""
        contexts = [rows(context, batch).to(self.dtype) for context in self.contexts]
        if self.batching == "batched":
            contexts = [torch.cat(contexts)]
        self.calls = []
        for context in contexts:
            image = self.image_features
            if image is not None:
                image = rows(image, batch).to(self.dtype).repeat(len(context) // batch, 1, 1)
            self.calls.append((self.model.text_keys_values(context, image), KnownCache()))
        self.batch = batch

    def network_input(self, x_BCTHW: Tensor) -> Tensor:
        x_BCTHW = x_BCTHW.to(self.dtype)
        if self.concat_BCTHW is None:
            return x_BCTHW
        beside = self.concat_BCTHW.to(x_BCTHW).expand(len(x_BCTHW), -1, -1, -1, -1)
        return torch.cat((x_BCTHW, beside), dim=1)

    def velocities(self, x_BCTHW: Tensor, timestep: Tensor) -> list[Tensor]:
        """The velocity of each prompt."""
        copies = len(self.contexts) // len(self.calls)
        if copies > 1:
            x_BCTHW, timestep = torch.cat([x_BCTHW] * copies), torch.cat([timestep] * copies)
        out = [self.model(x_BCTHW, timestep, text, cache=cache) for text, cache in self.calls]
        return [part for velocity in out for part in velocity.chunk(copies)]


def rows(values: Tensor, batch: int) -> Tensor:
    """One row made `batch`, or as many as there are."""
    if len(values) == batch:
        return values
    if len(values) != 1:
        raise ValueError(f"Got {len(values)} prompts for a batch of {batch}; need 1 or {batch}.")
    return values.expand(batch, *values.shape[1:])
