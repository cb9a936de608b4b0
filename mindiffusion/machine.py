"""What this machine lets this process use; free of heavy imports."""

import os


def yield_cores() -> None:
    """Let compute threads that wait for others sleep soon; to be called before torch is imported.

    GNU OpenMP's threads spin for long at every barrier, and beside other busy processes take the
    core from the very thread they wait for. 5,000 turns are enough while the cores are ours
    (docs/performance.md). A user's own setting stands.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def available_cores() -> int:
    """Cores this process may use (a container or taskset may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
