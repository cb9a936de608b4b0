"""YAML 1.2 by PyYAML's parser: its core schema, bounded while it is read, no key twice.

PyYAML itself reads YAML 1.1, where ``on`` is a truth value, ``1e-4`` a text and ``010`` eight; the
last of two equal keys wins; merged aliases may double with every line. Source: YAML 1.2.2, §10.3.
"""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_WORDS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
"""How plain words of each type read, and their first letters; all others are text."""


class TooDeep(Exception):
    """Nested deeper than is allowed, or in itself."""


class TooMany(Exception):
    """More values than are allowed, aliases and merged keys written out."""


# The parser in C where PyYAML was built with it.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in ("null", "bool", "float", "str", "seq", "map")
    }


def _whole_number(loader: Any, node: ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


for _name, (_pattern, _first) in _WORDS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor(f"{_TAG}int", _whole_number)


def load_yaml(text: str, most_depth: int, most_values: int) -> Any:
    """A document as Python's own types; aliases are the same object.

    Args:
        text: one document.
        most_depth: levels of nesting.
        most_values: values and keys, each alias counted once, but in merges as what it stands for.

    Raises:
        TooDeep: more levels.
        TooMany: more values.
        yaml.YAMLError: not YAML, a key twice, or a tag that is not of the core schema.
        ValueError: a number of more digits than Python reads.
    """
    _bound(text, most_depth, most_values)
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        sizes: dict[int, int] = {}
        for node in _nodes(root):
            if isinstance(node, MappingNode):
                _refuse_twice(node)
                _merged_size(node, sizes, most_values)
        return loader.construct_document(root)
    except RecursionError:
        raise TooDeep from None
    finally:
        loader.dispose()


def _bound(text: str, most_depth: int, most_values: int) -> None:
    """Read a document's events, which takes no memory, up to the first beyond the bounds."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        values += isinstance(event, yaml.NodeEvent)
        if depth > most_depth:
            raise TooDeep
        if values > 2 * most_values:
            raise TooMany


def _nodes(root: Node) -> Iterator[Node]:
    """Every node once, whatever aliases say."""
    seen, waiting = {id(root)}, [root]
    while waiting:
        node = waiting.pop()
        yield node
        inner: list[Node] = []
        if isinstance(node, SequenceNode):
            inner = node.value
        elif isinstance(node, MappingNode):
            inner = [one for pair in node.value for one in pair]
        fresh = [one for one in inner if id(one) not in seen]
        seen.update(map(id, fresh))
        waiting += fresh


def _refuse_twice(node: MappingNode) -> None:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, ScalarNode):
            if (key.tag, key.value) in seen:
                raise ConstructorError(
                    None, None, f"the key {key.value[:80]!r} stands there twice", key.start_mark
                )
            seen.add((key.tag, key.value))


def _merged_size(node: MappingNode, sizes: dict[int, int], most: int) -> int:
    """Keys of a mapping with all that is merged into it.

    Raises:
        TooDeep: it is merged into itself.
        TooMany: more than ``most``.
    """
    if id(node) in sizes:
        if sizes[id(node)] < 0:
            raise TooDeep
        return sizes[id(node)]
    sizes[id(node)] = -1
    size = len(node.value)
    for key, value in node.value:
        if key.tag == _MERGE:
            merged = value.value if isinstance(value, SequenceNode) else [value]
            for one in merged:
                if isinstance(one, MappingNode):
                    size += _merged_size(one, sizes, most)
                if size > most:
                    raise TooMany
    sizes[id(node)] = size
    return size
