"""Muon for matrices and AdamW for the rest, with one learning-rate scale over both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor, nn

# Newton-Schulz quintic of Jordan et al., "Muon" (2024): pushes all singular values towards one.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices_KMN: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly, of a batch; computed in bfloat16."""
    x = matrices_KMN.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).to(matrices_KMN.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: one update for every matrix whatever the size of its gradient.

    Weights with more than two dimensions (convolutions) count as [out, everything else]. Matrices
    of one shape are orthogonalised in one batch. The update is scaled by
    0.2 sqrt(max(rows, columns)) so that AdamW's learning rates and weight decay carry over
    (Liu et al. 2025, arXiv:2502.16982, section 2.2).
    """

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]).flatten(1)
                by_shape[update.shape].append((p, update))
            for (rows, columns), pairs in by_shape.items():
                updates = orthogonalise(torch.stack([u for _, u in pairs]))
                scale = 0.2 * max(rows, columns) ** 0.5 * group["lr"]
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update.view_as(p), alpha=-scale)


class Optimizers:
    """The two optimisers of a model as one.

    A parameter goes to Muon if it has two or more dimensions and its name begins with none of
    `adam`: first and last layers, embeddings and tables. A name whose `rate_of` is
    not 1 goes to AdamW at that share of its rate.
    """

    def __init__(
        self,
        model: nn.Module,
        muon_lr: float,
        adam_lr: float,
        adam: tuple[str, ...] = (),
        weight_decay: float = 0.0,
        rate_of: Callable[[str], float] = lambda name: 1.0,
    ):
        matrices, rest = [], defaultdict(list)
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue
            is_matrix = p.ndim >= 2 and min(p.shape[0], p[0].numel()) > 1
            if is_matrix and not name.startswith(adam) and rate_of(name) == 1:
                matrices.append(p)
            else:
                rest[rate_of(name)].append(p)
        self.parts = []
        if matrices:
            self.parts.append(Muon(matrices, muon_lr, weight_decay=weight_decay))
        groups = [{"params": ps, "lr": adam_lr * rate} for rate, ps in rest.items()]
        if groups:
            settings = dict(betas=(0.9, 0.95), weight_decay=0.0, fused=True, eps=1e-9)
            self.parts.append(torch.optim.AdamW(groups, **settings))
        self.base = [[g["lr"] for g in part.param_groups] for part in self.parts]
        self.parameters = matrices + [p for group in groups for p in group["params"]]

    def step(self, scale: float, clip: float = 1.0) -> float:
        """Apply the gradients at `scale` times the base learning rates; returns their norm."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters, clip))
        if norm == norm and norm != float("inf"):
            for part, rates in zip(self.parts, self.base, strict=True):
                for group, rate in zip(part.param_groups, rates, strict=True):
                    group["lr"] = rate * scale
                part.step()
        for part in self.parts:
            part.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> list:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
