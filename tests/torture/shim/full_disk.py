"""A disk that fails at a chosen write: full for good, full once, or the process dies in the write.

Works on the process it is installed in, on files below the working directory only. Every opening
for writing, every write and every fsync counts as one access.
"""

import builtins
import errno
import io
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODES = ("full", "full-once", "torn")
VARIABLE = "TORTURE_DISK"
_open, _io_open, _os_open = builtins.open, io.open, os.open
_fdopen, _write, _fsync = os.fdopen, os.write, os.fsync


class Disk:
    """Counts accesses and fails at one of them.

    Args:
        mode: of ``MODES``: all accesses from the chosen one on fail, only that one does, or the
            process is killed when a part of its bytes is written.
        access: number of the access, from 1; 0 fails never and only counts.
    """

    def __init__(self, mode: str, access: int) -> None:
        self.mode = mode
        self.access = access
        self.count = 0
        self._root = ""

    def holds(self, path: Any) -> bool:
        """Whether a path or an open file is one whose accesses count."""
        if isinstance(path, int):
            if not stat.S_ISREG(os.fstat(path).st_mode):
                return False
            path = Path(f"/proc/self/fd/{path}").readlink()
        return os.path.realpath(os.fsdecode(path)).startswith(self._root)

    def touch(self, path: Any, rescue: Callable[[], object] = lambda: None) -> None:
        """Count an access; ``rescue`` writes the part of it that a torn write leaves."""
        self.count += 1
        due = self.count == self.access
        if due:
            _write(2, f"torture: {self.mode} at disk access {self.count}\n".encode())
        if due and self.mode == "torn":
            rescue()
            os.kill(os.getpid(), signal.SIGKILL)
        if due or (self.mode == "full" and 0 < self.access < self.count):
            name = path if isinstance(path, str | os.PathLike) else None
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    def install(self) -> None:
        """Put this disk under ``open``, ``os.open``, ``os.write``, ``os.fdopen``, ``os.fsync``."""
        self._root = str(Path.cwd().resolve()) + os.sep
        builtins.open = self._opened(_open)  # type: ignore[assignment]
        io.open = self._opened(_io_open)  # type: ignore[assignment]
        os.open, os.write, os.fsync = self._os_open, self._os_write, self._os_fsync
        os.fdopen = self._os_fdopen  # type: ignore[assignment]

    def _opened(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def open_(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            writes = set(mode) & set("wax+") and not isinstance(file, int) and self.holds(file)
            if writes:
                self.touch(file)
            handle = original(file, mode, *rest, **named)
            return _Handle(handle, self) if writes else handle

        return open_

    def _os_open(self, path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and self.holds(path):
            self.touch(path)
        return _os_open(path, flags, *rest, **named)

    def _os_write(self, descriptor: int, data: Any) -> int:
        if self.holds(descriptor):
            half = bytes(data)[: len(data) // 2]
            self.touch(descriptor, lambda: _write(descriptor, half))
        return _write(descriptor, data)

    def _os_fsync(self, descriptor: int) -> None:
        if self.holds(descriptor):
            self.touch(descriptor)
        _fsync(descriptor)

    def _os_fdopen(self, descriptor: int, mode: str = "r", *rest: Any, **named: Any) -> Any:
        handle = _fdopen(descriptor, mode, *rest, **named)
        writes = set(mode) & set("wax+") and self.holds(descriptor)
        return _Handle(handle, self) if writes else handle


class _Handle:
    """A file opened for writing whose writes count."""

    def __init__(self, handle: Any, disk: Disk) -> None:
        self._handle, self._disk = handle, disk

    def write(self, data: Any) -> int:
        def half() -> None:
            self._handle.write(data[: len(data) // 2])
            self._handle.flush()

        self._disk.touch(getattr(self._handle, "name", None), half)
        return self._handle.write(data)

    def __enter__(self) -> "_Handle":
        self._handle.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._handle.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._handle)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)
