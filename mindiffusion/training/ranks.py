"""Ranks: who am I, where do I compute, and the few things ranks say to each other.

One process needs no launcher. Under torchrun its environment variables are read; a process group
exists only when there is more than one rank. A rank that waits in vain for another says in which
phase, and for whom: ranks that lost each other leave a note in the store that torchrun keeps.
"""

import contextlib
import itertools
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from mindiffusion.errors import LostContact, UserError, ending_signals
from mindiffusion.machine import environment_number, rank_and_world
from mindiffusion.training.signals import was_stopped

_NOTE_SECONDS = 1.0
"""How long ranks that lost contact leave each other to say that they are there."""
_LOOK_SECONDS = 0.02
_START_SECONDS = 60.0
"""Ranks need not start at the same moment, however short the time-out."""


@dataclass(frozen=True)
class _Group:
    """The open process group.

    Attributes:
        store: what all ranks can read and write.
        timeout_seconds: how long to wait for another rank.
        turns: numbers of the times that the main rank worked alone.
    """

    store: dist.Store
    timeout_seconds: float
    turns: Iterator[int] = field(default_factory=itertools.count)


_open_group: _Group | None = None


@dataclass(frozen=True)
class Ranks:
    """This process among its peers.

    Attributes:
        rank: 0 … world − 1.
        world: number of ranks.
        local_rank: rank on this machine.
        local_world: ranks on this machine.
        runs_on_machine: runs side by side on this machine, which share its cores.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    runs_on_machine: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def max(self, number: int) -> int:
        """The largest number of any rank, the same on all; GPUs are not waited for."""
        if self.world == 1:
            return number
        largest = torch.tensor(number)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)

    def gather(self, values: Tensor) -> Tensor:
        """``values``, on the CPU, of all ranks: (world, *shape), the same on all."""
        if self.world == 1:
            return values[None]
        everyone = [torch.empty_like(values) for _ in range(self.world)]
        dist.all_gather(everyone, values)
        return torch.stack(everyone)

    def same(self, values: Tensor, source: int = 0) -> None:
        """Overwrite ``values`` with those of rank ``source``, the main one if not said."""
        if self.world > 1:
            dist.broadcast(values, src=source)

    def barrier(self) -> None:
        """Wait for all ranks, but not for their GPUs."""
        self.max(0)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Around what needs the other ranks: says where this one was when it lost them.

        Args:
            name: such as "step 7: gradient exchange".

        Raises:
            LostContact: another rank did not come within the group's time-out, or is gone.
        """
        started = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not _is_lost_contact(error):
                raise
            raise self._lost_contact(name, time.monotonic() - started, error) from None

    def _lost_contact(self, name: str, waited: float, error: RuntimeError) -> LostContact:
        if isinstance(error, _Silent):
            absent = error.absent
        else:
            absent = _absent_ranks(self.rank, self.world)
        who = f"rank {', '.join(map(str, absent))}" if absent else "the other ranks"
        hint = ""
        if "timed out" in str(error).lower():
            hint = " (a slow machine may need a longer training.timeout_seconds)"
        return LostContact(
            f"rank {self.rank} waited {waited:.1f} s in {name} for {who}, hung or ended{hint}; the "
            "same command goes on from the last checkpoint."
        )

    @contextlib.contextmanager
    def main_alone(self, name: str) -> Iterator[None]:
        """Around long work of the main rank: the others wait as long as it shows itself alive.

        The others must do nothing in the block. They come out at once when asked to stop.

        Args:
            name: such as "step 7: sample grid".

        Raises:
            LostContact: the main rank was not ``alive`` for the group's time-out.
        """
        group = _open_group
        if group is None:
            yield
            return
        key = f"alone/{next(group.turns)}"
        try:
            yield
        finally:
            if self.is_main:
                group.store.set(key, "done")
        if not self.is_main:
            with self.phase(name):
                _wait_for_main(group, key)

    def alive(self) -> None:
        """Inside ``main_alone``: the main rank is still at work."""
        if _open_group is not None:
            _open_group.store.add("alive", 1)


def ranks_from_environment() -> Ranks:
    """This process among its peers, by torchrun's variables; one rank without RANK or WORLD_SIZE.

    Raises:
        UserError: the variables contradict each other, or ranks could not find each other.
    """
    if not (os.environ.get("RANK") and os.environ.get("WORLD_SIZE")):
        return Ranks()  # what is set of them was left over from something else
    rank, world = rank_and_world()
    if (str(rank), str(world)) != (os.environ["RANK"], os.environ["WORLD_SIZE"]):
        raise _strange_ranks()
    has_master = os.environ.get("MASTER_ADDR") and environment_number("MASTER_PORT")
    if world > 1 and not has_master:
        raise _strange_ranks()
    return Ranks(
        rank=rank,
        world=world,
        local_rank=environment_number("LOCAL_RANK") or 0,
        local_world=environment_number("LOCAL_WORLD_SIZE") or world,
    )


