"""Images in a folder or a zip: splitting, decoding."""

import functools
import hashlib
import importlib.metadata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mindiffusion.data.classes import check_filled
from mindiffusion.data.crops import crop_and_resize, filter_of
from mindiffusion.data.listing import (
    IMAGE_SUFFIXES,
    Listing,
    list_images,
    of_suffix,
    told_left_out,
)
from mindiffusion.data.names import AUTO, DATASETS
from mindiffusion.data.source import Captioner, Plan, Sample, SourceAbsent, digest64
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.pictures import (
    EXTRA_FORMATS,
    ODDITIES,
    RULE,
    Picture,
    available,
    picture_bytes,
    read_picture,
)
from mindiffusion.outside.zips import open_zip, read_member
from mindiffusion.printable import printable

if TYPE_CHECKING:  # a worker that decodes files starts in half the time without pydantic
    from mindiffusion.data.file_captions import FileCaptions
    from mindiffusion.data.file_labels import FileLabels
    from mindiffusion.data.spec import DataConfig


class ImageFile(NamedTuple):
    """One image file of a folder or member of a zip."""

    path: str  # relative to the folder, or the member's name
    codes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class FileSource:
    """Decodes, crops and resizes image files.

    Attributes:
        place: the folder or zip.
        crop: one of ``CROPS``.
        size: side of the square images, in pixels.
        extra_formats: keys of ``EXTRA_FORMATS`` that are read too.
        takes_cmyk: whether pictures of four inks are taken.
    """

    place: str
    crop: str
    size: int
    extra_formats: tuple[str, ...] = ()
    takes_cmyk: bool = False

    def draw(self, item: ImageFile) -> Sample:
        """One file as a (size, size, 3) image.

        Raises:
            BadImage: of a kind that is not taken, corrupt, or smaller than the crop.
        """
        return self.sample(item, self.picture(item))

    def sample(self, item: ImageFile, picture: Picture) -> Sample:
        """A file's picture as ``draw`` gives it; errors as of ``draw``."""
        pixels = np.asarray(crop_and_resize(picture.image, self.crop, self.size))
        return Sample(pixels, item.codes, digest64(pixels.tobytes()), picture.oddities)

    def picture(self, item: ImageFile) -> Picture:
        """One file's picture as it is, upright and RGB; errors as of ``draw``."""
        content = _content(self.place, item.path)
        return read_picture(content, self.extra_formats, takes_cmyk=self.takes_cmyk)

    def name_of(self, item: ImageFile) -> str:
        """The relative path."""
        return item.path


def _content(place: str, path: str) -> bytes:
    if _is_folder(place):
        return picture_bytes(f"{place}/{path}")
    return read_member(_open_zip(place), path)


@functools.lru_cache(maxsize=1)
def _is_folder(place: str) -> bool:
    """Whether it is a folder and not a zip; looked up once, not for every image."""
    return Path(place).is_dir()


@functools.lru_cache(maxsize=1)
def _open_zip(place: str) -> zipfile.ZipFile:
    return open_zip(Path(place))


def name_hash(path: str) -> str:
    """Hex SHA-256 of a relative path: a fixed random order of files."""
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()


