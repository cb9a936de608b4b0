"""The first mistake of a config as one line: where, what came, what is allowed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from pydantic import ValidationError

from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.outside.documents import first_fault, shown_value
from mindiffusion.tagged_union import TaggedUnion

_MOST_OF_KEY = 200
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")


def first_mistake(kind: type[Any], content: Mapping[str, Any], error: ValidationError) -> str:
    """The first mistake of a ValidationError; a misspelt key is also a missing one.

    Args:
        kind: the dataclass that ``content`` was to be.
        content: plain types.
        error: what pydantic found.
    """
    found = error.errors()
    first = next((e for e in found if e["type"] in _UNKNOWN_KEY), found[0])
    if first["type"] == "json_invalid":
        return f"{first_fault(error)}."
    path, about = ".".join(map(str, first["loc"])), first.get("ctx", {})
    # Keys may be a stranger's, of any length.
    key = shown_value(path, _MOST_OF_KEY)
    if first["type"] in _UNKNOWN_KEY:
        *above, last = first["loc"]
        return _unknown_key(key, str(last), *_place(kind, content, above))
    if first["type"] in ("missing", "missing_argument"):
        return f"key {key} is missing."
    if isinstance(about.get("error"), UserError):
        return f"key {key}: {about['error']}"
    if first["type"] == "union_tag_not_found":
        return f"key {_tag_of(path, about)} is missing."
    if first["type"] == "union_tag_invalid":
        tag = shown_value(about["tag"])
        return f"key {_tag_of(path, about)} is {tag}; allowed are {about['expected_tags']}."
    return f"key {key} is {shown_value(first['input'])}: {_said(first)}."


def _tag_of(path: str, about: Mapping[str, Any]) -> str:
    return shown_value(f"{path}.{about['discriminator'].strip(chr(39))}", _MOST_OF_KEY)


def _said(fault: Mapping[str, Any]) -> str:
    said = str(fault["msg"]).removeprefix("Value error, ")
    return said[:1].lower() + said[1:]  # names that are allowed keep their capitals


def _unknown_key(key: str, name: str, kind: Any, union: TaggedUnion | None) -> str:
    """Of a key that one member of a union lacks, the line says which others have it."""
    known = _names(kind)
    members = union.members if union else {}
    owners = [tag for tag, member in members.items() if name in _names(member)]
    if union and owners:
        own = next(tag for tag, member in members.items() if member is kind)
        return (
            f"unknown key {key} of {own}; it is a key of {', '.join(owners)}. Take it out, or "
            f"give another {union.key}."
        )
    return f"unknown key {key}.{did_you_mean(name, known)}"


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)] if kind else []


def _place(kind: Any, content: Any, path: Sequence[str | int]) -> tuple[Any, TaggedUnion | None]:
    """The dataclass at a path inside ``kind``, and the union that it is a member of, if any."""
    annotation = kind
    for part in path:
        if isinstance(part, str):
            owner, _ = _resolved(annotation, content)
            known = fields(owner) if owner else ()
            annotation = next((field.type for field in known if field.name == part), None)
        content = content[part]
    return _resolved(annotation, content)


def _resolved(annotation: Any, content: Any) -> tuple[Any, TaggedUnion | None]:
    parts = list(_parts(annotation))
    union = next((part for part in parts if isinstance(part, TaggedUnion)), None)
    if union:
        return union.member(content), union
    kinds = (part for part in parts if isinstance(part, type) and is_dataclass(part))
    return next(kinds, None), None


def _parts(annotation: Any) -> Iterator[Any]:
    """A type and, one inside the other, those that it is made of, with what annotates them."""
    yield annotation
    for inner in get_args(annotation):
        yield from _parts(inner)
