"""Unions of dataclasses that a field tells apart, such as the kinds of density in a config."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import PydanticCustomError, PydanticKnownError, core_schema


@dataclass(frozen=True, eq=False)
class TaggedUnion:
    """Annotates a field: a mapping is read as the member that its tag names.

    pydantic's own unions are closed when they are made; a member may be added to these later. Their
    errors are those of pydantic's, but a place in a document never has a tag in its path.

    Attributes:
        key: the field that is the tag.
        members: tag → frozen pydantic dataclass.
        usual: the tag of a mapping without one; None: it must have one.
    """

    key: str
    members: Mapping[str, type[Any]]
    usual: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """How pydantic reads what is annotated with this."""
        return core_schema.no_info_plain_validator_function(self._read)

    def member(self, content: object) -> type[Any] | None:
        """The class that a mapping is read as; None if it names none."""
        tag = content.get(self.key, self.usual) if isinstance(content, Mapping) else None
        return self.members.get(tag) if isinstance(tag, str) else None

    def _read(self, content: object) -> Any:
        if isinstance(content, tuple(self.members.values())):
            return content
        if not isinstance(content, Mapping):
            raise PydanticCustomError("mapping_type", "give a mapping of keys to values")
        member = self.member(content)
        if member is not None:
            # As JSON, whose lists are tuples to a strict reader.
            return TypeAdapter(member).validate_json(json.dumps(content))
        found = {"discriminator": repr(self.key)}
        if self.key not in content:
            raise PydanticKnownError("union_tag_not_found", found)
        found |= {"tag": str(content[self.key]), "expected_tags": ", ".join(self.members)}
        raise PydanticKnownError("union_tag_invalid", found)
