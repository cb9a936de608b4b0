"""What every source of images gives: items that can be drawn in any process, in any order."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from mindiffusion.errors import UserError


class SourceAbsent(UserError):
    """There is no source: none is named, none is where it should be, or it holds no images.

    One that is there and does not make a data set is another error: it has changed.

    Args:
        reason: what is wrong.
        advice: the rest of the message.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason + advice)
        self.reason = reason


class Sample(NamedTuple):
    """One drawn image."""

    pixels: np.ndarray  # (H, W, 3) uint8
    codes: Sequence[int]  # one code per label, in the order of the plan's label names
    digest: int  # 64 bits; equal for two images that count as duplicates
    oddities: tuple[str, ...] = ()  # of pictures that are read: some of outside.pictures.ODDITIES


class Source(Protocol):
    """Draws items. Picklable and stateless: an image depends on its item alone."""

    def draw(self, item: Any) -> Sample:
        """One image of shape (H, W, 3).

        Raises:
            mindiffusion.outside.pictures.BadImage: the item can't be used.
        """
        ...

    def name_of(self, item: Any) -> str:
        """What to call an item in a message to the user."""
        ...


class Captioner(Protocol):
    """Says what images show in words."""

    @property
    def source(self) -> str:
        """Where captions are from: one of ``names.CAPTION_SOURCES``."""
        ...

    @property
    def identity(self) -> str:
        """What tells its captions from others of the same images; for the manifest."""
        ...

    def captions(self, item: Any, codes: Sequence[int]) -> Sequence[str]:
        """The captions of an item, one or more, by its codes as ``Sample`` has them."""
        ...

    def prompt(self, item: Any, codes: Sequence[int]) -> str:
        """By which caption to draw an image beside a held-out item."""
        ...


@dataclass(frozen=True)
class Plan:
    """All that a preparation needs to know, decided before the first image is drawn.

    Attributes:
        name: first part of the prepared folder's name.
        origin: where the images come from, for messages (a machine path is fine here).
        source: draws an item.
        size: side of the square images, in pixels.
        train: items of the train array, in order.
        held_out: candidates for the held-out array, in order.
        num_held_out: how many of them to keep.
        replace_duplicates: go on to the next candidate where a held-out image is in train.
        label_names: label to the names of its codes.
        description: what goes into the manifest: free of machine paths and clocks.
        fingerprint: what else tells two sources apart on this machine (sizes, times of files).
        oddities: what is counted of the images in the manifest; nothing for drawn ones.
        notes: what a user is told of the source; not part of the manifest.
        captioner: says what images show in words; None: nobody asked for that.
    """

    name: str
    origin: str
    source: Source
    size: int
    train: Sequence[Any]
    held_out: Sequence[Any]
    num_held_out: int
    replace_duplicates: bool
    label_names: Mapping[str, Sequence[str]]
    description: Mapping[str, Any]
    fingerprint: str
    oddities: Sequence[str] = ()
    notes: Sequence[str] = ()
    captioner: Captioner | None = None


def digest64(content: bytes) -> int:
    """The first 64 bits of the BLAKE2b hash of ``content``."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
