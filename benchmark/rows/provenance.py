"""Where a number came from: code, versions, machine, clock."""

import datetime
import functools
import importlib.metadata
import platform
import socket
import subprocess
from pathlib import Path

CHANGED = "-dirty"
"""How a revision ends where files differ from the commit."""
UNKNOWN = "unknown"
"""The revision of code that lies in no repository."""
VERSIONED = ("torch", "torchvision", "numpy", "scipy", "timm", "clean-fid", "pillow")


@functools.cache
def git_revision() -> str:
    """Commit of the code, with ``CHANGED`` if files differ from it; "unknown" outside git."""
    command = ["git", "describe", "--always", f"--dirty={CHANGED}", "--abbrev=12"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return done.stdout.strip()


def is_committed(revision: str) -> bool:
    """Whether the code that a row names can be looked up."""
    return revision != UNKNOWN and not revision.endswith(CHANGED)


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for name in VERSIONED:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    return dict(_versions())


def host() -> str:
    """Name of this machine."""
    return socket.gethostname()


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
