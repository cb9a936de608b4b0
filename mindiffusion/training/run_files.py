"""A run's folder seen from outside: is it at work, how far is it saved, what did it end with.

Never imports torch. What cannot be read counts as not there.
"""

import contextlib
import fcntl
from pathlib import Path

from mindiffusion.errors import UserError
from mindiffusion.outside.paths import open_file, read_file
from mindiffusion.printable import printable

_MARK = "error: "
_MOST_LOG_BYTES = 16_000_000


def is_running(run: Path) -> bool:
    """Whether a process is at work in a run's folder."""
    try:
        with open_file(run / ".lock") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, UserError):
        return False
    return False


def newest_checkpoint(run: Path) -> int:
    """Step of the newest sealed state; 0 if there is none."""
    steps = [path.stem.removeprefix("ckpt-") for path in run.glob("ckpt-*.json")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def failure(log: Path) -> str:
    """The line a cell failed with; empty if it did not fail, or is not known to."""
    text = _read_text(log)
    last = _last(text)
    return _shown(last) if last.startswith(_MARK) or "Traceback" in text else ""


def last_line(log: Path) -> str:
    """The last line of a log, without the mark of our errors; empty if there is none."""
    return _shown(_last(_read_text(log)))


def _last(text: str) -> str:
    return text.splitlines()[-1] if text else ""


def _shown(line: str) -> str:
    return printable(line.removeprefix(_MARK))


def _read_text(path: Path) -> str:
    with contextlib.suppress(OSError, UserError):
        return read_file(path, _MOST_LOG_BYTES).decode("utf-8", "replace").strip()
    return ""
