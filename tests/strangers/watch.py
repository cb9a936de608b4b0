"""What one command did: its exit code, what it said, how long it took, and what it opened.

Python tells of every file that it opens, makes, moves or removes (``sys.addaudithook``), so that a
write outside the work folder is seen wherever it goes, and a private file's reading too.
"""

import contextlib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

LONGEST_SECONDS = 20
MOST_BYTES = 2 << 30
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.chmod")
_HARMLESS = ("/dev/null", "/dev/urandom", "/dev/tty")


@dataclass
class Seen:
    """What was opened since the last look.

    Attributes:
        allowed: folders in which anything may be written.
        private: a folder of which nothing may be opened.
        faults: what was done elsewhere, in words.
    """

    allowed: tuple[str, ...] = ()
    private: str = ""
    faults: list[str] = field(default_factory=list)
    is_on: bool = False

    def note(self, event: str, arguments: tuple[object, ...]) -> None:
        """The audit hook."""
        if not self.is_on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike):
                self._look(os.fsdecode(path), bool(int(flags) & _WRITING))  # type: ignore[call-overload]
        elif event in _CHANGES:
            for path in arguments[:2]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._look(os.fsdecode(path), True)
        elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
            self.faults.append(f"starts a program: {arguments[0]!r}")

    def _look(self, path: str, writes: bool) -> None:
        where = os.path.realpath(path)
        if where.startswith(self.private):
            self.faults.append(f"opens the private {path}")
        elif writes and not where.startswith(self.allowed) and where not in _HARMLESS:
            self.faults.append(f"writes {path}")


SEEN = Seen()
sys.addaudithook(SEEN.note)


@dataclass(frozen=True)
class Outcome:
    """What one input came to.

    Attributes:
        code: the command's exit code.
        said: both streams.
        seconds: of wall time.
        faults: what a stranger's file must never do; empty if all is well.
    """

    code: int
    said: str
    seconds: float
    faults: tuple[str, ...]


class TooLong(BaseException):
    """The bound on one input's time has passed."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """End what takes too long, wherever it is."""

    def stop(number: int, frame: object) -> None:
        raise TooLong

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def peak_bytes() -> int:
    """The most memory that this process has held; that of whoever started it does not count."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def run(action: Callable[[], int]) -> Outcome:
    """Run a command in this process and look at what it does."""
    out, started = io.StringIO(), time.monotonic()
    SEEN.faults.clear()
    faults: list[str] = []
    code = -1
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            with bounded():
                SEEN.is_on = True
                code = action()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except TooLong:
            faults.append(f"takes more than {LONGEST_SECONDS} s")
        except BaseException as error:
            faults.append(f"raises {type(error).__name__}: {str(error)[:200]!a}")
        finally:
            SEEN.is_on = False
    said = out.getvalue()
    faults += SEEN.faults
    if "Traceback (most recent call last)" in said:
        faults.append("prints a traceback")
    if code not in (0, 2):
        faults.append(f"exit code {code}: {said[-300:]!a}")
    if any(not (letter.isprintable() or letter in "\n\r\t") for letter in said):
        faults.append(f"prints what moves a terminal: {said[-300:]!a}")
    if peak_bytes() > MOST_BYTES:
        faults.append("takes more than 2 GB of memory")
    return Outcome(code, said, time.monotonic() - started, tuple(faults))


def allow(work: Path, *others: Path) -> None:
    """Let commands write into these folders only, and open nothing of the private one."""
    SEEN.allowed = tuple(str(folder.resolve()) for folder in (work, *others))
    SEEN.private = str((work.parent / "private").resolve())
