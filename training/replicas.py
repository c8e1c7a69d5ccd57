"""Data-parallel training in several processes of one machine.

On a busy CPU two processes of one thread each keep their pace where one process of two threads
stalls: threads meet at every layer, processes once a step, when gradients are averaged.
"""

from __future__ import annotations

import os
import socket

import torch
import torch.distributed as dist
from torch import Tensor


class Replicas:
    """This process's place among `count`; the first one logs and saves."""

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count, self.parent = rank, count, os.getppid()

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def average_gradients(self, parameters: list[Tensor]) -> None:
        """Replace each gradient by its mean over the processes; a missing one counts as zero."""
        if self.count == 1:
            return
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in parameters]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        parts = flat.split([g.numel() for g in gradients])
        torch._foreach_copy_(
            gradients, [f.view_as(g) for f, g in zip(parts, gradients, strict=True)]
        )

    def agree(self, value: float) -> float:
        """The first process's value, in all of them; they end when who started them was killed."""
        if self.count == 1:
            return value
        if os.getppid() != self.parent:
            raise SystemExit("The run was killed.")
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)


def _start(rank: int, count: int, port: int, train, args) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    try:
        train(args, Replicas(rank, count))
    finally:
        dist.destroy_process_group()


def launch(train, args, count: int) -> None:
    """Run `train(args, replicas)` in `count` processes, or in this one if that is 1."""
    if count == 1:
        return train(args, Replicas())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_start, (count, port, train, args), nprocs=count)
