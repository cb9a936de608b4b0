"""What this machine lets this process use, and how it was started; free of heavy imports."""

import ctypes
import os
import sys
from pathlib import Path

_KEPT_BYTES = 2**30
_MALLOC_OPTIONS = (-1, -3)
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""


def yield_cores() -> None:
    """Let compute threads that wait for others sleep soon; to be called before torch is imported.

    GNU OpenMP's threads spin for long at every barrier, and beside other busy processes take the
    core from the very thread they wait for. 5,000 turns are enough while the cores are ours
    (docs/performance.md). A user's own setting stands.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; to be called before training on a CPU.

    Every step frees and asks for the same tens of megabytes. By default glibc maps each large block
    anew and gives it back at once, and every page of it costs a fault (docs/performance.md). A
    user's own settings of the allocator stand.

    Returns:
        Whether it is so; only glibc knows how.
    """
    own = os.environ.get("GLIBC_TUNABLES", ""), *os.environ
    if any("malloc" in name.lower() for name in own):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(option, _KEPT_BYTES) for option in _MALLOC_OPTIONS])


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
