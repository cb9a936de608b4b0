"""The directory of a zip that a library wrote (``.npz``, ``.pt``), bounded before it is read.

Its end stands at the end of the file, and its entries right before that: so all readers of zips,
Python's and those of other libraries, see the same members. Workers read this module, so it does
without pydantic.
"""

import struct
import zipfile
from typing import BinaryIO, NamedTuple

from mindiffusion.errors import UserError
from mindiffusion.printable import printable

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_MOST_ENTRY_BYTES = 400
"""Of the directory, a member on average."""
_LONGEST_COMMENT = 1 << 16
IS_ENCRYPTED = 0x1


def open_directory(handle: BinaryIO, source: str, most: int) -> zipfile.ZipFile:
    """A zip whose members are few, named once, and together no larger than the file.

    Args:
        handle: the file.
        source: where it is from, for messages.
        most: members that it may have.

    Raises:
        UserError: more members, or one packed in an unusual way, encrypted or named twice.
        zipfile.BadZipFile: no whole zip.
    """
    size = handle.seek(0, 2)
    _check_end(handle, size, most, source)
    archive = zipfile.ZipFile(handle)
    names: set[str] = set()
    packed = 0
    for info in archive.infolist():
        # Some readers take names that differ by case alone for one.
        name = info.filename.lower()
        is_stored = info.compress_type == zipfile.ZIP_STORED
        if not is_stored and info.compress_type != zipfile.ZIP_DEFLATED:
            raise zipfile.BadZipFile("a member packed in an unknown way")
        if info.flag_bits & IS_ENCRYPTED:
            raise zipfile.BadZipFile("an encrypted member")
        if name in names or (is_stored and info.compress_size != info.file_size):
            raise zipfile.BadZipFile(
                f"the member {printable(repr(name), 80)} twice, or of two sizes"
            )
        names.add(name)
        packed += info.compress_size
    if min((info.header_offset for info in archive.infolist()), default=0) != 0:
        raise zipfile.BadZipFile("something before its first member")
    if packed > size:
        raise zipfile.BadZipFile(f"members of {packed} bytes in a file of {size}")
    return archive


def _check_end(handle: BinaryIO, size: int, most: int, source: str) -> None:
    """Refuse a directory that is not where the file's end says, or too large."""
    end = find_end(handle, size)
    if end is None or end.place != size - _END.size:
        raise zipfile.BadZipFile("no directory at its end")
    if not end.is_where_it_says:
        raise zipfile.BadZipFile("an end that names another place")
    if end.comment or end.offset + end.length != end.stop:
        raise zipfile.BadZipFile("no directory before its end")
    if end.entries > most or end.length > most * _MOST_ENTRY_BYTES:
        raise UserError(
            f"{source} is an archive of {end.entries:,} members; at most {most:,} are read of such "
            "a file."
        )
    handle.seek(0)


class End(NamedTuple):
    """What the end of a zip says of its directory; nothing of it is checked.

    Attributes:
        place: where the record of the end begins, in bytes.
        stop: where the directory has to end: before the records of the end.
        entries: members.
        length: bytes of the directory.
        offset: where it begins.
        comment: bytes behind the record.
        is_where_it_says: whether a zip64 record is there, if one is named.
    """

    place: int
    stop: int
    entries: int
    length: int
    offset: int
    comment: int
    is_where_it_says: bool


def find_end(handle: BinaryIO, size: int) -> End | None:
    """The end of a zip of ``size`` bytes; None where there is none.

    Source: PKWARE's APPNOTE.TXT 6.3, sections 4.3.14 to 4.3.16.
    """
    first = max(0, size - _END.size - _LONGEST_COMMENT)
    handle.seek(first)
    tail = handle.read()
    at = len(tail) - _END.size
    if tail[max(0, at) :][:4] != b"PK\5\6":
        at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        return None
    _, _, _, _, entries, length, offset, comment = _END.unpack_from(tail, at)
    place = stop = first + at
    locator = tail[max(0, at - _LOCATOR.size) : at]
    if locator[:4] != b"PK\6\7":
        return End(place, stop, entries, length, offset, comment, True)
    stop = max(0, stop - _LOCATOR.size - _END_64.size)
    handle.seek(stop)
    record = handle.read(_END_64.size)
    is_there = len(record) == _END_64.size
    *_, entries, length, offset = _END_64.unpack(record) if is_there else (0, 0, 0)
    is_named = len(locator) == _LOCATOR.size and _LOCATOR.unpack(locator)[2] == stop
    is_right = is_there and is_named and record[:4] == b"PK\6\6"
    return End(place, stop, entries, length, offset, comment, is_right)
