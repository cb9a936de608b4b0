"""Packed files: a plain tar whose members are files only, read as a stream and bounded on the way.

Of the format only what we write ourselves is read: regular files with names of up to 256 bytes
(POSIX.1-1988, "ustar"). So there is no header whose length a stranger chooses, no link, no device.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

from mindiffusion.errors import UserError
from mindiffusion.outside.paths import inside, open_file
from mindiffusion.printable import printable

MOST_MEMBERS = 50_000
MOST_BYTES = 1 << 36
"""Of all members together."""
MOST_MEMBER_BYTES = 8**11 - 1
"""Of one member; its header has eleven octal digits for that."""
MOST_PARTS = 8
"""Of a member's name: folders take room of their own."""
_BLOCK = tarfile.BLOCKSIZE
_COPY_BYTES = 1 << 20


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at its end."""


def members_of(folder: Path, names: Iterable[str]) -> list[tarfile.TarInfo]:
    """Files as members of a tar that ``read_files`` takes.

    Args:
        folder: where the files are.
        names: their names below it, with "/" between the parts.

    Raises:
        UserError: a name that leads out of the folder, no file of that name, a link, a name of
            more than 256 bytes, or more than ``read_files`` takes.
    """
    members: list[tarfile.TarInfo] = []
    total = 0
    for name in names:
        path = inside(folder, name)
        member = tarfile.TarInfo(name)
        try:
            with open_file(path) as handle:
                member.size = handle.seek(0, 2)
        except OSError:
            raise UserError(f"{path} is missing; restore it, then pack.") from None
        members.append(member)
        total += member.size
        _check_amount(str(folder), len(members), total, MOST_BYTES)
        _check_depth(str(folder), name)
        try:
            member.tobuf(tarfile.USTAR_FORMAT)
        except ValueError as error:
            raise UserError(f"{path} can't be packed: {printable(error, 120)}.") from None
    return members


def add_files(archive: gzip.GzipFile, folder: Path, members: Iterable[tarfile.TarInfo]) -> None:
    """Write files as a tar; the same files give the same bytes.

    Args:
        archive: what is packed into.
        folder: where the files are.
        members: as of ``members_of``.

    Raises:
        UserError: a file has changed meanwhile.
        OSError: of the disk.
    """
    with tarfile.open(fileobj=archive, mode="w|", format=tarfile.USTAR_FORMAT) as packed:
        for member in members:
            path = inside(folder, member.name)
            with open_file(path) as handle:
                if handle.seek(0, 2) != member.size:
                    raise UserError(f"{path} has just changed; wait for its writer, then pack.")
                handle.seek(0)
                packed.addfile(member, handle)


def read_files(
    stream: Readable,
    source: str,
    target: Path,
    is_wanted: Callable[[str], bool],
    most: int = MOST_BYTES,
) -> list[str]:
    """Write a tar's files into a new folder; returns their names.

    Args:
        stream: the tar, not compressed.
        source: what to call it in messages.
        target: an empty folder.
        is_wanted: whether a member of that name may be there at all.
        most: bytes that its members may have together, where ``MOST_BYTES`` are too many.

    Raises:
        UserError: it is damaged or cut, holds anything but files with names of their own that may
            be there, or more than ``MOST_MEMBERS`` or those bytes.
    """
    names: set[str] = set()
    total = 0
    while (header := _exactly(stream, _BLOCK, source)) != bytes(_BLOCK):
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError):
            raise UserError(f"{source} is no whole tar of packed files; bring it again.") from None
        name = member.name
        if not member.isreg() or not is_wanted(name) or name in names or member.size < 0:
            raise UserError(f"{source} holds {printable(name, 80)!r}, which is never packed.")
        path = inside(target, name)
        _check_depth(source, name)
        names.add(name)
        total += member.size
        _check_amount(source, len(names), total, min(most, MOST_BYTES))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as handle:
            _copy(stream, member.size, handle, source)
        _exactly(stream, -member.size % _BLOCK, source)
    return sorted(names)


def _check_amount(source: str, members: int, total: int, most: int) -> None:
    if members > MOST_MEMBERS or total > most:
        raise UserError(
            f"{source} has more than {MOST_MEMBERS:,} files or {most >> 20:,} MiB to pack or "
            "unpack; have fewer cells under way."
        )


def _check_depth(source: str, name: str) -> None:
    if name.count("/") >= MOST_PARTS:
        raise UserError(
            f"{source} holds {printable(name, 80)!r}, which lies too deep; at most {MOST_PARTS} "
            "folders and files one in the other are packed."
        )


def _copy(stream: Readable, size: int, target: BinaryIO, source: str) -> None:
    while size:
        piece = _exactly(stream, min(size, _COPY_BYTES), source)
        target.write(piece)
        size -= len(piece)


def _exactly(stream: Readable, size: int, source: str) -> bytes:
    """The next ``size`` bytes.

    Raises:
        UserError: the stream ends before, or can't be unpacked.
    """
    pieces = []
    while size:
        try:
            piece = stream.read(size)
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk, not of the content
            raise UserError(
                f"{source} is damaged ({printable(error, 80)}); bring it again."
            ) from None
        if not piece:
            raise UserError(f"{source} is cut; bring it again.")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