def _strange_ranks() -> UserError:
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    found = ", ".join(f"{name}={os.environ.get(name, '')!r}" for name in names)
    return UserError(
        f"the environment has {found}, which start no ranks; start them by torchrun, or unset "
        "these variables for a single process."
    )


@contextlib.contextmanager
def process_group(
    ranks: Ranks, device: str, timeout_seconds: float = 600.0
) -> Iterator[torch.device]:
    """Open the process group if there is more than one rank; yields this rank's device.

    Args:
        ranks: this process among its peers.
        device: "cpu" or "cuda".
        timeout_seconds: how long a rank waits for another before it gives up.

    Raises:
        LostContact: not all ranks came.
    """
    place = torch.device(device, ranks.local_rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    if ranks.world == 1:
        yield place
        return
    # What ranks say to each other about numbers on the CPU goes by gloo also where gradients go by
    # NCCL, so that nobody waits for a device to answer "shall we stop?".
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    global _open_group
    timeout = timedelta(seconds=timeout_seconds)
    with ranks.phase("start"), _dying_of_signals():
        store, rank, world = next(dist.rendezvous("env://"))
        store = _meet(store, ranks, max(timeout_seconds, _START_SECONDS))
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    _open_group = _Group(store, timeout_seconds)
    try:
        yield place
    finally:
        _open_group = None
        dist.destroy_process_group()


@contextlib.contextmanager
def _dying_of_signals() -> Iterator[None]:
    """No handler of Python's runs while torch waits for ranks that may never come."""
    numbers = (signal.SIGINT, *ending_signals())
    old = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _meet(store: dist.Store, ranks: Ranks, seconds: float) -> dist.Store:
    """A part of the store that only these very processes use.

    torchrun keeps its store when it starts ranks again (seen in torch 2.15), and gloo would look
    for the dead ones at the addresses they left there. So every process says under a name of its
    own that it is here, and the main one gives it a word to go on with.

    Raises:
        _Silent: some rank did not come within ``seconds``.
    """
    me, end = uuid.uuid4().hex, time.monotonic() + seconds
    if ranks.is_main:
        _admit(store, set(range(1, ranks.world)), me, end)
        return dist.PrefixStore(me, store)
    store.set(f"here/{ranks.rank}", me)
    word = _await(store, f"word/{me}", end)
    store.set(f"{word}/{ranks.rank}", "")
    _await(store, f"{word}/all", end)
    return dist.PrefixStore(word, store)


def _admit(store: dist.Store, missing: set[int], word: str, end: float) -> None:
    """Give the word to whoever says to be one of the ``missing``, until all have taken it."""
    while missing:
        if time.monotonic() > end:
            raise _Silent(missing)
        for rank in missing:
            # The name may be that of a dead process, to be overwritten by a living one.
            if store.check([f"here/{rank}"]):
                store.set(f"word/{store.get(f'here/{rank}').decode()}", word)
        time.sleep(_LOOK_SECONDS)
        missing = {rank for rank in missing if not store.check([f"{word}/{rank}"])}
    store.set(f"{word}/all", "")


def _await(store: dist.Store, key: str, end: float) -> str:
    """The value that the main rank sets."""
    while not store.check([key]):
        if time.monotonic() > end:
            raise _Silent({0})
        time.sleep(_LOOK_SECONDS)
    return store.get(key).decode()


def _wait_for_main(group: _Group, key: str) -> None:
    beats, since = -1, time.monotonic()
    while not (group.store.check([key]) or was_stopped()):
        time.sleep(_LOOK_SECONDS)
        if (now := group.store.add("alive", 0)) != beats:
            beats, since = now, time.monotonic()
        elif time.monotonic() - since > group.timeout_seconds:
            raise _Silent({0})


class _Silent(RuntimeError):
    """Ranks that showed no sign of life.

    Attributes:
        absent: which.
    """

    def __init__(self, absent: set[int]) -> None:
        super().__init__("timed out")
        self.absent = sorted(absent)


def _is_lost_contact(error: RuntimeError) -> bool:
    """Whether an error of torch is about another rank; gloo's have no type of their own."""
    return isinstance(error, dist.DistError | _Silent) or "gloo" in str(error)


def _absent_ranks(rank: int, world: int) -> list[int]:
    """Ranks that do not say, as this one does, that they are waiting; none if nobody can tell."""
    if _open_group is None:
        return []
    store = _open_group.store
    try:
        store.set(f"waiting/{rank}", "")
        time.sleep(_NOTE_SECONDS)
        return [r for r in range(world) if not store.check([f"waiting/{r}"])]
    except RuntimeError:
        # Without torchrun the store goes with the main rank.
        return [0]
