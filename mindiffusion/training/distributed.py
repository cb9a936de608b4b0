"""Ranks: who am I, where do I compute, and the few things ranks say to each other.

One process needs no launcher. Under torchrun its environment variables are read; a process group
exists only when there is more than one rank.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Ranks:
    """This process among its peers.

    Attributes:
        rank: 0 … world − 1.
        world: number of ranks.
        local_rank: rank on this machine.
        local_world: ranks on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Elementwise sum over ranks, the same on all."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def max(self, values: Tensor) -> Tensor:
        """Elementwise maximum over ranks, the same on all."""
        if self.world > 1:
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def same(self, values: Tensor) -> None:
        """Overwrite ``values`` with the main rank's."""
        if self.world > 1:
            dist.broadcast(values, src=0)

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            dist.barrier()


def ranks_from_environment() -> Ranks:
    """Read RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; one rank if they are not set."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return Ranks(
        rank=int(os.environ.get("RANK", "0")),
        world=world,
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        local_world=int(os.environ.get("LOCAL_WORLD_SIZE", str(world))),
    )


@contextlib.contextmanager
def process_group(ranks: Ranks, device: str) -> Iterator[torch.device]:
    """Open the process group if there is more than one rank; yields this rank's device."""
    place = torch.device(device, ranks.local_rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    if ranks.world == 1:
        yield place
        return
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield place
    finally:
        dist.destroy_process_group()
