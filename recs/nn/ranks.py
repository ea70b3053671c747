"""Several processes that train as one: `torchrun --nproc-per-node N …` sets RANK and WORLD_SIZE; without them there is one.

gloo on CPUs, nccl on GPUs.  Everything is the identity for one process.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """This process among `world_size`."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0     # on its machine: the number of its GPU

    @property
    def first(self) -> bool:
        """Is this the process that writes?"""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Over all ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Is it so on any rank?"""
        return flag if self.world_size == 1 else bool(self.sum(torch.tensor(float(flag), device=device)).item())

    def same(self, value: int, device: torch.device) -> int:
        """The first rank's value, on all."""
        if self.world_size == 1:
            return value
        told = torch.tensor(value, device=device)
        dist.broadcast(told, 0)
        return int(told.item())

    def wait(self) -> None:
        """Until all are here."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def ranks() -> Iterator[Ranks]:
    """The process group, as torchrun's environment says; left again at the end."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Ranks()
        return
    us = Ranks(int(os.environ["RANK"]), world_size, int(os.environ.get("LOCAL_RANK", "0")))
    mine = not dist.is_initialized()
    if mine:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield us
    finally:
        if mine:
            dist.destroy_process_group()
