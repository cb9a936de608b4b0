"""Files that xz has compressed, read as a stream and bounded on the way.

Of the format only what we write ourselves is read: one stream, and nothing behind it.
"""

import io
import lzma
from pathlib import Path
from typing import Any, BinaryIO

from mindiffusion.errors import UserError
from mindiffusion.outside.paths import open_file
from mindiffusion.printable import printable

MOST_BYTES = 1 << 30
"""Of what a file unpacks to."""
BOMB_BYTES, BOMB_RATIO = 1 << 24, 200
"""A file that unpacks to more than so many bytes, and so many times its size, is no text of ours.
Rows unpack to about 20 times their size."""
_MOST_MEMORY = 1 << 27
"""Of the decoder; ``xz -9`` needs half of it."""
_READ_BYTES = 1 << 16


def open_xz(path: Path) -> io.BufferedReader:
    """What a file unpacks to, as an open file that can only be read on.

    Reading from it raises ``UserError`` where the file is damaged, cut or too large.

    Raises:
        UserError: it is no file.
        OSError: there is none, or it can't be read.
    """
    return unpacked(open_file(path), path)


def unpacked(file: BinaryIO, path: Path) -> io.BufferedReader:
    """As :func:`open_xz`, of an open file.

    Args:
        file: what xz has compressed; closed with the result.
        path: what to call it in messages.
    """
    return io.BufferedReader(_Unpacked(file, path), _READ_BYTES)


def how_to_change(path: Path) -> str:
    """What a person must know to edit the lines of a file; empty if it is not compressed."""
    if path.suffix != ".xz":
        return ""
    return (
        f" To change {path.name}, unpack it in another folder (xz -d), then compress it (xz) and "
        "put it back."
    )


class _Unpacked(io.RawIOBase):
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._path = path
        self._file = file
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)
        self._packed = self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = b""
        while not piece and not self._decoder.eof:
            piece = self._next(len(buffer))
        if self._decoder.eof and not piece and (self._decoder.unused_data or self._file.read(1)):
            raise UserError(f"{self._path} has more than one stream of xz; pack it again as one.")
        buffer[: len(piece)] = piece
        return len(piece)

    def _next(self, most: int) -> bytes:
        packed = self._file.read(_READ_BYTES) if self._decoder.needs_input else b""
        if self._decoder.needs_input and not packed:
            raise UserError(f"{self._path} is cut; bring it again.")
        self._packed += len(packed)
        try:
            piece = self._decoder.decompress(packed, most)
        except lzma.LZMAError as error:
            said = printable(error, 80)
            raise UserError(f"{self._path} is damaged ({said}); bring it again.") from None
        self._unpacked += len(piece)
        most_here = min(MOST_BYTES, max(BOMB_BYTES, BOMB_RATIO * self._packed))
        if self._unpacked > most_here:
            raise UserError(
                f"{self._path} unpacks to more than {most_here:,} bytes, the most that is read of "
                "such a file."
            )
        return piece

    def close(self) -> None:
        self._file.close()
        super().close()
