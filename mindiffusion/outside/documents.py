"""Text, JSON and YAML of a stranger: bounded in bytes, depth and size, then checked by a schema."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError
from yaml import YAMLError

from mindiffusion.errors import UserError
from mindiffusion.outside.compressed import open_xz
from mindiffusion.outside.paths import open_file, read_file
from mindiffusion.outside.yaml_core import TooDeep, TooMany, load_yaml
from mindiffusion.printable import is_printable, printable

MOST_TEXT_BYTES = 64_000_000
MOST_JSON_BYTES = 16_000_000
MOST_YAML_BYTES = 1_000_000
MOST_VALUES = 20_000
"""Values that a YAML document may stand for, each alias counted as what it stands for."""
MOST_LINE_BYTES = 128 * 1024
MOST_DEPTH = 32
MOST_NAME = 200

_HINTS = {
    "constructor for the tag": "; take the tag out",
    "cannot start any token": "; indent with spaces, not with a tab",
    "mapping values are not allowed": "; is a colon missing, here or in the line before?",
}
"""What to do about some faults, by what YAML's parser says of them."""

Document = TypeVar("Document")


def _shown_as_it_is(text: str) -> str:
    if len(text) > MOST_NAME or not is_printable(text):
        raise ValueError(f"give at most {MOST_NAME} characters, all of which can be shown")
    return text


Name = Annotated[str, AfterValidator(_shown_as_it_is)]
"""A text of a document that is shown: in tables, figures, messages."""


def read_text(path: Path, most: int = MOST_TEXT_BYTES, *, follow: bool = True) -> str:
    """A text file as UTF-8, with or without a byte-order mark.

    Raises:
        UserError: no file, too large, or not UTF-8.
        OSError: there is none, or it can't be read.
    """
    content = read_file(path, most, follow=follow)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file "
            "as UTF-8."
        ) from None


def read_json(
    path: Path, schema: type[Document] | TypeAdapter[Document], advice: str, *, follow: bool = False
) -> Document:
    """A JSON document as what its schema says.

    Args:
        path: the file.
        schema: a pydantic type.
        advice: ends the message: what to do about a wrong document.
        follow: whether ``path`` may be a link, because a person named it.

    Raises:
        UserError: no file, too large, no JSON, or not as the schema says; the message names the
            file, the field, what came and what is allowed.
        OSError: there is none, or it can't be read.
    """
    content = read_file(path, MOST_JSON_BYTES, follow=follow)
    return parse_json(content, schema, str(path), advice)


def read_json_lines(path: Path, most: int = MOST_TEXT_BYTES) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, one by one; a line that is none is passed over.

    For logs, whose last line a killed process may have left cut. Values are not checked.

    Raises:
        UserError: no file, or too large.
        OSError: there is none, or it can't be read.
    """
    for line in _bounded_lines(path, most):
        content = None
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(line)
        if isinstance(content, dict):
            yield content


def _bounded_lines(path: Path, most: int) -> Iterator[bytes]:
    """The lines of a file but for those that are longer than any of ours."""
    with open_xz(path) if path.suffix == ".xz" else open_file(path) as handle:
        if path.lstat().st_size > most:
            raise UserError(f"{path} has more than {most:,} bytes; cut it.")
        while line := handle.readline(MOST_LINE_BYTES):
            if len(line) < MOST_LINE_BYTES or line.endswith(b"\n"):
                yield line
                continue
            while line and not line.endswith(b"\n"):
                line = handle.readline(MOST_LINE_BYTES)


def parse_json(
    content: bytes, schema: type[Document] | TypeAdapter[Document], source: str, advice: str
) -> Document:
    """The bytes of a JSON document as what its schema says.

    Args:
        content: the document.
        schema: a pydantic type.
        source: where it is from, for messages.
        advice: ends the message.

    Raises:
        UserError: no JSON, or not as the schema says.
    """
    adapter = schema if isinstance(schema, TypeAdapter) else TypeAdapter(schema)
    try:
        # pydantic's own parser bounds depth and digits, and refuses what is not Unicode.
        return adapter.validate_json(content)
    except ValidationError as error:
        raise UserError(f"{source}: {first_fault(error)}; {advice}") from None


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong with a document: field, what came, what is allowed."""
    fault = error.errors(include_url=False)[0]
    if fault["type"] == "json_invalid":
        return f"is no whole JSON document ({printable(fault['ctx']['error'], 120)})"
    field = printable(".".join(map(str, fault["loc"])), 120) or "the document"
    said = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in ("missing", "missing_argument"):
        return f"{field} is missing"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{field} is not known here"
    return f"{field} is {shown_value(fault['input'])}: {said[:1].lower()}{said[1:]}"


