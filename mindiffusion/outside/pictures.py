"""Pictures of a stranger: a few formats, known by their content, bounded, as upright RGB.

One rule for training, scores, strips and the report: EXIF's orientation is turned; grey, 1-bit,
palette and opaque alpha become RGB; whatever would need a choice that is not ours is refused.
Workers read this module, so it does without pydantic.
"""

import os
import re
import stat
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from mindiffusion.errors import UserError
from mindiffusion.outside.paths import inside, read_file

FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "BMP")
"""Names in Pillow of what is always read; of a phone's MPO, a JPEG, the first picture counts."""
EXTRA_FORMATS: Mapping[str, tuple[str, ...]] = {
    "avif": (".avif",),
    "gif": (".gif",),
    "tiff": (".tif", ".tiff"),
}
"""What is read where it is asked for, with the suffixes of such files."""
MOST_PIXELS = 1 << 26
MOST_BYTES = 1 << 28
"""Of a file: a BMP of the most pixels, and some."""
MOST_NAMED_BYTES = 64_000_000
"""Of a picture that a document names, such as a strip of samples."""
MOST_SCANS = 64
"""Of a JPEG: each is one more pass over all its pixels, and encoders make some ten."""
ODDITIES = ("turned", "grey", "palette", "alpha", "lossy")
"""What may be said of a picture that is taken; a manifest counts each."""
RULE = "upright by EXIF; grey, palette and opaque alpha as RGB"
"""What is done to pictures; arrays made by another rule are others."""

_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")
_MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "PA")
_CONVERT = "convert it to 8-bit RGB first"
_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
# Neither a byte of the picture's data (FF 00) nor a restart, fill or temporary marker.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
# Source: Exif 2.32, tag Orientation: what brings the stored picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)
_MAY_SAY_ORIENTATION = ("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp")

# Pillow warns of what it passes over in a damaged header; whoever gives the file can't act on it.
warnings.filterwarnings("ignore", module=r"PIL\.")

Result = TypeVar("Result")


class BadImage(Exception):
    """A picture that can't be used; the message says why, as the end of a sentence about it."""


class Picture(NamedTuple):
    """A picture that is read: upright, RGB, and which of ``ODDITIES`` it had."""

    image: Image.Image
    oddities: tuple[str, ...]


class Look(NamedTuple):
    """What is found without decoding: upright (height, width), and ``ODDITIES``."""

    size: tuple[int, int]
    oddities: tuple[str, ...]