def max_held_out(num_held_out: int, num_images: int) -> int:
    """``num_held_out``, but at most a tenth of the images, and at least one.

    Raises:
        UserError: fewer than two images.
    """
    if num_images < 2:
        raise UserError("one image can't be split into train and held-out; give at least two.")
    return min(num_held_out, max(1, num_images // 10))


def first_by_hash(files: Sequence[ImageFile], count: int | None) -> list[ImageFile]:
    """At most ``count`` of the files, chosen by name hash, in their order (None: all of them)."""
    if count is None:
        return list(files)
    chosen = set(sorted(files, key=lambda file: name_hash(file.path))[:count])
    return [file for file in files if file in chosen]


def split_by_hash(
    files: Sequence[ImageFile], num_held_out: int
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Training files in their order, and held-out ones: those whose paths have the least hashes.

    Raises:
        UserError: fewer than two files.
    """
    in_hash_order = sorted(files, key=lambda file: name_hash(file.path))
    held_out = in_hash_order[: max_held_out(num_held_out, len(files))]
    kept_out = set(held_out)
    return [file for file in files if file not in kept_out], held_out


def plan_folder(config: "DataConfig") -> Plan:
    """The images of any folder or zip, split by name hash; nothing is decoded yet.

    Raises:
        SourceAbsent: the path is not there or holds no images.
        UserError: it is neither a folder nor a zip, or a format that is not read here.
    """
    place = Path(config.dataset)
    try:
        place = place.expanduser()
        there = place.exists()
    except (OSError, RuntimeError):  # a name too long for any file, the home of nobody
        there = False
    if not there:
        raise SourceAbsent(
            f"unknown dataset {config.dataset!r}, and no folder or zip of that name is here",
            "." + did_you_mean(config.dataset, DATASETS),
        )
    listing = list_images(place, suffixes=suffixes(config.extra_formats))
    labels, captions = _labels(config, listing), _captions(config, listing)
    if captions is not None:
        listing = _without(listing, captions)
    codes = {} if labels is None else {path: (code,) for path, code in labels.codes.items()}
    files = [ImageFile(path, codes.get(path, ())) for path in listing.paths]
    train, held_out = split_by_hash(files, config.num_held_out)
    description = {
        "dataset": printable(listing.place.resolve().stem),
        "files_sha256": sha256_of_json(list(listing.paths)),
        "split": "held-out: smallest SHA-256 of the relative path",
        **({"labels_sha256": sha256_of_json(_identity(labels))} if labels is not None else {}),
    }
    label_names = {} if labels is None else {labels.label: labels.names}
    plan = plan_files(
        config, listing, train, held_out, description, label_names, captioner=captions
    )
    if labels is not None:
        check_filled(labels.names, (item.codes[0] for item in plan.train), listing.place)
    return plan


def _identity(labels: "FileLabels") -> dict[str, Any]:
    """What tells labels from others of the same images, which may have the same codes."""
    return {labels.label: [labels.names, labels.codes]}


def _labels(config: "DataConfig", listing: Listing) -> "FileLabels | None":
    """The classes that a config asks for; None where it asks for none that files have."""
    # Here, for it brings pydantic, and workers never come here.
    from mindiffusion.data.file_labels import BY, labels_of_files

    return labels_of_files(config.labels, listing) if config.labels in BY else None


def _captions(config: "DataConfig", listing: Listing) -> "FileCaptions | None":
    """The captions that a config asks for; None where it asks for none that files have."""
    from mindiffusion.data.file_captions import BY, captions_of_files  # as above

    return captions_of_files(config.captions, listing) if config.captions in (AUTO, *BY) else None


def _without(listing: Listing, captions: "FileCaptions") -> Listing:
    from mindiffusion.data.file_captions import without  # as above

    return without(listing, captions.files)


def suffixes(extra_formats: Sequence[str]) -> tuple[str, ...]:
    """Suffixes of the files that are taken for images.

    Raises:
        UserError: a format that is asked for and not read here.
    """
    for name in extra_formats:
        if not available(name):
            raise UserError(
                f"data.extra_formats asks for {name}, which the Pillow installed here "
                f"({importlib.metadata.version('pillow')}) does not read; install a newer one."
            )
    return (*IMAGE_SUFFIXES, *(suffix for name in extra_formats for suffix in EXTRA_FORMATS[name]))


def _how_to_take(left_out: Mapping[str, Sequence[str]]) -> str:
    """What takes files that are left out by their suffix alone."""
    names = [
        name
        for name, suffixes in EXTRA_FORMATS.items()
        if any(of_suffix(suffix) in left_out for suffix in suffixes)
    ]
    return f"; data.extra_formats=[{','.join(names)}] takes such images too" if names else ""


def plan_files(
    config: "DataConfig",
    listing: Listing,
    train: Sequence[ImageFile],
    held_out: Sequence[ImageFile],
    description: dict[str, str],
    label_names: dict[str, list[str]],
    notes: Sequence[str] = (),
    captioner: Captioner | None = None,
) -> Plan:
    """A plan for files that are already split; ``notes`` are told to the user."""
    left_out = told_left_out(listing.left_out) + _how_to_take(listing.left_out)
    return Plan(
        name=description["dataset"],
        origin=str(listing.place),
        source=FileSource(
            str(listing.place.resolve()), config.crop, config.size, config.extra_formats
        ),
        size=config.size,
        train=first_by_hash(train, config.num_train),
        held_out=held_out,
        num_held_out=len(held_out),
        replace_duplicates=False,
        label_names=label_names,
        description={
            **description,
            "num_files": len(listing.paths),
            "crop": config.crop,
            "filter": filter_of(config.crop),
            "reading": RULE,
            "versions": {"pillow": importlib.metadata.version("pillow")},
        },
        fingerprint=listing.fingerprint,
        oddities=ODDITIES,
        notes=(*notes, *([f"left out: {left_out}"] if left_out else [])),
        captioner=captioner,
    )
