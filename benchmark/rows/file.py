"""The files that a study's rows stand in, read as one and appended to.

Rows are appended to ``rows.jsonl``. ``rows.jsonl.xz`` beside it holds rows compressed. It is read
in place and only ever replaced as a whole; what is measured afterwards goes to ``rows.jsonl``
again. A row that stands in both files counts once, so a process that is killed between writing the
one and deleting the other loses nothing.

Line ends of another system, a byte-order mark and blank lines do no harm.
"""

import contextlib
import fcntl
import functools
import itertools
import json
import logging
import lzma
import mmap
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from benchmark.rows.lines import MOST_LINE_BYTES, MOST_TAKEN, Decoder, ids_in, lines_of
from benchmark.rows.row import Row, key
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write
from mindiffusion.outside.compressed import open_xz
from mindiffusion.outside.documents import read_json_lines
from mindiffusion.outside.paths import is_file, open_file, open_to_change

LOGGER = logging.getLogger(__name__)
ROWS_FILE = "rows.jsonl"
COMPRESSED = ".xz"
MOST_ROWS = 5_000_000
"""A line may stand for many rows, so their number is bounded too."""
_MOST_BYTES = 1 << 30
_BOM = b"\xef\xbb\xbf"


def compressed_file(path: Path) -> Path:
    """The compressed file that belongs to a ``rows.jsonl``."""
    return path.with_name(path.name + COMPRESSED)


def rows_files(path: Path) -> list[Path]:
    """The files of rows that are there, in the order in which they are read; none: no rows.

    Args:
        path: the study's ``rows.jsonl``, there or not.
    """
    return [one for one in (compressed_file(path), path) if os.path.lexists(one)]


def _is_whole(tail: bytes) -> bool:
    """Whether a last line without a newline is a whole object (a cut one never parses)."""
    try:
        return isinstance(json.loads(tail), dict)
    except (ValueError, RecursionError):
        return False


def _mend_tail(descriptor: int, path: Path) -> None:
    """Drop a last line that a killed writer left cut; end a whole one with its newline."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as content:
        start = content.rfind(b"\n") + 1
        tail = content[start:]
    if not tail:
        return
    if _is_whole(tail):
        os.write(descriptor, b"\n")
        return
    LOGGER.warning("%s: removed a cut last line (%d bytes), its row is lost.", path, len(tail))
    os.ftruncate(descriptor, start)


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append all ``rows`` or none: one locked write, then fsync.

    Several processes may append to one file.

    Raises:
        UserError: a row has a value its field does not allow (nothing is written).
        OSError: the disk is full, or so; the file is as it was before.
    """
    lines = lines_of(rows)
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open_locked(path)
    try:
        _mend_tail(descriptor, path)
        known = _known_ids(descriptor)
        _write_whole(descriptor, b"".join(line for name, line in lines if name not in known))
    finally:
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    """A descriptor of the file that has this name once it is locked: it may just be replaced."""
    while True:
        descriptor = open_to_change(path, os.O_RDWR | os.O_APPEND)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        os.close(descriptor)


def _known_ids(descriptor: int) -> set[str]:
    """Ids of the shared lines of an open file."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return set()
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as content:
        return ids_in(content)


def _write_whole(descriptor: int, data: bytes) -> None:
    before = os.fstat(descriptor).st_size
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, before)
        raise


def appended_bytes(path: Path) -> int:
    """Size of a ``rows.jsonl``; 0 if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.lstat().st_size
    return 0


def write_rows(path: Path, rows: Sequence[Row], replaced: int) -> None:
    """Write all rows of a study, compressed, and delete the ``rows.jsonl`` that this replaces.

    Args:
        path: the study's ``rows.jsonl``.
        rows: all rows, those of the files before among them.
        replaced: size that ``rows.jsonl`` had before it was read. If it has grown since, it stays.

    Raises:
        UserError: a row has a value its field does not allow (nothing is written).
    """
    lines = lines_of(rows)
    with atomic_write(compressed_file(path)) as handle:
        handle.write(lzma.compress(b"".join(line for _, line in lines)))
    if not is_file(path):
        return
    descriptor = _open_locked(path)
    try:
        if os.fstat(descriptor).st_size == replaced:
            path.unlink()
    finally:
        os.close(descriptor)


