"""Two processes that train as one."""

import argparse

import torch

from patchdit.training.replicas import Replicas, launch


def average_in_two(args, replicas: Replicas) -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    unused = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.full((3,), float(replicas.rank))
    if replicas.rank:
        unused.grad = torch.ones(2)
    replicas.average_gradients([weight, unused])
    agreed = replicas.agree(10.0 + replicas.rank)
    torch.save([weight.grad, unused.grad, agreed], f"{args.folder}/{replicas.rank}.pt")


def test_gradients_are_averaged_and_values_agreed(tmp_path):
    launch(average_in_two, argparse.Namespace(folder=str(tmp_path)), 2)
    for rank in (0, 1):
        weight, unused, agreed = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert weight.tolist() == [0.5] * 3
        assert unused.tolist() == [0.5] * 2
        assert agreed == 10.0


def test_one_process_keeps_its_own_gradients():
    p = torch.nn.Parameter(torch.zeros(1))
    p.grad = torch.ones(1)
    Replicas().average_gradients([p])
    assert p.grad.item() == 1 and Replicas().agree(3.0) == 3.0
