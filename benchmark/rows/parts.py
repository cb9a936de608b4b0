"""A stream of bytes in several files of at most 16 MB, the parts of a pack; never imports torch."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindiffusion.files import atomic_write
from mindiffusion.outside.paths import read_file

PART_BYTES = 16_000_000


def part_name(stem: str, number: int | str) -> str:
    """The name of one of the files; with "*", a pattern of all."""
    return f"{stem}.{number}"


class PartsWriter(io.RawIOBase):
    """Bytes into as many files as they need.

    Args:
        output: the folder of the files.
        stem: what their names begin with.

    Attributes:
        parts: name and checksum of each file, as a pack's manifest has them.
    """

    def __init__(self, output: Path, stem: str) -> None:
        self.parts: list[dict[str, str]] = []
        self._output, self._stem = output, stem
        self._rest = bytearray()

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any) -> int:
        """Take all bytes of ``data``; a file is written when it is full."""
        self._rest += data
        while len(self._rest) >= PART_BYTES:
            self._save()
        return len(data)

    def finish(self) -> None:
        """Write what is left."""
        if self._rest:
            self._save()

    def _save(self) -> None:
        piece = bytes(self._rest[:PART_BYTES])
        del self._rest[:PART_BYTES]
        name = part_name(self._stem, len(self.parts))
        with atomic_write(self._output / name) as handle:
            handle.write(piece)
        self.parts.append({"name": name, "sha256": hashlib.sha256(piece).hexdigest()})


class PartsReader(io.RawIOBase):
    """The bytes of some files, one after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = iter(paths)
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as the file at hand goes; 0 at the end of the last."""
        while not self._piece:
            path = next(self._paths, None)
            if path is None:
                return 0
            self._piece = memoryview(read_file(path, PART_BYTES))
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count
