"""What this machine lets this process use, and how it was started; free of heavy imports."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's ``mallopt``, as its malloc.h numbers them."""


def yield_cores() -> None:
    """Let compute threads that wait for others sleep soon; to be called before torch is imported.

    GNU OpenMP's threads spin for long at every barrier, and beside other busy processes take the
    core from the very thread they wait for. 5,000 turns are enough while the cores are ours
    (docs/performance.md). A user's own setting stands.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; to be called before training on a CPU.

    Every step frees and asks for the same tens of megabytes. By default glibc gives the free end of
    the heap, and blocks above 32 MiB, back to the kernel, and every page of them costs a fault when
    it is asked for again (docs/performance.md). A user's own choice of allocator or of its settings
    stands, and so does what another C library does.

    Returns:
        Whether freed memory is kept from now on.
    """
    tunables, preloaded = (os.environ.get(name, "") for name in ("GLIBC_TUNABLES", "LD_PRELOAD"))
    is_set = any(name.startswith("MALLOC_") for name in os.environ)
    if is_set or "glibc.malloc" in tunables or "malloc" in preloaded:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # Older versions take no more than 32 MiB for the first. The second alone would do harm: it
    # stops the first from rising by itself.
    is_kept = mallopt(_M_MMAP_THRESHOLD, 2**30) or mallopt(_M_MMAP_THRESHOLD, 2**25)
    return bool(is_kept and mallopt(_M_TRIM_THRESHOLD, 2**30))


def available_cores() -> int:
    """Cores this process may use (a container or taskset may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def module_command(module: str) -> list[str]:
    """Words that run one of our modules in a process of its own, with imports from where ours are.

    ``python -m`` looks in the working folder first, whose files may be anybody's. Where this
    process does not look there, as one of the console script, its children do not either.
    """
    here = Path.cwd()
    looks_here = any(here == here / place for place in sys.path)
    return [sys.executable, *([] if looks_here else ["-P"]), "-m", module]


def rank_and_world() -> tuple[int, int]:
    """RANK and WORLD_SIZE as a launcher sets them; (0, 1) where they make no sense together.

    Variables left over in a shell mean nothing to a command that knows no ranks. Training looks
    closer: ``distributed.ranks_from_environment``.
    """
    rank, world = (environment_number(name) for name in ("RANK", "WORLD_SIZE"))
    return (rank, world) if rank is not None and world is not None and rank < world else (0, 1)


def environment_number(name: str) -> int | None:
    """A variable that is a number from 0 upwards; None if it is not set, empty or no number."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Floats below the smallest normal one (1.2e-38) count as 0, where the CPU can do that.

    A penalty drives filters there, and arithmetic with such numbers takes CPUs many times as long:
    CR's steps took 2.4 times B's. Only within a step: numpy warns where it holds.
    """
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
