"""Rows of results and the file that keeps them: append-only JSON lines, each with a checksum.

Rows are exchanged between people: a line is bounded, its texts can be shown as they are, and line
ends of another system, a byte-order mark and blank lines do no harm.
"""

import dataclasses
import fcntl
import json
import logging
import mmap
import operator
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from mindiffusion.errors import UserError
from mindiffusion.outside.documents import MOST_NAME, first_fault
from mindiffusion.outside.paths import MOST_PATH, open_file, open_to_change
from mindiffusion.printable import is_printable

LOGGER = logging.getLogger(__name__)
ROWS_FILE = "rows.jsonl"
MOST_LINE_BYTES = 64 * 1024
_Text = Annotated[str, Field(max_length=MOST_NAME)]
_Place = Annotated[str, Field(max_length=MOST_PATH)]
_Count = Annotated[int, Field(ge=0, le=2**53)]
# A name that ends otherwise could be that of a file that is run or read as something else.
_Picture = Annotated[str, Field(max_length=1024, pattern=r"^[^/].*\.png$")]


@dataclass(frozen=True)
class Row:
    """One measured number with everything needed to know what it is.

    ``step`` counts optimizer steps done: a milestone's row has the steps trained so far, a
    stage's row (``t_min``, ``t_max``, ``active_channels``, ``penalty_lambda``) those done when
    the stage begins. ``level`` is the noise level t / n_T in (0, 1] of a profile row, else None.
    ``error`` is the metric's own standard error where it has one. ``full_range`` is False while
    the arm has not been trained on all noise levels: such values stay out of every summary.
    ``samples`` is a PNG strip (k images side by side), relative to the study's folder.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    study: _Text
    arm: _Text
    seed: _Count
    step: _Count
    total_steps: _Count
    metric: _Text
    value: float
    level: float | None
    error: float | None
    direction: Literal["lower", "higher", "none"]
    metric_version: _Count
    n_generated: _Count
    n_reference: _Count
    weights: _Text
    sampler: _Text
    sampler_steps: _Count
    sampling_seed: _Count
    full_range: bool
    stage: _Text
    samples: _Picture | None
    dataset: _Place
    manifest: _Text
    config_hash: _Text
    git: _Text
    versions: dict[str, str]
    device: _Text
    host: _Text
    threads: _Count
    train_seconds: float
    time: _Text
    declared: _Text = "exploratory"


FIELDS = tuple(field.name for field in dataclasses.fields(Row))
# Milestones are written whole and in order, so what stands before a bad line can be relied on.
_DAMAGED = (
    "Bring the whole file again; if there is none, keep a copy, delete the file from this line on "
    "and run the same command again: it measures that anew."
)
_OTHER_VERSION = "The line is whole: another version wrote it; use that one. Nothing is lost."
# What a repeated measurement may change: its outcome, its clock and where it ran.
_OUTCOME = {"value", "error", "samples"}
_CLOCK_AND_HOST = {"train_seconds", "time", "device", "host", "threads", "git", "versions"}
# Nor is it another measurement when the plan it was declared in has been written anew since.
IDENTITY = tuple(name for name in FIELDS if name not in _OUTCOME | _CLOCK_AND_HOST | {"declared"})
_ADAPTER: TypeAdapter[Row] = TypeAdapter(Row)
# A line ends with the CRC-32 of what it would be without; lines of older files have none.
_CRC = re.compile(rb', "crc": "([0-9a-f]{8})"\}')
_CRC_BYTES = len(b', "crc": "01234567"}')
# Printable ASCII without an escape: most lines are of nothing else, and can be shown as they are.
_PLAIN = bytes(range(0x20, 0x7F)).replace(b"\\", b"")
_BOM = b"\xef\xbb\xbf"


_identity_of = operator.attrgetter(*IDENTITY)


def key(row: Row) -> tuple[object, ...]:
    """What the row measures: every field but outcome, clock, host and declaration."""
    return _identity_of(row)


def encode(row: Row) -> bytes:
    """A row as its line of the file, with a checksum."""
    line = json.dumps(dataclasses.asdict(row), ensure_ascii=False).encode("utf-8")
    try:
        # As it will be read: what is written can always be read again.
        _parse(line)
    except ValueError as error:
        raise UserError(f"Row {row.arm}/{row.metric}: {_fault(error)}.") from None
    return b'%s, "crc": "%08x"}\n' % (line[:-1], zlib.crc32(line))


def _parse(line: bytes) -> Row:
    """A line without its checksum as a row.

    Raises:
        ValueError: it is none; of pydantic, or of our own.
    """
    if len(line) > MOST_LINE_BYTES:
        raise ValueError(f"the line has more than {MOST_LINE_BYTES} bytes")
    row = _ADAPTER.validate_json(line)
    if line.translate(None, _PLAIN):
        for name in FIELDS:
            value = getattr(row, name)
            texts = [*value, *value.values()] if isinstance(value, dict) else [value]
            if not all(is_printable(text) for text in texts if isinstance(text, str)):
                raise ValueError(f"{name} has characters that can't be shown")
    return row


def _fault(error: ValueError) -> str:
    return first_fault(error) if isinstance(error, ValidationError) else str(error)


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
    data = b"".join(encode(row) for row in rows)
    if not data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_to_change(path, os.O_RDWR | os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _mend_tail(descriptor, path)
        _write_whole(descriptor, data)
    finally:
        os.close(descriptor)


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


class Follower:
    """Reads a file of rows that others go on adding to: every line is decoded once.

    What is read first is distinct and free of contradictions; what is added later is not compared.

    Args:
        path: the file; there may be none yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start_over()

    def _start_over(self) -> None:
        self._offset = self._lines = 0
        # What stands before the offset; it carries a checksum, so another file has another one.
        self._last = b""

    def news(self) -> tuple[list[Row], bool]:
        """Rows added since the last call, and whether these are all: the first call, or a new file.

        A cut last line is passed over with a warning; it is read when it is whole.

        Raises:
            UserError: another line is no row, or two lines of a first reading give one key two
                values.
        """
        try:
            handle = open_file(self.path)
        except FileNotFoundError:
            self._start_over()
            return [], True
        with handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            handle.seek(self._offset - len(self._last))
            if handle.read(len(self._last)) != self._last:
                self._start_over()
                handle.seek(0)
            is_anew = self._offset == 0
            rows = list(self._rest(handle))
        return (_distinct(self.path, rows) if is_anew else rows), is_anew

    def _rest(self, handle: BinaryIO) -> Iterator[Row]:
        """The rows from where the handle stands, a bounded line at a time."""
        while line := handle.readline(2 * MOST_LINE_BYTES):
            number = self._lines + 1
            content = line.removeprefix(_BOM) if self._offset == 0 else line
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
                yield _decode(self.path, number, content)
            if is_ended:
                self._offset += len(line)
                self._lines = number
                self._last = line


