"""What a folder or zip says of its images in words.

Three layouts are read. A text file beside each picture (``a/b.txt`` of ``a/b.jpg``), each of its
lines a caption. ``metadata.jsonl`` as folders of Hugging Face have it, one or one in each folder:
``{"file_name": "0001.png", "text": "a caption"}`` a line, names relative to the file.
``dataset.json`` with texts where classes stand otherwise: ``{"labels": [["0001.png", "text"]]}``.
A list of texts instead of a text gives several captions.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mindiffusion.data.caption_file import check_texts, clean, distinct
from mindiffusion.data.listing import Listing, of_suffix, read_lists
from mindiffusion.data.names import AUTO, BESIDE, BY_LIST, METADATA
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.documents import first_fault, parse_json
from mindiffusion.outside.zips import MOST_MEMBERS
from mindiffusion.printable import printable

_MOST_TEXT_BYTES = 1_000_000
"""Of a text file beside one picture."""
_SHOWN = 80
_LINE_END = re.compile(r"\r\n|\r|\n")
"""``str.splitlines`` also ends lines at control characters, such as a form feed."""
_OF_SOURCE = {BESIDE: ".txt", METADATA: ".jsonl", BY_LIST: ".json"}
"""The suffix of the files of a source, by which a listing left them out."""
_Path = Annotated[str, Field(max_length=4096)]
_Texts = str | list[str]


@dataclass(frozen=True)
class FileCaptions:
    """The captions of the images of a folder or zip: a ``Captioner`` of its files.

    Attributes:
        source: one of ``CAPTION_SOURCES``.
        texts: path of each image to its captions.
        files: paths of the files that said so.
    """

    source: str
    texts: Mapping[str, tuple[str, ...]]
    files: frozenset[str] = frozenset()

    @property
    def identity(self) -> str:
        """SHA-256 of all captions."""
        return sha256_of_json({path: list(some) for path, some in self.texts.items()})

    def captions(self, item: Any, codes: Sequence[int]) -> tuple[str, ...]:
        """The captions of an ``ImageFile``."""
        return self.texts[item.path]

    def prompt(self, item: Any, codes: Sequence[int]) -> str:
        """Its first caption."""
        return self.texts[item.path][0]


class _Line(BaseModel):
    """What is used of a line of ``metadata.jsonl``."""

    model_config = ConfigDict(strict=True)

    file_name: _Path
    text: _Texts | None = None
    caption: _Texts | None = None


class _List(BaseModel):
    """What is used of a ``dataset.json`` with texts."""

    model_config = ConfigDict(strict=True)

    labels: Annotated[list[tuple[_Path, _Texts]], Field(max_length=MOST_MEMBERS)]


class _AnyList(BaseModel):
    """A ``dataset.json`` of whatever labels."""

    labels: Annotated[list[tuple[str, Any]], Field(max_length=MOST_MEMBERS)] | None = None


_LINE = TypeAdapter(_Line)
_LIST_ADVICE = 'expected {"labels": [["image.png", "a caption"], …]}.'


@dataclass(frozen=True)
class _Found:
    """A source that is there.

    Attributes:
        files: paths of its files.
        said: reads what they say: path of each image to its captions as they stand there.
    """

    files: Sequence[str]
    said: Callable[[], Mapping[str, Sequence[str]]]


def captions_of_files(wanted: str, listing: Listing) -> FileCaptions:
    """The captions of the images of a folder or zip.

    Args:
        wanted: where they are from, one of ``BY``; or ``AUTO``, the one of these that is there.
        listing: the images, and what else lies there.

    Raises:
        UserError: there are none, or of ``AUTO`` several; or they do not fit the images.
    """
    source, found = _only_source(listing) if wanted == AUTO else (wanted, BY[wanted](listing))
    if found is None:
        raise UserError(
            f"data.captions is {source}, but {listing.place} has no captions there; give "
            f"data.captions={AUTO} to take those that it has, or leave captions out."
        )
    texts = fitting(source, found.said(), listing.paths, listing.place)
    return FileCaptions(source, texts, frozenset(found.files))


def fitting(
    source: str, said: Mapping[str, Sequence[str]], images: Sequence[str], place: object
) -> dict[str, tuple[str, ...]]:
    """Captions cleaned, in the order of the images, and checked to be of these.

    Args:
        source: where they are from.
        said: path to captions as they stand there.
        images: paths of the images.
        place: what to call the images' place in a message.

    Raises:
        UserError: captions without pictures, pictures without captions, or unusable captions.
    """
    there = set(images)
    missing = sorted(set(said) - there)
    if missing:
        raise UserError(
            f"{place}: {len(missing)} caption(s) of {source} belong to no picture (first: "
            f"{printable(missing[0], _SHOWN)}); bring the pictures, or take the captions away."
        )
    bare = [path for path in images if not said.get(path)]
    if bare:
        raise UserError(
            f"{place}: {len(bare)} of {len(images)} pictures have no caption in {source} (first: "
            f"{printable(bare[0], _SHOWN)}); write them, or take the pictures away."
        )
    texts = {path: distinct(map(clean, said[path])) for path in images}
    check_texts(texts, f"{place}: {source}")
    return texts


def without(listing: Listing, files: frozenset[str]) -> Listing:
    """The listing without files that captions were read from: they are not left out."""
    left_out = {
        reason: [path for path in paths if path not in files]
        for reason, paths in listing.left_out.items()
    }
    return replace(listing, left_out={reason: paths for reason, paths in left_out.items() if paths})


def _only_source(listing: Listing) -> tuple[str, _Found]:
    """The one source that is there.

    A file that has the name of a source's and is none is told of only where no other source is
    there: ``metadata.jsonl`` may hold classes, and ``dataset.json`` may be anybody's.
    """
    there: dict[str, _Found] = {}
    faults: list[UserError] = []
    for source, look in BY.items():
        try:
            found = look(listing)
        except UserError as error:
            faults.append(error)
            continue
        if found is not None:
            there[source] = found
    if len(there) > 1:
        told = " and ".join(f"{source} ({len(one.files)} file(s))" for source, one in there.items())
        choice = " or ".join(f"data.captions={source}" for source in there)
        raise UserError(f"{listing.place} has captions from {told}; say which: {choice}.")
    if there:
        return next(iter(there.items()))
    if faults:
        raise faults[0]
    raise UserError(
        f"data.captions is {AUTO}, but {listing.place} has no captions; they may stand in .txt "
        f"files beside the pictures, in {METADATA}, or in {BY_LIST}."
    )


def _files(source: str, listing: Listing) -> Sequence[str]:
    """Paths of files with the suffix of a source."""
    return listing.left_out.get(of_suffix(_OF_SOURCE[source]), ())


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0]}"


def _beside(listing: Listing) -> _Found | None:
    """A text file beside each picture; lines are captions."""
    files = _files(BESIDE, listing)
    stems = {_stem(path) for path in listing.paths}
    if not any(_stem(path) in stems for path in files):
        return None
    return _Found(files, lambda: _said_beside(listing, files))


def _said_beside(listing: Listing, files: Sequence[str]) -> dict[str, list[str]]:
    pictures: dict[str, str] = {}
    for path in listing.paths:
        other = pictures.setdefault(_stem(path), path)
        if other != path:
            raise UserError(
                f"{listing.place}: {printable(other, _SHOWN)} and {printable(path, _SHOWN)} would "
                "have one text file; rename one of them."
            )
    said = {}
    for path, content in zip(files, read_lists(listing, files, _MOST_TEXT_BYTES), strict=True):
        lines = _LINE_END.split(_decoded(content, listing, path))
        said[pictures.get(_stem(path), path)] = [line for line in lines if line.strip()]
    return said


def _decoded(content: bytes, listing: Listing, path: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{listing.place}: {printable(path, _SHOWN)}, byte {error.start} (0x"
            f"{content[error.start]:02x}) is not UTF-8; save the file as UTF-8."
        ) from None


def _metadata(listing: Listing) -> _Found | None:
    """Every ``metadata.jsonl``, of pictures in its own folder and below.

    Raises:
        UserError: their first line gives no caption.
    """
    files = [path for path in _files(METADATA, listing) if PurePosixPath(path).name == METADATA]
    for _, line, at in _lines(listing, files):
        _entry(line, at)
        return _Found(files, lambda: _said_in_metadata(listing, files))
    return None


def _lines(listing: Listing, files: Sequence[str]) -> Iterator[tuple[str, bytes, str]]:
    """Folder, content and place of each line that is not blank."""
    for path, content in zip(files, read_lists(listing, files), strict=True):
        for number, line in enumerate(content.splitlines(), start=1):
            if line.strip():
                at = f"{listing.place}: {printable(path, _SHOWN)}, line {number}"
                yield path.removesuffix(METADATA), line, at


def _said_in_metadata(listing: Listing, files: Sequence[str]) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {}
    for folder, line, at in _lines(listing, files):
        name, entry = _entry(line, at)
        said.setdefault(folder + name, []).extend(entry)
    return said


def _entry(line: bytes, at: str) -> tuple[str, list[str]]:
    """File name and captions of a line of ``metadata.jsonl``."""
    entry = parse_json(line, _LINE, at, 'expected {"file_name": …, "text": …}.')
    texts = entry.caption if entry.text is None else entry.text
    if texts is None:
        raise UserError(f'{at} has neither "text" nor "caption"; give one of them.')
    return entry.file_name, _several(texts)


def _several(texts: _Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def _by_list(listing: Listing) -> _Found | None:
    """``dataset.json`` where its labels are texts; else they are classes.

    Raises:
        UserError: it is no list of labels.
    """
    if BY_LIST not in _files(BY_LIST, listing):
        return None
    at = f"{listing.place}: {BY_LIST}"
    (content,) = read_lists(listing, [BY_LIST])
    labels = parse_json(content, _AnyList, at, _LIST_ADVICE).labels
    first = labels[0][1] if labels else None
    if not isinstance(first[0] if isinstance(first, list) and first else first, str):
        return None
    return _Found([BY_LIST], lambda: _said_in_list(labels, at))


def _said_in_list(labels: Any, at: str) -> dict[str, list[str]]:
    try:
        checked = _List.model_validate({"labels": labels}).labels
    except ValidationError as error:
        raise UserError(f"{at}: {first_fault(error)}; {_LIST_ADVICE}") from None
    said: dict[str, list[str]] = {}
    for path, one in checked:
        said.setdefault(path, []).extend(_several(one))
    return said


BY: dict[str, Callable[[Listing], _Found | None]] = {
    BESIDE: _beside,
    METADATA: _metadata,
    BY_LIST: _by_list,
}
"""What looks for a source, by the name that ``data.captions`` gives; None: it is not there."""
