"""The image files of a folder or zip, and what else lies there: nothing is left out unsaid."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mindiffusion.data.source import SourceAbsent
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.paths import read_file
from mindiffusion.outside.pictures import BadImage
from mindiffusion.outside.zips import is_zip, kind_of, members, open_zip, read_member
from mindiffusion.printable import printable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp")
"""Of files that are taken for images; what they are their content decides."""
MOST_LIST_BYTES = 256_000_000
"""Of a list of captions; COCO's of 2017 has 92 million."""
MOST_FOLDER_CHARACTERS = 1 << 27
"""Of all folders' names in a zip: 90 for each of as many members as are read."""
_SHOWN_REASONS, _SHOWN_NAMES, _SHOWN_CHARACTERS = 6, 3, 60
_ANY_IMAGE = "any" + IMAGE_SUFFIXES[0]
_NO_FILE = "no files but pipes, sockets or devices"
_MAY_NOT_BE_READ = "folders that can't be read"
_LEADS_BACK = "links to folders that are looked through already"


class Found(NamedTuple):
    """A file: its path below the place, and what changes when it does (size, time or checksum)."""

    path: str
    size: int
    mark: int


@dataclass(frozen=True)
class Listing:
    """The images found at one place, sorted by relative path.

    Attributes:
        place: the folder or zip.
        paths: relative paths of the images.
        fingerprint: changes when a file is added, removed or changed.
        left_out: reason to the sorted relative paths of what is no image.
        folders: sorted relative paths of the folders that were looked through; hidden ones are not
            among them.
    """

    place: Path
    paths: Sequence[str]
    fingerprint: str
    left_out: Mapping[str, Sequence[str]]
    folders: Sequence[str] = ()


