"""Files that are either whole or not there: atomic writes, hashes, canonical JSON.

Data preparation, checkpoints and results all write through this one module.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from mindiffusion.errors import UserError
from mindiffusion.outside.paths import open_file, open_to_change

LOGGER = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path``; fsync and rename it over ``path`` on success.

    A crash, an exception or a full disk leaves whatever stood at ``path`` before. The temporary
    file of a killed writer goes when ``path`` is next written, or by ``remove_temporaries``.

    Raises:
        OSError: with ``path`` as its file name, where the system gave none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    with _named(path):
        descriptor, temporary = _own_temporary(path)
    try:
        with _named(path), os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            # Renamed before the lock goes with the handle, or another writer would sweep it away.
            os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Trouble with the temporary file is trouble with ``path``: nobody has heard of the other."""
    try:
        yield
    except OSError as error:
        own = Path(os.fsdecode(error.filename or "")).name
        if error.filename is None or own.startswith(f".{path.name}."):
            error.filename, error.filename2 = str(path), None
        raise


def _own_temporary(path: Path) -> tuple[int, str]:
    """A fresh file beside ``path``, locked for as long as its writer lives: descriptor, name."""
    while True:
        name = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}"))
        # 0666: the user's umask says who may read it.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(name, flags, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if Path(name).exists():  # not swept in the moment before it was locked
                return descriptor, name
            os.close(descriptor)


def _sweep(path: Path) -> None:
    """Remove temporary files of ``path`` whose writer is dead: nobody locks them."""
    for stale in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        passed_over = (FileNotFoundError, BlockingIOError, UserError)
        with contextlib.suppress(*passed_over), open_file(stale) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stale.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path, name: str) -> None:
    """Remove what killed processes left of atomic writes; the caller keeps other writers out.

    Args:
        folder: where they wrote.
        name: regular expression of the names of the files they meant to write.
    """
    for path in folder.glob(".*"):
        if re.fullmatch(rf"\.({name})\.[a-z0-9_]{{8}}", path.name):
            path.unlink(missing_ok=True)


def remove_stale(owned: Iterable[Path], written: Collection[Path]) -> None:
    """Remove what an earlier run wrote and this one would not; says so, and names the first.

    Args:
        owned: all files that the caller ever writes; no other file is touched.
        written: those that it has written now.
    """
    stale = [path for path in owned if path not in written and path.is_file()]
    for path in stale:
        path.unlink()
    if stale:
        folder = os.path.commonpath([path.parent for path in stale])
        named = stale[0].name + (" and others" if len(stale) > 1 else "")
        count = f"{len(stale)} file{'s' * (len(stale) > 1)}"
        LOGGER.warning("%s: removed %s that no rows stand for: %s.", folder, count, named)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_write(path) as handle:
        handle.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with open_file(path, follow=True) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON (sorted keys, no spaces) of ``value``."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


@contextlib.contextmanager
def exclusive_lock(
    path: Path, *, wait_seconds: float = 0.0, on_wait: Callable[[], object] | None = None
) -> Iterator[None]:
    """Hold an advisory lock on ``path``; the system frees it when the process ends, however.

    Args:
        path: the lock file, made if needed.
        wait_seconds: how long to try; may be ``math.inf``.
        on_wait: called once, before waiting, when another process holds the lock.

    Raises:
        UserError: another process still holds it, or the lock is no file of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + wait_seconds
    with os.fdopen(open_to_change(path, os.O_RDWR), "rb+") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise UserError(
                        f"{path.parent} is in use by another process; wait for it to end, "
                        "or choose another --output."
                    ) from None
                if on_wait is not None:
                    on_wait()
                    on_wait = None
                time.sleep(0.1)
        yield
