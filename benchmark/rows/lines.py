"""How rows stand in a file: lines of JSON, each with a checksum. The format's number is 2.

There are three kinds of lines:

- a *shared line* has ``format`` and ``id``, and fields that many rows have in common: those of a
  whole run, or of a measurement that depends on the data alone. It stands once in a file, before
  the lines that refer to it. Its id is a hash of its fields.
- a line of rows has ``of``, the ids of the shared lines that it takes fields from, and its own
  fields. No field stands in two of these lines. Where ``level``, ``value`` and ``error`` are lists,
  it is a curve: a row for each level.
- a line of format 1 has all fields of one row. It is read, and no longer written.

Rows are exchanged between people: a line is bounded, and its texts can be shown as they are.
"""

import itertools
import json
import operator
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from benchmark.rows.metric_names import is_of_data_alone
from benchmark.rows.row import FIELDS, Row, fields_of
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.compressed import how_to_change
from mindiffusion.outside.documents import first_fault
from mindiffusion.printable import is_printable

FORMAT = 2
MOST_LINE_BYTES = 64 * 1024
MOST_TAKEN = 2
"""Shared lines that a line takes fields from."""
_MOST_POINTS = 512
"""Of one line; longer curves go on in another one."""
_MOST_SHARED = 10_000
"""Shared lines of a file. A study of 104 cells has about 110."""
_POINT = ("level", "value", "error")
_RUN = (
    "study", "arm", "seed", "total_steps", "dataset", "manifest", "config_hash", "git", "versions",
    "device", "host", "threads", "declared",
)  # fmt: skip
_MEASUREMENT = (
    "metric", *_POINT, "direction", "metric_version", "n_generated", "n_reference", "weights",
    "sampler", "sampler_steps", "sampling_seed",
)  # fmt: skip
# Milestones are written whole and in order, so what stands before a bad line can be relied on.
_DAMAGED = (
    "Bring the whole file again; if there is none, keep a copy, delete the file from this line on "
    "and run the same command again: it measures that anew."
)
_OTHER_VERSION = "The line is whole: another version wrote it; use that one. Nothing is lost."
_ROW: TypeAdapter[Row] = TypeAdapter(Row)
# A line ends with the CRC-32 of what it would be without; lines of older files have none.
_CRC = re.compile(rb', "crc": "([0-9a-f]{8})"\}')
_CRC_BYTES = len(b', "crc": "01234567"}')
_SHARED = re.compile(rb'\{"format": (\d{1,9}), "id": "([0-9a-f]{12})"')
_BEGIN_OF_SHARED, _BEGIN_OF_ROWS = b'{"format":', b'{"of":'
# Printable ASCII without an escape: most lines are of nothing else, and can be shown as they are.
_PLAIN = bytes(range(0x20, 0x7F)).replace(b"\\", b"")
_Format = Annotated[int, Field(ge=FORMAT, le=FORMAT)]
_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
_Ids = Annotated[list[_Id], Field(max_length=MOST_TAKEN)]


def _line_schema(is_shared: bool, of_curve: bool) -> type[BaseModel]:
    """A line of format 2: any fields of a row; in that of a curve those of a point are lists."""
    hints = get_type_hints(Row, include_extras=True)
    fields: dict[str, Any] = {name: (hints[name], None) for name in FIELDS}
    if of_curve:
        lists = {name: GenericAlias(list, hints[name]) for name in _POINT}
        points = Field(max_length=_MOST_POINTS)
        fields |= {name: (Annotated[one, points], None) for name, one in lists.items()}
    if is_shared:
        fields |= {"format": (_Format, ...), "id": (_Id, ...)}
    else:
        fields |= {"of": (_Ids, ...)}
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    schema: type[BaseModel] = create_model("_Line", __config__=config, **fields)
    return schema


_SCHEMAS = {
    (is_shared, of_curve): _line_schema(is_shared, of_curve)
    for is_shared, of_curve in itertools.product((False, True), repeat=2)
}
_OF_CURVE = b'"level": ['
_but_point = operator.attrgetter(*(name for name in FIELDS if name not in _POINT))


class _NothingToTake(ValueError):
    """A line refers to a shared line that is not there."""


def lines_of(rows: Sequence[Row]) -> list[tuple[str, bytes]]:
    """Rows as the lines of a file: each with its id, which is empty but for shared lines.

    A shared line stands once, before the first that refers to it.

    Raises:
        UserError: a row has a value its field does not allow.
    """
    lines: list[tuple[str, bytes]] = []
    seen: set[str] = set()
    for curve in _curves([_as_read(row) for row in rows]):
        fields, taken = _fields_of(curve), []
        for names in (_RUN, _MEASUREMENT) if is_of_data_alone(curve[0].metric) else (_RUN,):
            shared = {name: fields.pop(name) for name in names}
            name = _id_of(shared)
            taken.append(name)
            if name not in seen:
                seen.add(name)
                lines.append((name, _sealed({"format": FORMAT, "id": name, **shared})))
        lines.append(("", _sealed({"of": taken, **fields})))
    return lines


def _as_read(row: Row) -> Row:
    """A row as its reader has it, with 3.0 for 3: the ids of what is shared depend on it.

    Raises:
        UserError: it could not be read again.
    """
    try:
        return _row_of(json.dumps(fields_of(row), ensure_ascii=False).encode("utf-8"))
    except ValueError as error:
        raise UserError(f"Row {row.arm}/{row.metric}: {_fault(error)}.") from None


