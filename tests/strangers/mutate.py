"""Changes to bytes and documents that somebody careless or hostile might make."""

import copy
import json
import random
from typing import Any

ODD_TEXTS = (
    "", "..", "../../x", "/etc/passwd", "~root", "a/../../b", "\x00", "a\x1b[2Jb", "a\nb",
    "\u202egnp", "=cmd|' /C calc'!A0", "$\\alpha_{$", "{{7*7}}", "<script>", "%s%n", "a" * 300,
    "\ud800", "é中😀", "NaN",
)  # fmt: skip
ODD_NUMBERS = (
    0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, 10**400, 0.0, -0.0, 5e-324, 1e308,
    -1e308, float("nan"), float("inf"), float("-inf"), 0.1, True,
)  # fmt: skip
ODD_BYTES = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b"{",
    b"[" * 2000,
    b"\\u0000",
    b"\xef\xbb\xbf",
    b"A" * 70_000,
)


def odd_value(rng: random.Random) -> Any:
    """A value that a document hardly has at that place."""
    choice = rng.randrange(7)
    if choice == 0:
        return rng.choice(ODD_TEXTS)
    if choice == 1:
        return rng.choice(ODD_NUMBERS)
    if choice == 2:
        return rng.choice((None, True, [], {}, [[]], [{}]))
    if choice == 3:
        return {rng.choice(ODD_TEXTS): rng.choice(ODD_NUMBERS)}
    if choice == 4:
        return [rng.choice(ODD_NUMBERS) for _ in range(rng.choice((1, 3, 2000)))]
    if choice == 5:
        return rng.randrange(-5, 300)
    deep: Any = 1
    for _ in range(rng.choice((3, 40, 120))):
        deep = [deep]
    return deep


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    found, waiting = [], [document]
    while waiting:
        inner = waiting.pop()
        keys = inner.keys() if isinstance(inner, dict) else range(len(inner))
        for key in keys:
            found.append((inner, key))
            if isinstance(inner[key], dict | list):
                waiting.append(inner[key])
    return found


def document(rng: random.Random, original: Any, changes: int = 2) -> Any:
    """A copy with up to so many things changed, left out, added or moved."""
    whole = copy.deepcopy({"": original})
    for _ in range(rng.randint(0, changes)):
        container, key = rng.choice(_places(whole))
        choice = rng.randrange(5)
        if choice <= 1:
            container[key] = odd_value(rng)
        elif choice == 2 and isinstance(container, dict) and container is not whole:
            del container[key]
        elif choice == 3 and isinstance(container[key], dict):
            container[key][rng.choice(ODD_TEXTS)] = odd_value(rng)
        else:
            container[key] = copy.deepcopy(rng.choice([c[k] for c, k in _places(whole)]))
    return whole[""]


def as_json(rng: random.Random, content: Any) -> bytes:
    """A document's bytes, now and then damaged themselves."""
    text = json.dumps(content, ensure_ascii=rng.random() < 0.5)
    plain = text.encode("utf-8", "surrogatepass")
    return content_bytes(rng, plain) if rng.random() < 0.15 else plain


def content_bytes(rng: random.Random, original: bytes, changes: int = 4) -> bytes:
    """A copy with up to so many pieces flipped, cut, doubled, put in or written over."""
    content = bytearray(original)
    for _ in range(max(0, rng.randint(-changes, changes))):
        at = rng.randrange(len(content) + 1)
        length = rng.choice((1, 2, 4, 8, 64, 1000))
        choice = rng.randrange(6)
        if choice == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif choice == 1:
            del content[at : at + length]
        elif choice == 2:
            content[at:at] = content[at : at + length]
        elif choice == 3:
            content[at:at] = rng.choice(ODD_BYTES)
        elif choice == 4:
            content[at : at + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")
            )
        else:
            del content[at:]
    return bytes(content)
