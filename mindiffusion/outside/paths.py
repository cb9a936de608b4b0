"""Where a file of a stranger may lie, and that it is one: inside its folder, no link, no device.

A folder that a person names (on the command line, in a config) may be a link or lie behind one:
that is the person's own doing. What lies in it, and what a file in it names, may not lead out.
"""

import io
import os
import stat
from pathlib import Path, PurePosixPath

from mindiffusion.errors import UserError
from mindiffusion.printable import is_printable, printable

MOST_NAME_CHARACTERS = 1024
MOST_PATH = 4096
"""Characters of a path that a person gives, and that a row holds."""
MOST_ENTRIES = 1_000_000
"""Files and folders that are looked at in one folder."""
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
}


def inside(folder: Path, name: str) -> Path:
    """The place of a file that a document names: relative, below ``folder``, no link on the way.

    The file need not be there.

    Args:
        folder: what the name is relative to; may itself be reached by a link.
        name: with "/" between its parts.

    Raises:
        UserError: an absolute name, one that leads out, or a link on the way.
    """
    parts = PurePosixPath(name).parts
    # One file has one name: "a//b" and "a/./b" are others of "a/b".
    is_wrong = not parts or "/".join(parts) != name or len(name) > MOST_NAME_CHARACTERS
    is_wrong = is_wrong or name.startswith("/") or ".." in parts
    if is_wrong or not is_printable(name):
        raise UserError(
            f"{folder} names the file {printable(name, 80)!r}; allowed are names of files inside "
            "that folder. Do not use it, or ask whoever gave it to you."
        )
    path = folder
    for part in parts:
        path = path / part
        try:
            kind = os.lstat(path).st_mode
        except OSError:
            break  # nothing there, so no link
        if stat.S_ISLNK(kind):
            raise UserError(f"{path} is a link; put the file itself there, links are not followed.")
    return folder.joinpath(*parts)


def refuse_links(folder: Path) -> None:
    """Refuse a folder of results or of a run that holds a link: who wrote it may lead us out.

    Hidden files and folders are passed over.

    Raises:
        UserError: a link below ``folder``, or more entries than any study has.
    """
    waiting, seen = [str(folder)], 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    # Nothing of a study is hidden but its locks, which follow no link themselves;
                    # a person's own .cache or .git may be a link.
                    if entry.name.startswith("."):
                        continue
                    seen += 1
                    if entry.is_symlink():
                        raise UserError(
                            f"{printable(entry.path)} is a link; results and runs hold none, for "
                            "it may lead anywhere. Put the file or folder itself there, or link "
                            f"{folder} as a whole."
                        )
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # whoever wants to read it says so
        if seen > MOST_ENTRIES:
            raise UserError(
                f"{folder} holds more than {MOST_ENTRIES} files; give a study's folder."
            )


def open_file(path: Path, *, follow: bool = False) -> io.BufferedReader:
    """A file, open to be read; a pipe or a device is refused instead of waited for.

    Args:
        path: the file.
        follow: whether ``path`` may be a link, because a person named it.

    Raises:
        UserError: it is no file.
        OSError: there is none, or it can't be read.
    """
    return open(_open(path, os.O_RDONLY | (0 if follow else os.O_NOFOLLOW)), "rb")


def open_to_change(path: Path, flags: int) -> int:
    """A descriptor of a file that is written in place, such as a lock; made if it is not there.

    Args:
        path: the file; never through a link.
        flags: as of ``os.open``, such as ``os.O_RDWR | os.O_APPEND``.

    Raises:
        UserError: something else than a file is there.
        OSError: it can't be opened.
    """
    return _open(path, flags | os.O_CREAT | os.O_NOFOLLOW)


def _open(path: Path, flags: int) -> int:
    kind = _kind(path, follow=not flags & os.O_NOFOLLOW)
    if kind:
        raise UserError(f"{path} is {kind}, not a file; put the file itself there.")
    # Not blocking: what was a file a moment ago may be a pipe now.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is not a file; put the file itself there.")
    return descriptor


def _kind(path: Path, *, follow: bool) -> str | None:
    """What is there instead of a file; None for a file, and where nothing is."""
    try:
        mode = (os.stat if follow else os.lstat)(path).st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no file")


def read_file(path: Path, most: int, *, follow: bool = False) -> bytes:
    """The bytes of a file of bounded size.

    Args:
        path: the file.
        most: bytes that it may have.
        follow: whether ``path`` may be a link, because a person named it.

    Raises:
        UserError: it is no file, or larger.
        OSError: there is none, or it can't be read.
    """
    with open_file(path, follow=follow) as handle:
        # As much as there is: memory for a whole bound would be set aside.
        size = os.fstat(handle.fileno()).st_size
        content = b"" if size > most else handle.read(size)
    if size > most:
        raise UserError(
            f"{path} has more than {most:,} bytes, the most that is read of such a file."
        )
    return content


def is_file(path: Path) -> bool:
    """Whether a file is there that is reached by no link of its own."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False
