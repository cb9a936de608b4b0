"""What this machine lets this process use; free of heavy imports."""

import os


def yield_cores() -> None:
    """Let waiting compute threads sleep, not spin; to be called before torch is imported.

    OpenMP threads that spin at every barrier beside another busy process take the core from the
    very thread they wait for: a step was seen to take twenty times as long (docs/performance.md).
    A user's own setting stands.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def available_cores() -> int:
    """Cores this process may use (a container or taskset may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
