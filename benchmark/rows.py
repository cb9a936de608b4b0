"""Rows of results and the file that keeps them: append-only JSON lines, each with a checksum."""

import dataclasses
import fcntl
import json
import logging
import mmap
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mindiffusion.errors import UserError

LOGGER = logging.getLogger(__name__)
ROWS_FILE = "rows.jsonl"


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

    study: str
    arm: str
    seed: int
    step: int
    total_steps: int
    metric: str
    value: float
    level: float | None
    error: float | None
    direction: Literal["lower", "higher", "none"]
    metric_version: int
    n_generated: int
    n_reference: int
    weights: str
    sampler: str
    sampler_steps: int
    sampling_seed: int
    full_range: bool
    stage: str
    samples: str | None
    dataset: str
    manifest: str
    config_hash: str
    git: str
    versions: dict[str, str]
    device: str
    host: str
    threads: int
    train_seconds: float
    time: str
    declared: str = "exploratory"


FIELDS = tuple(field.name for field in dataclasses.fields(Row))
# Milestones are written whole and in order, so what stands before a bad line can be relied on.
_CUT_HERE = "Delete the file from this line on and run the same command again: it measures anew."
# What a repeated measurement may change: its outcome, its clock and where it ran.
_OUTCOME = {"value", "error", "samples"}
_CLOCK_AND_HOST = {"train_seconds", "time", "device", "host", "threads", "git", "versions"}
# Nor is it another measurement when the plan it was declared in has been written anew since.
IDENTITY = tuple(name for name in FIELDS if name not in _OUTCOME | _CLOCK_AND_HOST | {"declared"})
_ADAPTER: TypeAdapter[Row] = TypeAdapter(Row)
# A line ends with the CRC-32 of what it would be without; lines of older files have none.
_CRC = re.compile(rb', "crc": "([0-9a-f]{8})"\}$')


def key(row: Row) -> tuple[object, ...]:
    """What the row measures: every field but outcome, clock, host and declaration."""
    return tuple(getattr(row, name) for name in IDENTITY)


def encode(row: Row) -> bytes:
    """A row as its line of the file, with a checksum."""
    line = json.dumps(dataclasses.asdict(row), ensure_ascii=False).encode("utf-8")
    try:
        # As it will be read: what is written can always be read again.
        _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise UserError(f"Row {row.arm}/{row.metric}: {_first_fault(error)}") from None
    return b'%s, "crc": "%08x"}\n' % (line[:-1], zlib.crc32(line))


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    field = str(fault["loc"][0]) if fault["loc"] else "the line"
    return f"{field}: {fault['msg']}; allowed are exactly the fields of benchmark.rows.Row."


def _is_whole(tail: bytes) -> bool:
    """Whether a last line without a newline is a whole object (a cut one never parses)."""
    try:
        return isinstance(json.loads(tail), dict)
    except ValueError:
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
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
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

        A cut last line is skipped with a warning; it is read when it is whole.

        Raises:
            UserError: another line is no row, or two lines of a first reading give one key two
                values.
        """
        if not self.path.exists():
            self._start_over()
            return [], True
        with self.path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            handle.seek(self._offset - len(self._last))
            if handle.read(len(self._last)) != self._last:
                self._start_over()
                handle.seek(0)
            is_anew = self._offset == 0
            *lines, tail = handle.read().split(b"\n")
        first = self._lines + 1
        rows = [_decode(self.path, number, line) for number, line in enumerate(lines, first)]
        if tail and _is_whole(tail):
            rows.append(_decode(self.path, first + len(lines), tail))
        elif tail:
            LOGGER.warning("%s: ignored a cut last line (line %d).", self.path, first + len(lines))
        if is_anew:
            rows = _distinct(self.path, rows)
        if lines:
            self._offset += sum(len(line) + 1 for line in lines)
            self._lines += len(lines)
            self._last = lines[-1] + b"\n"
        return rows, is_anew


def read_rows(path: Path) -> list[Row]:
    """The distinct rows of a file in file order; none if there is no file yet.

    A cut last line is skipped with a warning.

    Raises:
        UserError: another line is no row, or two lines give one key two values.
    """
    rows, _ = Follower(path).news()
    return rows


def _decode(path: Path, number: int, line: bytes) -> Row:
    crc = _CRC.search(line)
    content = line if crc is None else line[: crc.start()] + b"}"
    try:
        row = _ADAPTER.validate_json(content)
    except ValidationError as error:
        raise UserError(f"{path}, line {number}: {_first_fault(error)} {_CUT_HERE}") from None
    if crc is not None and int(crc[1], 16) != zlib.crc32(content):
        raise UserError(f"{path}, line {number}: altered, its checksum does not fit. {_CUT_HERE}")
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
