"""The directory of a zip that a library wrote (``.npz``, ``.pt``), bounded before it is read.

Its end stands at the end of the file, and its entries right before that: so all readers of zips,
Python's and those of other libraries, see the same members.
"""

import struct
import zipfile
from typing import BinaryIO

from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_MOST_ENTRY_BYTES = 400
"""Of the directory, a member on average."""
_IS_ENCRYPTED = 0x1


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
        if info.flag_bits & _IS_ENCRYPTED:
            raise zipfile.BadZipFile("an encrypted member")
        if name in names or (is_stored and info.compress_size != info.file_size):
            raise zipfile.BadZipFile(f"the member {shown_value(name)} twice, or of two sizes")
        names.add(name)
        packed += info.compress_size
    if min((info.header_offset for info in archive.infolist()), default=0) != 0:
        raise zipfile.BadZipFile("something before its first member")
    if packed > size:
        raise zipfile.BadZipFile(f"members of {packed} bytes in a file of {size}")
    return archive


def _check_end(handle: BinaryIO, size: int, most: int, source: str) -> None:
    """Refuse a directory that is not where the file's end says, or too large.

    Source: PKWARE's APPNOTE.TXT 6.3, sections 4.3.14 to 4.3.16.
    """
    handle.seek(max(0, size - _END_64.size - _LOCATOR.size - _END.size))
    tail = handle.read()
    if len(tail) < _END.size or tail[-_END.size :][:4] != b"PK\5\6":
        raise zipfile.BadZipFile("no directory at its end")
    _, _, _, _, entries, length, offset, comment = _END.unpack(tail[-_END.size :])
    stop = size - _END.size
    locator = tail[: -_END.size][-_LOCATOR.size :]
    if locator[:4] == b"PK\6\7":
        stop -= _LOCATOR.size + _END_64.size
        record = tail[: _END_64.size]
        if _LOCATOR.unpack(locator)[2] != stop or record[:4] != b"PK\6\6":
            raise zipfile.BadZipFile("an end that names another place")
        *_, entries, length, offset = _END_64.unpack(record)
    if comment or offset + length != stop:
        raise zipfile.BadZipFile("no directory before its end")
    if entries > most or length > most * _MOST_ENTRY_BYTES:
        raise UserError(
            f"{source} is an archive of {entries:,} members; at most {most:,} are read of such a "
            "file."
        )
    handle.seek(0)