def read_rows(path: Path) -> list[Row]:
    """The distinct rows of a file in file order; none if there is no file yet.

    A cut last line is skipped with a warning.

    Raises:
        UserError: another line is no row, or two lines give one key two values.
    """
    rows, _ = Follower(path).news()
    return rows


def _decode(path: Path, number: int, line: bytes) -> Row:
    crc = _CRC.fullmatch(line[-_CRC_BYTES:])
    content = line if crc is None else line[:-_CRC_BYTES] + b"}"
    is_intact = crc is not None and int(crc[1], 16) == zlib.crc32(content)
    try:
        row = _parse(content)
    except ValueError as error:
        advice = _OTHER_VERSION if is_intact else _DAMAGED
        raise UserError(f"{path}, line {number}: {_fault(error)}. {advice}") from None
    if crc is not None and not is_intact:
        raise UserError(f"{path}, line {number}: altered, its checksum does not fit. {_DAMAGED}")
    return row


def _distinct(path: Path, rows: Iterable[Row]) -> list[Row]:
    seen: dict[tuple[object, ...], tuple[int, Row]] = {}
    for number, row in enumerate(rows, 1):
        first_number, first = seen.setdefault(key(row), (number, row))
        if (first.value, first.error) != (row.value, row.error):
            level = "" if row.level is None else f" at level {row.level:g}"
            raise UserError(
                f"{path}, lines {first_number} and {number}: two results for arm {row.arm!r}, "
                f"seed {row.seed}, step {row.step}, {row.metric}{level} "
                f"(sampling seed {row.sampling_seed}, config {row.config_hash}): "
                f"{first.value!r} (error {first.error!r}) and {row.value!r} "
                f"(error {row.error!r}). Find out which is right and delete the other line."
            )
    return [row for _, row in seen.values()]