class _Reading:
    """How far one file of lines has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = self.lines = 0
        # What stands before the offset; it carries a checksum, so another file has another one.
        self._last = b""
        self._decoder = Decoder(path)

    def goes_on(self, handle: BinaryIO | None) -> bool:
        """Whether a file still begins with what has been read of it."""
        if handle is None:
            return self.offset == 0
        handle.seek(self.offset - len(self._last))
        return handle.read(len(self._last)) == self._last

    def rows(self, handle: BinaryIO) -> Iterator[Row]:
        """The rows from where the handle stands, a bounded line at a time.

        While a row is looked at, its line is the one behind ``lines``.
        """
        while line := handle.readline(2 * MOST_LINE_BYTES):
            number = self.lines + 1
            content = line.removeprefix(_BOM) if self.offset == 0 else line
            content = content.rstrip(b"\r\n")
            is_ended = line.endswith(b"\n")
            if not is_ended and len(line) < 2 * MOST_LINE_BYTES and not _is_whole(content):
                LOGGER.warning(
                    "%s: the cut last line (line %d) cannot be read. Its row is lost, and any row "
                    "that stood behind it. Bring the whole file again, or give the command again "
                    "that made it: it measures what is missing.",
                    self.path, number,
                )  # fmt: skip
                return
            if content.strip():
                yield from self._decoder.rows_of(number, content)
            if is_ended:
                self.offset += len(line)
                self.lines = number
                self._last = line


class Follower:
    """Reads rows that others go on adding to: every line is decoded once.

    What is read first is distinct and free of contradictions; what is added later is not compared.

    Args:
        path: the study's ``rows.jsonl``; there may be none yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start_over()

    def _start_over(self) -> None:
        self._appended = _Reading(self.path)
        self._compressed: tuple[int, ...] | None = None

    def news(self) -> tuple[list[Row], bool]:
        """Rows added since the last call, and whether these are all: the first call, or a new file.

        A cut last line is passed over with a warning; it is read when it is whole.

        Raises:
            UserError: another line is no row, or two lines of a first reading give one key two
                values.
        """
        with contextlib.ExitStack() as stack:
            # This file first: who compresses rows deletes it last.
            handle = self._opened(stack)
            compressed = _state(compressed_file(self.path))
            if compressed != self._compressed or not self._appended.goes_on(handle):
                self._start_over()
            is_anew = self._compressed is None and self._appended.offset == 0
            found: list[Row] = []
            if compressed != self._compressed:
                found += self._whole()
            if handle is not None:
                handle.seek(self._appended.offset)
                found += _bounded(self.path, self._appended.rows(handle))
            self._compressed = compressed
        return (_distinct(self.path, found) if is_anew else found), is_anew

    def _opened(self, stack: contextlib.ExitStack) -> BinaryIO | None:
        try:
            handle = stack.enter_context(open_file(self.path))
        except FileNotFoundError:
            return None
        fcntl.flock(handle, fcntl.LOCK_SH)
        return handle

    def _whole(self) -> list[Row]:
        path = compressed_file(self.path)
        with open_xz(path) as handle:
            return _bounded(path, _Reading(path).rows(handle))


def _state(path: Path) -> tuple[int, ...] | None:
    """What is another one once a file has been replaced; None if there is none."""
    try:
        stat = path.lstat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _bounded(path: Path, found: Iterator[Row]) -> list[Row]:
    rows = list(itertools.islice(found, MOST_ROWS + 1))
    if len(rows) > MOST_ROWS:
        raise UserError(f"{path} has more than {MOST_ROWS:,} rows, the most that are read.")
    return rows


def read_rows(path: Path) -> list[Row]:
    """The distinct rows of a study in the order of its files; none if there is no file yet.

    A cut last line is skipped with a warning.

    Args:
        path: the study's ``rows.jsonl``.

    Raises:
        UserError: another line is no row, or two lines give one key two values.
    """
    rows, _ = Follower(path).news()
    return rows


def read_loosely(path: Path) -> Iterator[dict[str, Any]]:
    """The fields of each line of rows; what can't be read is passed over, nothing is checked.

    Args:
        path: the study's ``rows.jsonl``.

    Raises:
        UserError: a file is no file, or too large.
        OSError: a file can't be read.
    """
    for one in rows_files(path):
        shared: dict[str, dict[str, Any]] = {}
        for fields in read_json_lines(one, _MOST_BYTES):
            if "id" in fields:
                shared[str(fields["id"])] = fields
                continue
            names = fields.get("of")
            taken = names[:MOST_TAKEN] if isinstance(names, list) else []
            parts = [shared.get(str(name), {}) for name in taken]
            yield functools.reduce(operator.or_, [*parts, fields])


def _distinct(path: Path, rows: Iterable[Row]) -> list[Row]:
    seen: dict[tuple[object, ...], Row] = {}
    for row in rows:
        first = seen.setdefault(key(row), row)
        if (first.value, first.error) != (row.value, row.error):
            level = "" if row.level is None else f" at level {row.level:g}"
            raise UserError(
                f"{_places(path, (first, row))}: two results for arm {row.arm!r}, "
                f"seed {row.seed}, step {row.step}, {row.metric}{level} "
                f"(sampling seed {row.sampling_seed}, config {row.config_hash}): "
                f"{first.value!r} (error {first.error!r}) and {row.value!r} "
                f"(error {row.error!r}). Find out which is right and delete the other line."
            )
    return list(seen.values())


def _places(path: Path, wanted: Sequence[Row]) -> str:
    """Where rows stand, such as "rows.jsonl, line 7, and rows.jsonl, line 9"; asked for rarely."""
    found: dict[int, str] = {}
    for one in rows_files(path):
        reading = _Reading(one)
        with open_xz(one) if one.suffix == COMPRESSED else open_file(one) as handle:
            for row in reading.rows(handle):
                for number, other in enumerate(wanted):
                    if row == other:
                        found.setdefault(number, f"{one}, line {reading.lines + 1}")
    return ", and ".join(found[number] for number in sorted(found))
