"""Errors that a user can act on: one clear line, no traceback, told once by all ranks together."""

import contextlib
import difflib
import errno
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

_TRAIN_PACKAGES = ("torch", "torchvision", "timm", "cleanfid", "dicebear", "resvg_py")
"""What ``pip install '.[train]'`` adds; tables and figures do without."""

_MAIN_FIRST_SECONDS = 2.0
"""A mistake that all ranks meet is told by the main one; its end ends the others meanwhile."""
_CAUSE_FIRST_SECONDS = 3.0
"""A rank that lost another lets that one tell why it left."""


class UserError(ValueError):
    """Bad input. The message says what came, what is allowed and what to do."""


class LostContact(UserError):
    """Other ranks did not come to a common point; the message names the place and who."""


class Terminated(KeyboardInterrupt):
    """SIGTERM where nothing has to be saved: ends a command as Ctrl-C does."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``' Did you mean ...?'`` with the nearest allowed name, or the list of all names.

    Args:
        name: what came.
        choices: what is allowed.
    """
    allowed = sorted(choices)
    near = difflib.get_close_matches(name, allowed, n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Allowed: {', '.join(allowed)}."


def is_main_process() -> bool:
    """Whether this process speaks for all ranks."""
    return _rank() == 0


def guarded(action: Callable[[], int]) -> int:
    """Run a command; bad input becomes one line on stderr and an exit code, never a traceback.

    SIGTERM ends it as Ctrl-C does, with code 143, wherever it is not told otherwise.
    """
    level = logging.WARNING if is_main_process() else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    try:
        with _sigterm_raises():
            return action()
    except UserError as error:
        return _tell(str(error), is_cause=not isinstance(error, LostContact))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _TRAIN_PACKAGES:
            raise
        return _tell(
            f"this command needs the package {error.name}, which is not installed; "
            "run: pip install '.[train]'"
        )
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough.
        sys.stdout = None
        return 141
    except OSError as error:
        trouble = _disk_trouble(error)
        if trouble is None:
            raise
        return _tell(trouble)
    except KeyboardInterrupt as stop:
        if is_main_process():
            print("stopped; run the same command again to go on.", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130


def leave(code: int) -> NoReturn:
    """End this process with an exit code.

    One of several ranks leaves without Python's own clearing up: a thread of gloo that still holds
    a tensor then can abort a rank whose work is done (seen once in torch 2.15, signal 6).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM raises ``Terminated``, once: a second one must not break the clearing up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Terminated

    old = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _tell(line: str, is_cause: bool = True) -> int:
    """Print an error as one line; of several ranks on a machine one does. Returns exit code 2.

    Args:
        line: what to say.
        is_cause: False for what follows from another rank's end.
    """
    rank = _rank()
    sys.stdout.flush()
    folder = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if folder:
        patience = _MAIN_FIRST_SECONDS * bool(rank) + _CAUSE_FIRST_SECONDS * (not is_cause)
        # torchrun's SIGTERM, as soon as one rank has ended, cuts the wait short.
        with contextlib.suppress(KeyboardInterrupt), _sigterm_raises():
            time.sleep(patience)
        try:
            # torchrun gives every start of its ranks a folder of its own.
            (Path(folder).parent.parent / "told").touch(exist_ok=False)
        except FileExistsError:
            return 2
        except OSError:
            pass  # No such folder here: rather twice than not at all.
    who = f" (rank {rank})" if rank and is_cause else ""
    # The main rank's progress bar may have left the line open.
    lead = "\n" if rank else ""
    print(f"{lead}error{who}: {line}", file=sys.stderr, flush=True)
    return 2


def _disk_trouble(error: OSError) -> str | None:
    """What a user can do about a full disk or a path that cannot be used; None for other errors."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left on the disk of {error.filename or 'the output'}; "
            "free some and run the same command again, it goes on from the last checkpoint."
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EACCES, errno.EROFS):
        return f"cannot use {error.filename}: {error.strerror}; choose another path or mend it."
    return None