def _curves(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows that follow each other and differ in nothing but their points are a curve."""
    for (is_point, _), group in itertools.groupby(
        rows, key=lambda row: (row.level is None, _but_point(row))
    ):
        same = list(group)
        size = 1 if is_point else _MOST_POINTS
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _fields_of(curve: Sequence[Row]) -> dict[str, Any]:
    fields = fields_of(curve[0])
    if len(curve) > 1:
        fields |= {name: [getattr(row, name) for row in curve] for name in _POINT}
    return fields


def _id_of(fields: Mapping[str, Any]) -> str:
    return sha256_of_json(fields)[:12]


def _sealed(content: Mapping[str, Any]) -> bytes:
    line = json.dumps(content, ensure_ascii=False).encode("utf-8")
    return b'%s, "crc": "%08x"}\n' % (line[:-1], zlib.crc32(line))


def ids_in(content: Any) -> set[str]:
    """Ids of the shared lines of a file, of its bytes or of a map of them."""
    # The quotes of a text inside a line are escaped, so this is found in no other place.
    return {one[2].decode() for one in _SHARED.finditer(content) if int(one[1]) == FORMAT}


class Decoder:
    """Turns the lines of one file into rows, from the first line on.

    Args:
        path: the file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shared: dict[str, dict[str, Any]] = {}

    def rows_of(self, number: int, line: bytes) -> list[Row]:
        """The rows of a line; none of a shared one.

        Args:
            number: the line's, from 1.
            line: without its end.

        Raises:
            UserError: the line is damaged, or of a newer format.
        """
        crc = _CRC.fullmatch(line[-_CRC_BYTES:])
        content = line if crc is None else line[:-_CRC_BYTES] + b"}"
        is_intact = crc is not None and int(crc[1], 16) == zlib.crc32(content)
        try:
            is_later = content.startswith((_BEGIN_OF_SHARED, _BEGIN_OF_ROWS))
            rows = self._rows_of(content) if is_later else [_row_of(content)]
        except ValueError as error:
            is_other = is_intact and not isinstance(error, _NothingToTake)
            advice = _OTHER_VERSION if is_other else _DAMAGED + how_to_change(self._path)
            raise UserError(f"{self._path}, line {number}: {_fault(error)}. {advice}") from None
        if crc is not None and not is_intact:
            raise UserError(
                f"{self._path}, line {number}: altered, its checksum does not fit. "
                f"{_DAMAGED}{how_to_change(self._path)}"
            )
        return rows

    def _rows_of(self, content: bytes) -> list[Row]:
        _refuse_long(content)
        begin = _SHARED.match(content)
        if begin and int(begin[1]) > FORMAT:
            raise ValueError(f"it is of format {int(begin[1])}, here {FORMAT} is the newest")
        is_shared = content.startswith(_BEGIN_OF_SHARED)
        schema = _SCHEMAS[is_shared, _OF_CURVE in content]
        fields = schema.model_validate_json(content).model_dump(exclude_unset=True)
        if content.translate(None, _PLAIN):
            _refuse_unshown(fields)
        if not is_shared:
            return _expanded(self._joined(fields))
        self._keep(fields)
        return []

    def _keep(self, fields: dict[str, Any]) -> None:
        """Take in a shared line."""
        del fields["format"]
        name = fields.pop("id")
        if _id_of(fields) != name:
            raise ValueError(f"its fields are not those of the id {name}")
        if fields.keys() not in (set(_RUN), set(_MEASUREMENT)):
            raise ValueError("its fields are neither those of a run nor those of a measurement")
        self._shared[name] = fields
        if len(self._shared) > _MOST_SHARED:
            raise ValueError(f"the file has more than {_MOST_SHARED:,} lines with an id")

    def _joined(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A line's own fields with those that it takes."""
        for name in fields.pop("of"):
            if name not in self._shared:
                raise _NothingToTake(f"the line with the id {name} is not before it")
            taken = self._shared[name]
            if not taken.keys().isdisjoint(fields):
                twice = next(one for one in taken if one in fields)
                raise ValueError(f"{twice} stands in two of the lines that it is made of")
            fields = taken | fields
        return fields


def _expanded(fields: dict[str, Any]) -> list[Row]:
    """The rows that a line's fields are of, one or one a level."""
    missing = [name for name in FIELDS if name not in fields]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    point = [fields[name] for name in _POINT]
    kinds = [isinstance(one, list) for one in point]
    if not any(kinds):
        return [Row(**fields)]
    if not all(kinds) or len({len(one) for one in point}) > 1:
        raise ValueError(f"{', '.join(_POINT)} are not lists of one length")
    rows = []
    for fields["level"], fields["value"], fields["error"] in zip(*point, strict=True):
        rows.append(Row(**fields))
    return rows


def _row_of(content: bytes) -> Row:
    """A line of format 1 without its checksum as a row.

    Raises:
        ValueError: it is none; of pydantic, or of our own.
    """
    _refuse_long(content)
    row = _ROW.validate_json(content)
    if content.translate(None, _PLAIN):
        _refuse_unshown(fields_of(row))
    return row


def _refuse_long(content: bytes) -> None:
    if len(content) > MOST_LINE_BYTES:
        raise ValueError(f"the line has more than {MOST_LINE_BYTES} bytes")


def _refuse_unshown(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        texts = [*value, *value.values()] if isinstance(value, dict) else [value]
        if not all(is_printable(text) for text in texts if isinstance(text, str)):
            raise ValueError(f"{name} has characters that can't be shown")


def _fault(error: ValueError) -> str:
    return first_fault(error) if isinstance(error, ValidationError) else str(error)
