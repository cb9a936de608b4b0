"""Arrays of a stranger: what a header or an archive declares is bounded before anything is read.

Headers are matched, never evaluated: only numbers are taken, no objects, no structures. What lies
in a file as it is gets mapped; what is packed is streamed into a file without a name.

A file that is cut while it is mapped ends the process by SIGBUS, which Python can't catch. Sizes
are compared when it is opened; who writes a new file beside the old name (as we do) harms nobody.
"""

import contextlib
import errno
import math
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mindiffusion.errors import UserError
from mindiffusion.outside.paths import open_file
from mindiffusion.outside.zip_directory import open_directory
from mindiffusion.printable import printable

MOST_HEADER_BYTES = 10_000
MOST_MEMBERS = 1_000
BOMB_BYTES, BOMB_RATIO = 1 << 30, 200
"""What unpacks to more than so many bytes and so many times its size is refused. Less is taken:
images that are all alike pack a thousandfold."""
_BLOCK_BYTES = 1 << 20
_MOST_BYTES = 1 << 60
_MOST_DIMENSIONS = 32
_NUMBERS = re.compile(r"[<>|=](b1|[iu][1248]|f[248]|c8|c16)")
_ENTRY = (
    r"'descr'\s*:\s*'(?P<descr>[^'\\]{1,16})'"
    r"|'fortran_order'\s*:\s*(?P<order>True|False)"
    r"|'shape'\s*:\s*\((?P<shape>[0-9,\s]*)\)"
)
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class Declared:
    """What the header of an ``.npy`` says.

    Attributes:
        dtype: plain numbers.
        shape: of the array.
        is_fortran: whether the first index runs fastest in the file.
        offset: bytes before the first number.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    is_fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class Wanted:
    """What a member of an ``.npz`` has to be.

    Attributes:
        dtype: such as "<f8".
        shape: its sizes; None where any will do.
    """

    dtype: str
    shape: tuple[int | None, ...]

    def fits(self, found: Declared) -> bool:
        """Whether a header says the same."""
        return (
            found.dtype == np.dtype(self.dtype)
            and len(found.shape) == len(self.shape)
            and all(w in (None, f) for w, f in zip(self.shape, found.shape, strict=True))
        )


def map_npy(path: Path, *, follow: bool = True) -> NDArray:
    """The array of an ``.npy`` file, memory-mapped, read-only.

    Args:
        path: the file.
        follow: whether ``path`` may be a link, because a person named it.

    Raises:
        UserError: no file, no array of plain numbers, or other bytes than its header declares.
        OSError: there is none, or it can't be read.
    """
    with open_file(path, follow=follow) as handle:
        return map_open(handle, str(path))


def map_open(handle: BinaryIO, source: str) -> NDArray:
    """As :func:`map_npy`, of a file that is open; it may be closed then."""
    size = handle.seek(0, 2)
    handle.seek(0)
    with _one_line(source):
        declared = _read_header(handle, source)
        if declared.offset + declared.nbytes != size:
            raise ValueError(
                f"{size} bytes, but {declared.dtype} {declared.shape} takes "
                f"{declared.offset + declared.nbytes}"
            )
        return _mapped(handle, declared, declared.offset)


def describe_npz(path: Path) -> dict[str, Declared | None]:
    """What each array of an ``.npz`` is said to be; None for what is not plain numbers.

    Raises:
        UserError: no whole ``.npz``, or with more than any has.
        OSError: there is none, or it can't be read.
    """
    with _opened_npz(path, follow=True) as (_, archive):
        found: dict[str, Declared | None] = {}
        for info in archive.infolist():
            with archive.open(info) as stream:
                try:
                    found[_name_of(info)] = _read_header(stream, str(path))
                except (UserError, ValueError):
                    found[_name_of(info)] = None
        return found


def open_npz_array(path: Path, name: str) -> NDArray:
    """One array of an ``.npz``, outside memory: mapped, or unpacked into a file without a name.

    Args:
        path: the file.
        name: of the array, as :func:`describe_npz` gives it.

    Raises:
        UserError: a bad array, one that unpacks to far more than it is, or no room to unpack it.
        OSError: it can't be read.
    """
    with _opened_npz(path, follow=True) as (handle, archive):
        info = _info_of(archive, name)
        declared = _declared_in(archive, info, str(path))
        with archive.open(info) as stream:
            stream.read(declared.offset)
            if info.compress_type != zipfile.ZIP_STORED:
                return _unpacked(stream, info, declared, str(path))
            for _ in _blocks(stream):  # the zip's own checksum is compared on the way
                pass
        return _mapped(handle, declared, _data_offset(handle, info) + declared.offset)


def read_npz(
    path: Path, wanted: Mapping[str, Wanted], most: int, *, follow: bool = False
) -> dict[str, NDArray]:
    """Arrays of an ``.npz``, in memory; others in it are passed over.

    Args:
        path: the file.
        wanted: by name, what each has to be.
        most: bytes that all of them may have together.
        follow: whether ``path`` may be a link, because a person named it.

    Raises:
        UserError: no whole ``.npz``, or an array that is missing, another one, or too large.
        OSError: there is none, or it can't be read.
    """
    found: dict[str, NDArray] = {}
    with _opened_npz(path, follow=follow) as (_, archive):
        for name, one in wanted.items():
            info = _info_of(archive, name)
            declared = _declared_in(archive, info, str(path))
            most -= declared.nbytes
            if not one.fits(declared) or most < 0:
                raise ValueError(
                    f"{printable(name, 80)} is {declared.dtype} {declared.shape}, not "
                    f"{np.dtype(one.dtype)} {one.shape}, or too large"
                )
            flat = np.empty(declared.nbytes, np.uint8)
            with archive.open(info) as stream:
                stream.read(declared.offset)
                _fill(flat, stream)
            found[name] = _shaped(flat, declared)
    return found


@contextlib.contextmanager
def _opened_npz(path: Path, *, follow: bool) -> Iterator[tuple[BinaryIO, zipfile.ZipFile]]:
    """The file and the archive in it; whatever is wrong with it is one line."""
    with (
        open_file(path, follow=follow) as handle,
        _one_line(str(path)),
        open_directory(handle, str(path), MOST_MEMBERS) as archive,
    ):
        yield handle, archive


@contextlib.contextmanager
def _one_line(source: str) -> Iterator[None]:
    """Whatever bytes that are no array raise is one line."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place before a file's begin
            raise
        raise _unreadable(source, error) from None
    except _UNREADABLE as error:
        raise _unreadable(source, error) from None