def shown_value(value: object, most: int = 80) -> str:
    """A value of a document as a message names it: bounded, and fit for a terminal."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} keys"
    # Shown in full, a list of aliases of lists would have no end.
    if isinstance(value, list | tuple) and (
        len(value) > 8 or any(isinstance(member, list | tuple | Mapping) for member in value)
    ):
        return f"a list of {len(value)}"
    try:
        return printable(repr(value), most)
    except (ValueError, RecursionError):  # an integer of more digits than Python shows
        return f"a {type(value).__name__}"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML 1.2 mapping (so that 2e-5 is a number and ``no`` is a word).

    Raises:
        UserError: not there, not YAML, no mapping, or with other than plain values.
    """
    try:
        text = read_text(path, MOST_YAML_BYTES)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a mapping of keys to values.")
    return content


def parse_yaml(text: str, source: str) -> Any:
    """A YAML document as plain types: mappings with text as keys, lists, text, numbers, null.

    Args:
        text: the document.
        source: where it is from, for messages.

    Raises:
        UserError: not YAML, a key twice, too deep, too large once its aliases are written out, or
            with a tag of its own.
    """
    try:
        content = load_yaml(text, MOST_DEPTH, MOST_VALUES)
    except TooDeep:
        raise UserError(f"{source} is nested too deep; at most {MOST_DEPTH} levels.") from None
    except TooMany:
        raise UserError(
            f"{source} stands for more than {MOST_VALUES:,} values; write fewer."
        ) from None
    except (YAMLError, ValueError) as error:
        raise UserError(f"{source} is not valid YAML: {_fault_of_yaml(error)}") from None
    check_plain(content, source)
    return content


def _fault_of_yaml(error: Exception) -> str:
    """Where a document is wrong, and how."""
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or str(error)
    line = "" if mark is None else f"line {mark.line + 1}: "
    advice = "".join(hint for words, hint in _HINTS.items() if words in said)
    return line + printable(" ".join(str(said).split()), 200) + advice


def check_plain(content: Any, source: str) -> None:
    """Refuse what is not plain: mappings with text as keys, lists, text, numbers, null.

    Args:
        content: from a file.
        source: where it is from, for messages.

    Raises:
        UserError: other values, nested too deep, or too many.
    """
    _check_plain(content, source, "", 0, {})


def _check_plain(value: Any, source: str, key: str, depth: int, counts: dict[int, int]) -> int:
    """How many values there are, aliases written out; each object is looked at once.

    Raises:
        UserError: too many, too deep, or one that is not plain.
    """
    at = f" at {printable(key, 80)}" if key else ""
    if depth > MOST_DEPTH:
        raise UserError(f"{source} is nested too deep{at}; at most {MOST_DEPTH} levels.")
    if not isinstance(value, dict | list):
        _check_scalar(value, source, at)
        return 1
    if id(value) in counts:
        return counts[id(value)]
    total = 1
    for name, member in value.items() if isinstance(value, dict) else enumerate(value):
        inner = f"{key}.{name}" if key else str(name)
        if isinstance(value, dict):
            if not isinstance(name, str):
                raise UserError(
                    f"{source}: the key {shown_value(name)}{at} is no text; write it in quotes."
                )
            _check_scalar(name, source, at)
        total += _check_plain(member, source, inner, depth + 1, counts)
    if total > MOST_VALUES:
        raise UserError(f"{source} stands for more than {MOST_VALUES:,} values{at}; write fewer.")
    counts[id(value)] = total
    return total


def _check_scalar(value: Any, source: str, at: str) -> None:
    if value is None or isinstance(value, bool | float):
        return
    if isinstance(value, int):
        if abs(value) >= 2**63:
            raise UserError(f"{source}: the number{at} has too many digits; give one below 2^63.")
        return
    if not isinstance(value, str):
        kind = type(value).__name__
        raise UserError(
            f"{source}: {shown_value(value)}{at} is a {kind}, not text or a number; write it in "
            "quotes if text is meant."
        )
    if not is_printable(value.replace("\n", " ")):
        raise UserError(
            f"{source}: the text {shown_value(value)}{at} has characters that can't be shown; "
            "leave them out."
        )
