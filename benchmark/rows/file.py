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
import io
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
from mindiffusion.outside.compressed import how_to_change, open_xz, unpacked
from mindiffusion.outside.documents import read_json_lines
from mindiffusion.outside.paths import is_file, open_file, open_to_change

LOGGER = logging.getLogger(__name__)
ROWS_FILE = "rows.jsonl"
COMPRESSED = ".xz"
MOST_ROWS = 2_000_000
"""Of a study. A few bytes may stand for many rows, and a row takes 600 bytes of memory."""
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
        UserError: a row has a value its field does not allow, or what would be written would not be
            read as these rows (nothing is written then, and nothing deleted).
    """
    packed = lzma.compress(b"".join(line for _, line in lines_of(rows)))
    _refuse_other(compressed_file(path), packed, rows)
    with atomic_write(compressed_file(path)) as handle:
        handle.write(packed)
    if not is_file(path):
        return
    descriptor = _open_locked(path)
    try:
        if os.fstat(descriptor).st_size == replaced:
            path.unlink()
    finally:
        os.close(descriptor)


def _refuse_other(path: Path, packed: bytes, rows: Sequence[Row]) -> None:
    """Refuse what a reader would not take for ``rows``: other copies of them are deleted for it."""
    with unpacked(io.BytesIO(packed), path) as handle:
        pairs = itertools.zip_longest(rows, _Reading(path).rows(handle))
        is_same = all(row == other for row, other in pairs)
    if not is_same or len(rows) > MOST_ROWS:
        raise UserError(
            f"{path} would not hold these {len(rows):,} rows in a way that can be read (at most "
            f"{MOST_ROWS:,}); nothing was changed. Keep the files as they are."
        )


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
        self._left = MOST_ROWS

    def news(self) -> tuple[list[Row], bool]:
        """Rows added since the last call, and whether these are all: the first call, or a new file.

        A cut last line is passed over with a warning; it is read when it is whole. After an error
        the next call is a first one.

        Raises:
            UserError: another line is no row, two lines of a first reading give one key two values,
                or there are more bytes or rows than any study has.
        """
        try:
            return self._news()
        except BaseException:
            self._start_over()
            raise

    def _news(self) -> tuple[list[Row], bool]:
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
                found += self._bounded(self._appended.rows(handle))
            self._compressed = compressed
        return (_distinct(self.path, found) if is_anew else found), is_anew

    def _opened(self, stack: contextlib.ExitStack) -> BinaryIO | None:
        try:
            handle = stack.enter_context(open_file(self.path))
        except FileNotFoundError:
            return None
        fcntl.flock(handle, fcntl.LOCK_SH)
        if os.fstat(handle.fileno()).st_size > _MOST_BYTES:
            raise UserError(
                f"{self.path} has more than {_MOST_BYTES:,} bytes, the most that is read of such a "
                "file."
            )
        return handle

    def _whole(self) -> list[Row]:
        path = compressed_file(self.path)
        with open_xz(path) as handle:
            return self._bounded(_Reading(path).rows(handle))

    def _bounded(self, found: Iterator[Row]) -> list[Row]:
        rows = list(itertools.islice(found, self._left + 1))
        self._left -= len(rows)
        if self._left < 0:
            raise UserError(
                f"{self.path.parent} has more than {MOST_ROWS:,} rows, the most that are read of a "
                "study."
            )
        return rows


def _state(path: Path) -> tuple[int, ...] | None:
    """What is another one once a file has been replaced; None if there is none."""
    try:
        stat = path.lstat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


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

    Of a file that is damaged, what stands before the damage is read, and so is the other file.

    Args:
        path: the study's ``rows.jsonl``.
    """
    for one in rows_files(path):
        with contextlib.suppress(OSError, UserError):
            yield from _lines_loosely(one)


def _lines_loosely(path: Path) -> Iterator[dict[str, Any]]:
    shared: dict[str, dict[str, Any]] = {}
    for fields in read_json_lines(path, _MOST_BYTES):
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
            raise UserError(_conflict(path, first, row))
    return list(seen.values())


def _conflict(path: Path, first: Row, row: Row) -> str:
    """What is said of two rows that give one key two values; asked for rarely."""
    places = [place for place in (_place(path, one) for one in (first, row)) if place]
    level = "" if row.level is None else f" at level {row.level:g}"
    return (
        f"{', and '.join(text for _, text in places)}: two results for arm {row.arm!r}, "
        f"seed {row.seed}, step {row.step}, {row.metric}{level} "
        f"(sampling seed {row.sampling_seed}, config {row.config_hash}): "
        f"{first.value!r} (error {first.error!r}) and {row.value!r} (error {row.error!r}). Find "
        "out which is right and delete the other line."
        f"{''.join(sorted({how_to_change(one) for one, _ in places}))}"
    )


def _place(path: Path, wanted: Row) -> tuple[Path, str] | None:
    """The file that a row stands in, and where, such as "rows.jsonl, line 7"."""
    for one in rows_files(path):
        for number, rows in _rows_by_line(one):
            if wanted in rows:
                curve = f" (a curve of {len(rows)} rows)" if len(rows) > 1 else ""
                return one, f"{one}, line {number}{curve}"
    return None


def _rows_by_line(path: Path) -> Iterator[tuple[int, list[Row]]]:
    """The rows of each line that has some, with the line's number."""
    reading = _Reading(path)
    with open_xz(path) if path.suffix == COMPRESSED else open_file(path) as handle:
        for number, rows in itertools.groupby(reading.rows(handle), lambda _: reading.lines + 1):
            yield number, list(rows)
