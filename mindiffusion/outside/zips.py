"""Zips of pictures: bounded before anything is unpacked, and read member by member.

Nothing is ever unpacked onto the disk. Workers read this module, so it does without pydantic.
"""

import errno
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mindiffusion.errors import UserError
from mindiffusion.outside.paths import open_file
from mindiffusion.outside.pictures import MOST_BYTES, BadImage
from mindiffusion.outside.zip_directory import IS_ENCRYPTED, find_end
from mindiffusion.printable import printable

MOST_MEMBERS = 1_500_000
"""ImageNet has 1.3 million."""
MOST_DIRECTORY_BYTES = 1 << 28
MOST_NAME = 4096
"""Characters of a member's name; a file system takes no longer path."""
BOMB_BYTES, BOMB_RATIO = 1 << 24, 200
"""A member of more than so many bytes, and so many times its packed size, is no picture's file."""

_ENTRY = b"PK\1\2"
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
)
_BEFORE_THE_FILE = (None, errno.EINVAL)
"""What seeking to a place before a file's begin raises, where a directory says so."""
_OTHER_KINDS = {
    b"\x1f\x8b": "packed by gzip (.gz, .tgz)",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"7z\xbc\xaf": "a .7z",
    b"Rar!": "a .rar",
    b"PK\3\4": "a .zip that is cut or damaged at its end",
}


def is_zip(place: Path) -> bool:
    """Whether a file ends as a zip does; False where it can't be read."""
    try:
        with open_file(place, follow=True) as handle:
            return bool(zipfile.is_zipfile(handle))
    except (OSError, UserError):
        return False


def kind_of(place: Path) -> str:
    """What a file that is no whole zip is instead, as the end of a sentence about it."""
    try:
        with open_file(place, follow=True) as handle:
            start = handle.read(512)
    except (OSError, UserError):
        return "no file that can be read"
    for signature, kind in _OTHER_KINDS.items():
        if start.startswith(signature):
            return kind
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "a web page: the download asked for a login or a confirmation; get it again"
    if not start:
        return "an empty file"
    return "no whole .zip" if place.suffix.lower() == ".zip" else "of an unknown kind"


def open_zip(place: Path) -> zipfile.ZipFile:
    """A zip whose directory is bounded, and in which each name stands once and leads nowhere else.

    Raises:
        UserError: it is not such a zip, or damaged.
        OSError: it can't be read.
    """
    with open_file(place, follow=True) as handle:
        size = handle.seek(0, 2)
        _check_directory(handle, size, place)
    try:
        archive = zipfile.ZipFile(place)
    except _DAMAGED as error:
        raise _damaged(place, error) from None
    except OSError as error:
        if error.errno not in _BEFORE_THE_FILE:
            raise
        raise _damaged(place, error) from None
    _check_names(archive, place)
    if sum(info.compress_size for info in archive.infolist()) > size:
        raise _damaged(place, "its members are larger than it")
    return archive


def members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """What is no folder in it."""
    return [info for info in archive.infolist() if not info.filename.endswith("/")]


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a picture's file in a zip, never more than it declares.

    Raises:
        BadImage: not there, packed in an unusual way, too large, or damaged.
        OSError: the zip can't be read.
    """
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise BadImage("is not in the zip any more") from None
    if info.flag_bits & IS_ENCRYPTED:
        raise BadImage("can't be unpacked (it is encrypted); pack it again without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadImage(
            f"can't be unpacked (packed by method {info.compress_type}); pack it again by deflate"
        )
    size = info.file_size
    if size > MOST_BYTES or size > max(BOMB_BYTES, BOMB_RATIO * info.compress_size):
        raise BadImage(
            f"unpacks from {info.compress_size:,} to {size:,} bytes, which no picture does; "
            "leave it out"
        )
    try:
        with archive.open(info) as stream:
            # So many and no more: unpacked whole, a member may have more than it declares.
            content = stream.read(size)
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _BEFORE_THE_FILE:
            raise
        reason = printable(error, 80)
        raise BadImage(f"can't be unpacked ({reason}); pack it again") from None
    if len(content) < size:
        raise BadImage("can't be unpacked (it is cut); pack it again")
    return content


def _damaged(place: Path, reason: object) -> UserError:
    return UserError(f"{place} is a damaged .zip ({printable(reason, 120)}); supply it again.")


def _check_directory(handle: BinaryIO, size: int, place: Path) -> None:
    """Refuse a directory that is too large to be read.

    Raises:
        UserError: it is, or there is none.
    """
    end = find_end(handle, size)
    if end is None:
        raise UserError(f"{place} is {kind_of(place)}.")
    if end.length <= MOST_DIRECTORY_BYTES:
        handle.seek(max(0, end.stop - end.length))
        if handle.read(min(end.length, end.stop)).count(_ENTRY) <= MOST_MEMBERS:
            return
    raise UserError(
        f"{place} holds too much: of at most {MOST_MEMBERS:,} members are read; split it, or "
        "unpack it and give the folder."
    )


def _check_names(archive: zipfile.ZipFile, place: Path) -> None:
    longest = max((len(name) for name in archive.namelist()), default=0)
    if longest > MOST_NAME:
        raise UserError(
            f"{place} holds a name of {longest:,} characters; allowed are {MOST_NAME:,}: pack it "
            "again with shorter ones."
        )
    names: set[str] = set()
    for info in members(archive):
        name = info.filename
        if name in names:
            raise UserError(
                f"{place} holds {printable(name, 80)!r} twice; pack it again with each name once."
            )
        if not name or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise UserError(
                f"{place} holds {printable(name, 80)!r}, a name that leads out of it; pack it "
                "again with names below one folder."
            )
        names.add(name)