def _unreadable(source: str, error: Exception) -> UserError:
    reason = printable(" ".join(str(error).split()) or type(error).__name__, 200)
    return UserError(f"{source} can't be read as an array ({reason}); write it again.")


def _read_header(stream: IO[bytes], source: str) -> Declared:
    """The header at the begin of an ``.npy``.

    Raises:
        UserError: a header that is too long.
        ValueError: it is none, or not of plain numbers.

    Source: numpy.lib.format, versions 1.0 to 3.0.
    """
    start = stream.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("no .npy header")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > MOST_HEADER_BYTES:
        raise UserError(
            f"{source} has an array's header of {length:,} bytes; at most {MOST_HEADER_BYTES:,} "
            "are read. Write it again."
        )
    text = stream.read(length).decode("latin-1")
    if len(text) < length:
        raise ValueError("cut in its header")
    descr, order, shape = _header_entries(text)
    if not _NUMBERS.fullmatch(descr):
        raise ValueError(f"an array of {descr!r}; only plain numbers are read")
    sizes = [int(size) for size in shape.replace(",", " ").split()]
    declared = Declared(np.dtype(descr), tuple(sizes), order == "True", 8 + width + length)
    if len(sizes) > _MOST_DIMENSIONS or math.prod(max(1, s) for s in sizes) > _MOST_BYTES:
        raise ValueError("a header that declares more than any array has")
    return declared


def _header_entries(text: str) -> tuple[str, str, str]:
    whole = text.strip()
    found: dict[str, str] = {}
    rest = re.sub(_ENTRY, lambda match: found.update(_groups(match)) or "#", whole)
    if len(found) != 3 or not re.fullmatch(r"\{\s*#\s*,\s*#\s*,\s*#\s*,?\s*\}", rest):
        raise ValueError("no header of an array of plain numbers")
    return found["descr"], found["order"], found["shape"]


def _groups(match: re.Match[str]) -> dict[str, str]:
    return {name: value for name, value in match.groupdict().items() if value is not None}


def _name_of(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _info_of(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    for info in archive.infolist():
        if _name_of(info) == name:
            return info
    raise ValueError(f"no array {printable(name, 80)}")


def _declared_in(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> Declared:
    """The header of a member that has just the bytes that it declares, and is no bomb."""
    with archive.open(info) as stream:
        declared = _read_header(stream, source)
    if declared.offset + declared.nbytes != info.file_size:
        raise ValueError(
            f"{printable(info.filename, 80)} has {info.file_size} bytes, but {declared.dtype} "
            f"{declared.shape} takes {declared.offset + declared.nbytes}"
        )
    if info.file_size > max(BOMB_BYTES, BOMB_RATIO * info.compress_size):
        raise UserError(
            f"{source}: {printable(info.filename, 80)} unpacks from {info.compress_size:,} to "
            f"{info.file_size:,} bytes; more than {BOMB_RATIO} times as much is not unpacked. Give "
            "it as .npy if that is meant."
        )
    return declared


def _data_offset(handle: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: behind its local header, name and extra field."""
    handle.seek(info.header_offset)
    name, extra = struct.unpack("<26x2H", handle.read(30))
    return info.header_offset + 30 + int(name) + int(extra)


def _mapped(handle: BinaryIO, declared: Declared, offset: int) -> NDArray:
    if not declared.nbytes:
        return np.empty(declared.shape, declared.dtype)
    return np.memmap(
        handle,
        declared.dtype,
        mode="r",
        offset=offset,
        shape=declared.shape,
        order="F" if declared.is_fortran else "C",
    )


def _unpacked(stream: IO[bytes], info: zipfile.ZipInfo, declared: Declared, source: str) -> NDArray:
    if not declared.nbytes:
        return np.empty(declared.shape, declared.dtype)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if declared.nbytes > free:
        raise UserError(
            f"{source}: {printable(info.filename, 80)} unpacks to {declared.nbytes:,} bytes, but "
            f"{folder} has {free:,} left; make room there, or set TMPDIR to another folder."
        )
    with tempfile.TemporaryFile(prefix="array-") as file:
        flat: NDArray = np.memmap(file, np.uint8, "w+", shape=(declared.nbytes,))
    _fill(flat, stream)
    return _shaped(flat, declared)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(_BLOCK_BYTES):
        yield block


def _fill(flat: NDArray, stream: IO[bytes]) -> None:
    done = 0
    for block in _blocks(stream):
        flat[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    if done != len(flat):
        raise EOFError(f"cut at {done} of {len(flat)} bytes")


def _shaped(flat: NDArray, declared: Declared) -> NDArray:
    array: NDArray = flat.view(declared.dtype)
    if declared.is_fortran:
        return array.reshape(declared.shape[::-1]).T
    return array.reshape(declared.shape)
