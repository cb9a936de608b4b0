"""What a folder or zip says of its images: by the folder that each lies in, or by a list.

A class is a folder, as in ImageNet's layout (CLASS/*.jpg), or a number of ``dataset.json``, as the
tools of StyleGAN and EDM write it: {"labels": [["00000/img.png", 3], …]}.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mindiffusion.data.classes import MOST_CLASSES, check_count
from mindiffusion.data.listing import Listing, of_suffix, read_lists
from mindiffusion.data.names import BY_FOLDER, BY_LIST
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import MOST_TEXT_BYTES, parse_json
from mindiffusion.outside.zips import MOST_MEMBERS
from mindiffusion.printable import is_printable, printable

_SHOWN = 80
"""Characters of a class's name, which stands in names of rows, and of a path in a message."""
_HOW = "give data.labels=folder for CLASS/image files, or leave labels out."


@dataclass(frozen=True)
class FileLabels:
    """The classes of the images of a folder or zip.

    Attributes:
        label: one of ``BY``.
        names: of its classes.
        codes: the class of each image, by its path.
    """

    label: str
    names: list[str]
    codes: dict[str, int]


class _List(BaseModel):
    """What is used of a ``dataset.json``."""

    model_config = ConfigDict(strict=True)

    labels: (
        Annotated[
            list[tuple[str, Annotated[int, Field(ge=0, lt=MOST_CLASSES)]]],
            Field(max_length=MOST_MEMBERS),
        ]
        | None
    )


def labels_of_files(wanted: str, listing: Listing) -> FileLabels:
    """The classes of the images of a folder or zip.

    Args:
        wanted: one of ``BY``.
        listing: the images.

    Raises:
        UserError: the images have no such label, or the classes do not fit them.
    """
    return BY[wanted](listing)


def _by_folder(listing: Listing) -> FileLabels:
    root = _outer_folder(listing)
    start = len(root) + 1 if root else 0
    by_path = {}
    for path in listing.paths:
        name, below, _ = path[start:].partition("/")
        if not below or not path.startswith(root):
            raise UserError(
                f"data.labels is folder, but {listing.place} holds "
                f"{printable(path, _SHOWN)}, which lies in no class folder; move it into one."
            )
        by_path[path] = name
    below_root = {one[start:] for one in listing.folders if one.startswith(root) and one != root}
    names = sorted({one for one in below_root if "/" not in one} | set(by_path.values()))
    _check_names(names, listing)
    numbers = {name: number for number, name in enumerate(names)}
    codes = {path: numbers[name] for path, name in by_path.items()}
    return FileLabels(BY_FOLDER, names, codes)


def _outer_folder(listing: Listing) -> str:
    """The folder that class folders lie in: zips often hold one folder with all the others."""
    with_images = {path.rpartition("/")[0] for path in listing.paths}
    inside: dict[str, list[str]] = {}
    for folder in listing.folders:
        inside.setdefault(folder.rpartition("/")[0], []).append(folder)
    root = ""
    while root not in with_images and len(inside.get(root, ())) == 1:
        (only,) = inside[root]
        if only in with_images:
            break
        root = only
    return root


def _check_names(names: Sequence[str], listing: Listing) -> None:
    check_count(len(names), BY_FOLDER, listing.place)
    for name in names:
        if len(name) > _SHOWN or not is_printable(name):
            raise UserError(
                f"{listing.place}: the class folder {printable(name, _SHOWN)!r} has a name that "
                f"can't be shown or has more than {_SHOWN} characters; rename it."
            )


def _by_list(listing: Listing) -> FileLabels:
    source = f"{listing.place}: {BY_LIST}"
    advice = "write it as StyleGAN's dataset tool does."
    found = parse_json(_list_bytes(listing), _List, source, advice).labels
    if found is None:
        raise UserError(f"{source} has no labels (null); {_HOW}")
    by_path = dict(found)
    if len(by_path) < len(found):
        raise UserError(f"{source} names an image twice; {advice}")
    _check_paths(by_path, listing, source)
    names = [str(number) for number in range(max(by_path.values()) + 1)]
    check_count(len(names), BY_LIST, listing.place)
    return FileLabels(BY_LIST, names, by_path)


def _list_bytes(listing: Listing) -> bytes:
    if BY_LIST not in listing.left_out.get(of_suffix(".json"), ()):
        raise UserError(f"data.labels is {BY_LIST}, but {listing.place} holds no such file; {_HOW}")
    (content,) = read_lists(listing, [BY_LIST], MOST_TEXT_BYTES)
    return content


def _check_paths(listed: Mapping[str, int], listing: Listing, source: str) -> None:
    """Raise unless the list and the images name the same files."""
    there = set(listing.paths)
    missing = sorted(set(listed) - there)
    if missing:
        raise UserError(
            f"{source} names {len(missing)} images that are not there (first: "
            f"{printable(missing[0], _SHOWN)}); bring them, or mend the list."
        )
    unlisted = sorted(there - set(listed))
    if unlisted:
        raise UserError(
            f"{source} lacks {len(unlisted)} of the images (first: "
            f"{printable(unlisted[0], _SHOWN)}); add them to the list, or take them away."
        )


BY: dict[str, Callable[[Listing], FileLabels]] = {BY_FOLDER: _by_folder, BY_LIST: _by_list}
"""How a folder or zip says what its images show, by the name that ``data.labels`` gives."""