def picture_bytes(path: Path | str) -> bytes:
    """The bytes of a picture's file; ``path`` may be a link, for it lies in a person's own folder.

    Raises:
        BadImage: no file, none that can be read, or too large.
    """
    # By descriptor: half the time of a file object, of which small pictures would notice.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("is no file")
            if status.st_size > MOST_BYTES:
                raise _too_many_bytes(status.st_size)
            return _read_all(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadImage(f"can't be read ({error.strerror})") from None


def _read_all(descriptor: int, size: int) -> bytes:
    content = os.read(descriptor, size)
    while len(content) < size and (more := os.read(descriptor, size - len(content))):
        content += more
    return content


def _too_many_bytes(size: int) -> BadImage:
    return BadImage(f"has {size:,} bytes; at most {MOST_BYTES:,} are read, so make it smaller")


def read_picture(content: bytes, extra: Sequence[str] = (), *, takes_cmyk: bool = False) -> Picture:
    """A picture from the bytes of its file.

    Args:
        content: the file's; its format is known by them, never by a name.
        extra: keys of ``EXTRA_FORMATS`` that are read too.
        takes_cmyk: whether pictures of four inks are taken, as Pillow converts them.

    Raises:
        BadImage: of another kind, damaged, too large, or one that would lose something.
    """
    modes = (*_MODES, "CMYK") if takes_cmyk else _MODES
    return _decoded(lambda: _read(content, extra, modes), extra)


def look_at_picture(content: bytes) -> Look:
    """Header and checksums of a picture; its pixels only where transparency has to be looked for.

    Raises:
        BadImage: as of :func:`read_picture`, as far as it is seen without decoding.
    """
    return _decoded(lambda: _look(content), ())


def read_named(folder: Path, name: str) -> tuple[bytes, Picture]:
    """A picture that a document names, and the bytes of its file: inside a folder, by no link.

    Args:
        folder: what the name is relative to.
        name: with "/" between its parts.

    Raises:
        BadImage: there is none, or none that is taken; a name that leads out.
    """
    try:
        content = read_file(inside(folder, name), MOST_NAMED_BYTES)
    except UserError as error:
        raise BadImage(f"can't be used ({error})") from None
    except OSError as error:
        raise BadImage(f"can't be read ({error.strerror})") from None
    return content, read_picture(content)


def png_bytes(path: Path) -> bytes:
    """The bytes of a PNG that a document names, as they are: to be copied, not to be shown.

    Raises:
        UserError: no file, too large, or no PNG.
        OSError: there is none, or it can't be read.
    """
    content = read_file(path, MOST_NAMED_BYTES)
    if not content.startswith(PNG_SIGNATURE):
        raise UserError(
            f"{path} is named as a picture and is no PNG; restore it, or drop its rows."
        )
    return content


def available(extra: str) -> bool:
    """Whether the Pillow that is installed reads a format of ``EXTRA_FORMATS``."""
    Image.init()
    return extra.upper() in Image.OPEN


def _decoded(decode: Callable[[], Result], extra: Sequence[str]) -> Result:
    try:
        return decode()
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels("far more") from None
    except UnidentifiedImageError:
        kinds = ", ".join((*FORMATS, *(name.upper() for name in extra)))
        raise BadImage(f"can't be decoded (no whole {kinds}); mend or remove it") from None
    except Exception as error:  # Pillow raises whatever its decoders meet
        kind = type(error).__name__
        raise BadImage(f"can't be decoded ({kind}); mend or remove it") from error


def _too_many_pixels(found: str) -> BadImage:
    return BadImage(f"has {found} pixels; at most {MOST_PIXELS:,} are read, so make it smaller")


def _read(content: bytes, extra: Sequence[str], modes: Sequence[str]) -> Picture:
    with _opened(content, extra, modes) as image:
        image.load()
        turn = _TURNS.get(_orientation(image))
        oddities = tuple(_oddities(image, turn is not None))
        upright = _as_rgb(image)
        return Picture(upright if turn is None else upright.transpose(turn), oddities)


def _look(content: bytes) -> Look:
    with _opened(content, ()) as image:
        if image.format == "PNG" and b"eXIf" in content:
            image.load()  # it may stand behind the pixels
        orientation = _orientation(image)
        oddities = tuple(_oddities(image, orientation in _TURNS))
        if "alpha" in oddities:
            _as_rgb(image)
        width, height = image.size
        is_swapped = orientation in _SWAPS_SIDES
        return Look((width, height) if is_swapped else (height, width), oddities)


def _opened(content: bytes, extra: Sequence[str], modes: Sequence[str] = _MODES) -> ImageFile:
    """A picture whose header is read, and that is of a kind that is taken.

    Raises:
        BadImage: it is not.
    """
    if len(content) > MOST_BYTES:
        raise _too_many_bytes(len(content))
    formats = (*FORMATS, *(name.upper() for name in extra)) if extra else FORMATS
    image = Image.open(BytesIO(content), formats=formats)
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _too_many_pixels(f"{width:,} x {height:,}")
    if not width * height:
        raise BadImage("has no pixels")
    if image.mode not in modes:
        raise BadImage(f"has mode {image.mode}; {_CONVERT}")
    if image.format in ("JPEG", "MPO"):
        if content.count(_SCAN) > MOST_SCANS and _scans(content) > MOST_SCANS:
            raise BadImage("is a JPEG of very many scans; save it anew")
        return image
    if image.format == "PNG":
        _compare_sums(content)
    # Pillow drops the low byte of 16-bit colours without a word.
    if image.format in ("PNG", "TIFF") and any(";16" in str(tile) for tile in image.tile):
        raise BadImage(f"has 16 bits a channel; {_CONVERT}")
    if getattr(image, "is_animated", False):
        raise BadImage("is an animation or holds several pictures; save the one that is meant")
    return image


def _scans(content: bytes) -> int:
    """Scans of a JPEG's first picture; phones put a film, or more pictures, behind its end.

    Source: ITU-T T.81, B.1.1 and B.2.1.
    """
    count, at = 0, 2
    while (found := _MARKER.search(content, at)) and found[0] != _END_OF_IMAGE:
        count += found[0] == _SCAN
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return count


def _compare_sums(content: bytes) -> None:
    """The checksums of a PNG, which decoding does not look at.

    Raises:
        BadImage: one is wrong, or the file is cut.

    Source: PNG, third edition, 5.3 Chunk layout.
    """
    view, start = memoryview(content), len(PNG_SIGNATURE)
    while True:
        stop = start + 8 + int.from_bytes(view[start : start + 4])
        if stop + 4 > len(view):
            raise BadImage("can't be decoded (it is cut); mend or remove it")
        if zlib.crc32(view[start + 4 : stop]) != int.from_bytes(view[stop : stop + 4]):
            raise BadImage("can't be decoded (a checksum is wrong); mend or remove it")
        if view[start + 4 : start + 8] == b"IEND":
            return
        start = stop + 4


def _orientation(image: ImageFile) -> int:
    """EXIF's orientation; 1, upright, where it says nothing that is understood."""
    if not any(key in image.info for key in _MAY_SAY_ORIENTATION):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # Pillow raises whatever a damaged EXIF meets; the picture may be whole
        return 1
    return found if isinstance(found, int) else 1


def _oddities(image: ImageFile, is_turned: bool) -> Iterator[str]:
    if is_turned:
        yield "turned"
    if image.mode in ("L", "1", "LA"):
        yield "grey"
    if image.mode in ("P", "PA"):
        yield "palette"
    if image.has_transparency_data:
        yield "alpha"
    if image.format in _LOSSY:
        yield "lossy"


def _as_rgb(image: Image.Image) -> Image.Image:
    """``image`` as RGB.

    Raises:
        BadImage: any pixel is not opaque.
    """
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise BadImage("is transparent; lay it over its background and save it as RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
