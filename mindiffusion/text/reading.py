"""What an encoder makes of a text, as far as people want to know it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mindiffusion.config.text import TextConfig
from mindiffusion.printable import printable
from mindiffusion.text.table import TextTable

_SHOWN = 60
_MOST_SHOWN = 8


@dataclass(frozen=True)
class Reading:
    """How a text is read.

    Attributes:
        seen: the text as far as its tokens fit.
        unknown: words that the encoder has no token for, each once.
    """

    seen: str
    unknown: tuple[str, ...] = ()


class TextEncoder(Protocol):
    """Texts → what a network with text reads."""

    def __hash__(self) -> int:
        """It is a key of what is computed of it."""

    @property
    def config(self) -> TextConfig:
        """The settings that it is of."""

    @property
    def sha256(self) -> str | None:
        """Of its files; None where it has none, for it is trained with the network."""

    @property
    def words(self) -> tuple[str, ...]:
        """Of its vocabulary, in the order of their rows; empty where its files have them."""

    def reading(self, text: str) -> Reading:
        """How a text is read."""

    def table(self, texts: Sequence[str]) -> TextTable:
        """Texts as a network reads them, in memory."""


def notes_on(text: str, encoder: TextEncoder) -> list[str]:
    """What a person is to know of a text that is not read as it is written, a line each."""
    reading, shown = encoder.reading(text), printable(text, _SHOWN)
    notes = []
    if reading.seen != text:
        last = printable(reading.seen[-_SHOWN:], _SHOWN)
        notes.append(
            f"{shown!r} is longer than {encoder.config.max_tokens} tokens (model.text.max_tokens): "
            f"it is cut behind {last!r}."
        )
    if reading.unknown:
        words = ", ".join(printable(word, 20) for word in reading.unknown[:_MOST_SHOWN])
        more = len(reading.unknown) - _MOST_SHOWN
        notes.append(
            f"{shown!r}: the network's vocabulary has no {words}"
            f"{f' and {more} more' if more > 0 else ''}; it reads one token for all such words."
        )
    return notes


def notes_on_all(texts: Sequence[str], encoder: TextEncoder) -> list[str]:
    """How many texts are cut, with the first of them; nothing where none is."""
    cut = [text for text in texts if encoder.reading(text).seen != text]
    if not cut:
        return []
    return [
        f"{len(cut)} of {len(texts)} captions are cut; the first: {notes_on(cut[0], encoder)[0]}"
    ]
