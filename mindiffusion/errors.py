"""Errors that a user can act on: one clear line, no traceback."""

import difflib
import errno
import logging
import sys
from collections.abc import Callable, Iterable

_TRAIN_PACKAGES = ("torch", "torchvision", "timm", "cleanfid", "dicebear", "resvg_py")
"""What ``pip install '.[train]'`` adds; tables and figures do without."""


class UserError(ValueError):
    """Bad input. The message says what came, what is allowed and what to do."""


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


def guarded(action: Callable[[], int]) -> int:
    """Run a command; bad input becomes one line on stderr and an exit code, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        return action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _TRAIN_PACKAGES:
            raise
        print(
            f"error: this command needs the package {error.name}, which is not installed; "
            "run: pip install '.[train]'",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough.
        sys.stdout = None
        return 141
    except OSError as error:
        trouble = _disk_trouble(error)
        if trouble is None:
            raise
        print(f"error: {trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on.", file=sys.stderr)
        return 130


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
