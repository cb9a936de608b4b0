"""Image files of a folder or zip, one by one: which there are, what they hold, their pixels.

Files are looked at twice: when a set is opened (checksums, colour mode), so that a bad one is
named before a feature net has worked for hours, and when its pixels are wanted.
"""

import collections
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mindiffusion.errors import UserError
from mindiffusion.machine import available_cores
from mindiffusion.outside.pictures import (
    BadImage,
    look_at_picture,
    picture_bytes,
    read_picture,
)
from mindiffusion.outside.zips import open_zip, read_member
from mindiffusion.printable import printable

Read = Callable[[str], bytes]
"""From an image's name to the bytes of its file; raises ``BadImage``."""

_SMALL_SIDE, _MAX_THREADS = 48, 8


def first_of(names: Sequence[str]) -> str:
    """The first three of some names, for a message."""
    shown = [printable(name, 80) for name in names[:3]]
    return ", ".join([*shown, *(["…"] if len(names) > 3 else [])])


def check_level(place: Path, names: Sequence[str]) -> None:
    """Refuse images of several folders: they would be one set by accident only.

    Raises:
        UserError: images below the folder itself, or in several folders of a zip.
    """
    parents = sorted({str(PurePosixPath(name).parent) for name in names})
    if parents == ["."] or (len(parents) == 1 and place.is_file()):
        return
    inside = first_of([parent for parent in parents if parent != "."])
    if place.is_file():
        raise UserError(
            f"{place} holds images in {len(parents)} folders ({inside}); put all into one."
        )
    if len(parents) == 1:
        raise UserError(f"{place} holds images only one level down; give {place / parents[0]}.")
    own = "itself and in " if "." in parents else "in "
    count = len(parents) - ("." in parents)
    raise UserError(
        f"{place} holds images {own}{count} subfolders ({inside}); give one folder without "
        "subfolders of images."
    )


class Fact(NamedTuple):
    """What is found without decoding: upright (height, width), hash of the bytes, oddities."""

    size: tuple[int, int]
    sha256: str
    oddities: tuple[str, ...]


_ODDITIES = {
    "turned": "say by EXIF that they lie on their side or mirrored; turned upright",
    "grey": "are grey; converted to RGB",
    "palette": "have a palette, at most 256 colours, which shifts distances; converted to RGB",
    "alpha": "have an alpha channel, opaque everywhere; dropped",
    "lossy": "are JPEG or WebP; lossy files shift distances: keep images as PNG or .npy",
}


def notes_on(facts: Sequence[Fact]) -> Iterator[str]:
    """What a user should know of images that are not all plain RGB of one size."""
    counts = collections.Counter(oddity for fact in facts for oddity in fact.oddities)
    for oddity, text in _ODDITIES.items():
        if counts[oddity]:
            yield f"{counts[oddity]} of {len(facts)} images {text}"
    sizes = sorted({fact.size for fact in facts})
    if len(sizes) > 1:
        (low_h, low_w), (high_h, high_w) = sizes[0], sizes[-1]
        yield (
            f"images of {len(sizes)} sizes, from {low_h}x{low_w} to {high_h}x{high_w} "
            "(height x width); each is resized from its own"
        )


def look_at_all(place: Path, names: Sequence[str]) -> list[Fact]:
    """Facts of all images, in order; about 40 microseconds a small PNG.

    One thread does it: most of that time is Python's own, which threads have to share.

    Raises:
        UserError: a bad file.
    """
    with opened(place) as read:
        shown = tqdm(names, f"checking {place}", unit="file", disable=None, delay=5)
        return [_look(place, name, read) for name in shown]


def decoding_threads(sizes: Iterable[tuple[int, int]]) -> int:
    """How many threads decode: where images are small, a second one only gets in the way.

    Measured on two cores, microseconds a PNG with one and two threads: 71 and 122 at 32 pixels,
    177 and 102 at 64, 1605 and 988 at 256.
    """
    is_small = all(max(size) < _SMALL_SIDE for size in sizes)
    return 1 if is_small else min(available_cores(), _MAX_THREADS)


@contextmanager
def opened(place: Path) -> Iterator[Read]:
    """A function from an image's name to its bytes, for any number of threads."""
    if place.is_dir():
        yield lambda name: picture_bytes(place / name)
        return
    with open_zip(place) as archive:
        yield lambda name: read_member(archive, name)


def _look(place: Path, name: str, read: Read) -> Fact:
    """Header and checksums of one file; pixels only where there is an alpha channel.

    Raises:
        UserError: a bad file.
    """
    with _named(place, name):
        content = read(name)
        look = look_at_picture(content)
    return Fact(look.size, hashlib.sha256(content).hexdigest(), look.oddities)


def decode(place: Path, name: str, read: Read) -> NDArray[np.uint8]:
    """One image as (H, W, 3) uint8.

    Raises:
        UserError: a bad file.
    """
    with _named(place, name):
        return np.asarray(read_picture(read(name)).image)


@contextmanager
def _named(place: Path, name: str) -> Iterator[None]:
    """Say which file was bad, and why."""
    try:
        yield
    except BadImage as error:
        raise UserError(f"{printable(name, 80)} in {place} {error}.") from error
