"""Whether a place can be written to and has room: tried before the work, with nothing left."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from mindiffusion.errors import UserError


def try_file(path: Path) -> None:
    """Find out whether a file can be written, and its folders made, without making them.

    Raises:
        UserError: a folder has that name, or a pipe or a device.
        OSError: it can't be written; the error names ``path``.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file to write.")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is a pipe or a device; name a file to write.")
    _try(path, path.parent)


def try_folder(folder: Path) -> None:
    """Find out whether files can be written to a folder that may not be there yet.

    Raises:
        OSError: they can't; the error names ``folder``.
    """
    _try(folder, folder)


def check_room(folder: Path, needed: int, what: str, advice: str) -> None:
    """Refuse work for which a disk has no room.

    Args:
        folder: where the files go; need not be there yet.
        needed: bytes.
        what: that take them, such as "checkpoints and weights".
        advice: what to do.

    Raises:
        UserError: there is less room.
    """
    usage = shutil.disk_usage(_standing(folder))
    # Some network file systems say that they have no size at all.
    if usage.total and usage.free < needed:
        raise UserError(
            f"{what} need about {gigabytes(needed)} in {folder}, and its disk has "
            f"{gigabytes(usage.free)} left; {advice}"
        )


def gigabytes(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.3g} GB" if count >= 1e8 else f"{count / 1e6:.3g} MB"


def _standing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _try(path: Path, folder: Path) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            path.stat()
        # On Linux a file without a name: whoever looks sees nothing come and go.
        with tempfile.TemporaryFile(dir=_standing(folder)):
            pass
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
