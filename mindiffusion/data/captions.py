"""Captions of a data set: a table of distinct texts, and which of them each image has.

A caption is known by its number in the table. So what a network is told of a batch is one number an
image, as with classes, and what turns numbers into tokens or states has work for each text once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageCaptions:
    """The captions of the images of a split.

    Attributes:
        starts: (N + 1,) int64, rising from 0: image i has ``numbers[starts[i]:starts[i + 1]]``.
        numbers: (T,) int64, captions by their number in the table; every image has one or more.
    """

    starts: NDArray[np.int64]
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.starts) - 1

    def of(self, image: int) -> NDArray[np.int64]:
        """The captions of one image."""
        return self.numbers[self.starts[image] : self.starts[image + 1]]

    @property
    def first(self) -> NDArray[np.int64]:
        """The first caption of each image, (N,): for what must not be drawn."""
        return self.numbers[self.starts[:-1]]


@dataclass(frozen=True, eq=False)
class Captions:
    """The captions of a prepared data set.

    Attributes:
        source: where they are from, one of ``names.CAPTION_SOURCES``.
        texts: the table: distinct texts, caption k is ``texts[k]``. Those of training images come
            first, in the order in which images have them.
        num_learned: how many of the texts training images have.
        train: of the training images; numbers below ``num_learned``.
        held_out: of the held-out images; worded as those of training images are.
        prompts: (M,) int64, for each held-out image the caption to draw by when samples are scored.
            Where a source has phrasings that training never sees, it is in one of them.
    """

    source: str
    texts: tuple[str, ...]
    num_learned: int
    train: ImageCaptions
    held_out: ImageCaptions
    prompts: NDArray[np.int64]

    @property
    def learned(self) -> tuple[str, ...]:
        """The texts that training images have: what a vocabulary may be made of."""
        return self.texts[: self.num_learned]

    @property
    def counts(self) -> dict[str, int]:
        """Distinct texts, and captions of the images of each split, for the manifest."""
        train, held_out = len(self.train.numbers), len(self.held_out.numbers)
        return {"texts": len(self.texts), "train": train, "held_out": held_out}
