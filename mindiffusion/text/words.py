"""The encoder "words": a vocabulary of the training captions' words; its layers are the network's.

What a word is does not depend on the language: a run of letters and digits, or one other character.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from mindiffusion.config.text import SPECIAL_WORDS, TextConfig
from mindiffusion.text.reading import Reading
from mindiffusion.text.table import TextTable

PADDING, BEGIN, UNKNOWN, NULL = range(SPECIAL_WORDS)
"""Tokens that are no words: behind a caption, before it, a word without a row, not told."""
MOST_WORD = 64
"""Characters of a word; a longer one is no word of a vocabulary."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_")


def words_of(text: str) -> list[tuple[str, int]]:
    """The words of a text, in lower case, each with the place in the text where it ends."""
    return [
        (unicodedata.normalize("NFKC", found[0]).casefold(), found.end())
        for found in _WORD.finditer(text)
    ]


@dataclass(frozen=True)
class Vocabulary:
    """Words that have a row of the table, in the order of their rows.

    Attributes:
        words: word k has row ``SPECIAL_WORDS`` + k.
    """

    words: tuple[str, ...]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words, SPECIAL_WORDS)}

    def row(self, word: str) -> int:
        """The row of a word; ``UNKNOWN`` for one that has none."""
        return self._rows.get(word, UNKNOWN)

    @classmethod
    def of(cls, texts: Iterable[str], rows: int) -> "Vocabulary":
        """The most frequent words of texts; of equally frequent ones the first by alphabet.

        Args:
            texts: training captions, each once.
            rows: of the table, those that are no words among them.
        """
        counts = Counter(word for text in texts for word, _ in words_of(text))
        ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        known = [word for word, _ in ranked if len(word) <= MOST_WORD]
        return cls(tuple(known[: rows - SPECIAL_WORDS]))


@dataclass(frozen=True)
class WordEncoder:
    """Texts → rows of the table of words.

    Attributes:
        vocabulary: of the training captions.
        config: how many words are read, and what stands for a caption that is not told.
        sha256: None; it has no files of its own.
    """

    vocabulary: Vocabulary
    config: TextConfig
    sha256: None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Of the vocabulary."""
        return self.vocabulary.words

    def reading(self, text: str) -> Reading:
        """What is read of a text: all but what is cut, and words that have a row."""
        words = words_of(text)
        read = words[: self._room]
        end = len(text) if len(read) == len(words) else read[-1][1]
        unknown = [word for word, _ in read if self.vocabulary.row(word) == UNKNOWN]
        return Reading(text[:end], tuple(dict.fromkeys(unknown)))

    def table(self, texts: Sequence[str]) -> TextTable:
        """Tokens of texts: (N + 1, L) int32."""
        rows = np.full((len(texts) + 1, self.config.max_tokens), PADDING, np.int32)
        lengths = np.ones(len(texts) + 1, np.int64)
        rows[1:, 0] = BEGIN
        rows[0, 0] = NULL if self.config.null == "learned" else BEGIN
        for number, text in enumerate(texts, 1):
            tokens = [self.vocabulary.row(word) for word, _ in words_of(text)[: self._room]]
            rows[number, 1 : 1 + len(tokens)] = tokens
            lengths[number] += len(tokens)
        return TextTable(torch.from_numpy(rows), torch.from_numpy(lengths))

    @property
    def _room(self) -> int:
        """Words that fit behind the token that begins every caption."""
        return self.config.max_tokens - 1
