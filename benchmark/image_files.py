"""Image files of a folder or zip, one by one: which there are, what they hold, their pixels.

Files are looked at twice: when a set is opened (checksums, colour mode), so that a bad one is
named before a feature net has worked for hours, and when its pixels are wanted.
"""

import collections
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from tqdm import tqdm

from mindiffusion.data.folder import DECODE_ERRORS
from mindiffusion.data.source import BadImage
from mindiffusion.errors import UserError
from mindiffusion.machine import available_cores

Read = Callable[[str], bytes]
"""From an image's name to the bytes of its file."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # what mindiffusion.data.folder.IMAGE_SUFFIXES stand for
_LOSSY = ("JPEG", "MPO", "WEBP")
_MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "PA")
_CONVERT = "convert it to 8-bit RGB first"
_SMALL_SIDE, _MAX_THREADS = 48, 8


def names_in_folder(folder: Path) -> list[str]:
    """Relative paths of all files below ``folder``."""
    names = []
    for parent, _, files in os.walk(folder):
        inside = Path(parent).relative_to(folder).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        names += [prefix + name for name in files]
    return names


def names_in_zip(path: Path) -> list[str]:
    """Names of all members that are files."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [member.filename for member in archive.infolist() if not member.is_dir()]
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is a damaged zip ({error}); supply it again.") from error


def first_of(names: Sequence[str]) -> str:
    """The first three of some names, for a message."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


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
    """What is found without decoding: (height, width), hash of the bytes, and oddities."""

    size: tuple[int, int]
    sha256: str
    oddities: tuple[str, ...]


_ODDITIES = {
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
        yield lambda name: Path(place, name).read_bytes()
        return
    with zipfile.ZipFile(place) as archive:
        yield archive.read


def _look(place: Path, name: str, read: Read) -> Fact:
    """Header and checksums of one file; pixels only where there is an alpha channel.

    Raises:
        UserError: a bad file.
    """
    with _named(place, name):
        content = read(name)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            oddities = tuple(_oddities(image))
            size = (image.height, image.width)
            if "alpha" in oddities:
                _as_rgb(image)
            else:
                image.verify()  # of PNGs the checksums, which decoding would not look at
    return Fact(size, hashlib.sha256(content).hexdigest(), oddities)


def _oddities(image: ImageFile) -> Iterator[str]:
    """Keys of ``_ODDITIES`` that hold for an image.

    Raises:
        BadImage: of a kind that is not converted.
    """
    if image.mode not in _MODES:
        raise BadImage(f"has mode {image.mode}; {_CONVERT}")
    # Pillow drops the low byte of 16-bit PNGs in colour without a word.
    if image.format == "PNG" and any(";16" in str(tile) for tile in image.tile):
        raise BadImage(f"has 16 bits a channel; {_CONVERT}")
    if image.has_transparency_data:
        yield "alpha"
    if image.mode in ("L", "1", "LA"):
        yield "grey"
    if image.mode in ("P", "PA"):
        yield "palette"
    if image.format in _LOSSY:
        yield "lossy"


def decode(place: Path, name: str, read: Read) -> NDArray[np.uint8]:
    """One image as (H, W, 3) uint8.

    Raises:
        UserError: a bad file.
    """
    with (
        _named(place, name),
        Image.open(io.BytesIO(read(name)), formats=_FORMATS) as image,
    ):
        return np.asarray(_as_rgb(image))


def _as_rgb(image: Image.Image) -> Image.Image:
    """``image`` as RGB.

    Raises:
        BadImage: any pixel is not opaque.
    """
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise BadImage("is transparent; lay it over its background and save it as RGB")
    return image.convert("RGB")


@contextmanager
def _named(place: Path, name: str) -> Iterator[None]:
    """Say which file was bad, and why."""
    try:
        yield
    except BadImage as error:
        raise UserError(f"{name} in {place} {error}.") from error
    except DECODE_ERRORS as error:
        kind = type(error).__name__
        raise UserError(
            f"{name} in {place} can't be decoded ({kind}); mend or remove it."
        ) from error
    except RuntimeError as error:  # of zipfile: encrypted, or packed in an unknown way
        raise UserError(f"{name} in {place} can't be unpacked ({error}); pack it again.") from error