def why_no_image(path: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> str | None:
    """Why a file is not taken for an image, by its relative path; None where it is."""
    name = path.rpartition("/")[2]
    if "__MACOSX" in path and "__MACOSX" in path.split("/"):
        return "macOS's own"
    if path.startswith(".") or "/." in path:
        parts = path.split("/")
        if any(part.startswith(".") and part != "." for part in parts):
            return "hidden"
    if name.lower().endswith(tuple(suffixes)):
        return None
    suffix = Path(name).suffix.lower()
    return of_suffix(printable(suffix, 16)) if suffix else "without a suffix"


def of_suffix(suffix: str) -> str:
    """Why a file of a suffix that is no image's is left out."""
    return f"with suffix {suffix}"


def is_image(path: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> bool:
    """Whether a relative path is an image's; hidden files and macOS's copies are not."""
    return why_no_image(path, suffixes) is None


def list_images(
    place: Path, recursive: bool = True, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> Listing:
    """All images of a folder or zip.

    Args:
        place: a folder, or a zip (always searched whole).
        recursive: for folders: look into subfolders too.
        suffixes: of files that are taken for images.

    Raises:
        SourceAbsent: ``place`` holds no image.
        UserError: it is not a folder or zip.
    """
    listing = find_images(place, recursive, suffixes)
    if not listing.paths:
        raise SourceAbsent(f"{place} holds no images", f" (looked for {', '.join(suffixes)}).")
    return listing


def find_images(
    place: Path, recursive: bool = True, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> Listing:
    """As :func:`list_images`, where there may be none.

    Raises:
        UserError: ``place`` is not a folder or zip.
    """
    left_out: dict[str, list[str]] = {}
    folders: set[str] = set()
    if place.is_dir():
        files = _in_folder(place, recursive, left_out, folders)
    elif is_zip(place):
        files = _in_zip(place, folders)
    else:
        raise UserError(
            f"{place} is neither a folder nor a whole .zip, but {kind_of(place)}; give one of "
            "images."
        )
    images = []
    for file in files:
        reason = why_no_image(file.path, suffixes)
        if reason is None:
            images.append(file)
        else:
            left_out.setdefault(reason, []).append(file.path)
    images.sort()
    paths = [image.path for image in images]
    for names in left_out.values():
        names.sort()
    seen = sorted(folder for folder in folders if is_image(f"{folder}/{_ANY_IMAGE}"))
    return Listing(place, paths, sha256_of_json(images), left_out, seen)


def read_lists(
    listing: Listing, paths: Iterable[str], most: int = MOST_LIST_BYTES
) -> Iterator[bytes]:
    """The bytes of files that lie among the images, one after the other.

    A zip is opened once for all of them: opening it checks its whole directory.

    Raises:
        UserError: one can't be read, or is too large.
    """
    place, path = listing.place, ""
    try:
        if place.is_dir():
            for path in paths:
                yield read_file(place / path, most)
        else:
            with open_zip(place) as archive:
                for path in paths:
                    yield read_member(archive, path)
    except BadImage as error:
        raise UserError(f"{place}: {printable(path, _SHOWN_CHARACTERS)} {error}.") from None


def told_left_out(left_out: Mapping[str, Sequence[str]]) -> str:
    """What is left out, for a message: by reason how many, and the first names."""
    reasons = sorted(left_out, key=lambda reason: (-len(left_out[reason]), reason))
    told = [f"{len(left_out[one])} {one} ({_first(left_out[one])})" for one in reasons]
    more = len(told) - _SHOWN_REASONS
    return "; ".join([*told[:_SHOWN_REASONS], *([f"{more} more kinds"] if more > 0 else [])])


def _first(names: Sequence[str]) -> str:
    shown = [printable(name, _SHOWN_CHARACTERS) for name in names[:_SHOWN_NAMES]]
    return ", ".join([*shown, *(["…"] if len(names) > _SHOWN_NAMES else [])])


def _in_folder(
    place: Path, recursive: bool, left_out: dict[str, list[str]], folders: set[str]
) -> list[Found]:
    """The files of a folder; linked subfolders are entered, and each real folder once.

    What can't be looked at, such as a link to nowhere, counts as a file of size and time 0:
    drawing it fails and names it as a bad one.

    Args:
        place: the folder.
        recursive: look into subfolders too.
        left_out: what is no file is added to it.
        folders: those that are looked through are added to it.
    """
    found: list[Found] = []
    waiting, links = [""], set[str]()
    seen: set[tuple[int, int]] = set()
    while waiting or links:
        if waiting:
            inside = waiting.pop()
        else:
            # Last and by name: a link takes no folder that is there itself, wherever it is run.
            inside = min(links)
            links.remove(inside)
            if _leads_back(place / inside, seen):
                left_out.setdefault(_LEADS_BACK, []).append(inside)
                continue
        try:
            entries = _entries(place / inside, seen)
        except OSError:
            if not inside:
                raise
            left_out.setdefault(_MAY_NOT_BE_READ, []).append(inside)
            continue
        folders |= {inside} if inside else set()
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting += [path] if recursive else []
            elif entry.is_symlink() and Path(entry.path).is_dir():
                links |= {path} if recursive else set()
            else:
                _add(entry, path, found, left_out)
    return found


def _entries(folder: Path, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    status = folder.stat()
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        return list(entries)


def _add(
    entry: os.DirEntry[str], path: str, found: list[Found], left_out: dict[str, list[str]]
) -> None:
    try:
        status = entry.stat()
    except OSError:
        found.append(Found(path, 0, 0))
        return
    if stat.S_ISREG(status.st_mode):
        found.append(Found(path, status.st_size, status.st_mtime_ns))
    else:
        left_out.setdefault(_NO_FILE, []).append(path)


def _leads_back(link: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether a linked folder was looked through, or is one that the link itself lies in."""
    status, target = link.stat(), link.resolve()
    is_around = link.parent.resolve().is_relative_to(target)
    return is_around or (status.st_dev, status.st_ino) in seen


def _add_with_outer(folders: set[str], lowest: Iterable[str], place: Path) -> None:
    """Add folders of a zip, and those that they lie in, to ``folders``.

    Raises:
        UserError: their names are too long together: one name of 2,000 folders in each other has
            2,000 of them, and a zip may have a million such names.
    """
    characters = 0
    for folder in lowest:
        while folder and folder not in folders:
            folders.add(folder)
            characters += len(folder)
            if characters > MOST_FOLDER_CHARACTERS:
                raise UserError(
                    f"{place} holds too many folders in each other: their names have more than "
                    f"{MOST_FOLDER_CHARACTERS:,} characters together; pack it again with fewer."
                )
            folder = folder.rpartition("/")[0]


def _in_zip(place: Path, folders: set[str]) -> list[Found]:
    """Name, size in bytes and CRC-32 of each file; its folders are added to ``folders``.

    Raises:
        UserError: no whole zip, or one of zips.
    """
    with open_zip(place) as archive:
        files = [Found(m.filename, m.file_size, m.CRC) for m in members(archive)]
        lowest = {name.rpartition("/")[0] for name in archive.namelist()} - {""}
    _add_with_outer(folders, lowest, place)
    inner = sorted(file.path for file in files if file.path.lower().endswith(".zip"))
    if inner and not any(is_image(file.path) for file in files):
        raise UserError(
            f"{place} holds another zip ({_first(inner)}) and no images; unpack it, and give what "
            "is in it."
        )
    return files
