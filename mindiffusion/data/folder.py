"""Images in a folder or a zip: listing, splitting, decoding."""

import functools
import hashlib
import importlib.metadata
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from mindiffusion.data.crops import FILTER, crop_and_resize
from mindiffusion.data.names import DATASETS
from mindiffusion.data.source import BadImage, Plan, Sample, digest64
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import sha256_of_json

if TYPE_CHECKING:  # a worker that decodes files starts in half the time without pydantic
    from mindiffusion.data.spec import DataConfig

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
#: What Pillow and zipfile raise on broken input.
DECODE_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)


class ImageFile(NamedTuple):
    """One image file of a folder or member of a zip."""

    path: str  # relative to the folder, or the member's name
    codes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Listing:
    """The images found at one place, sorted by relative path.

    Attributes:
        place: the folder or zip.
        paths: relative paths of the images.
        fingerprint: changes when a file is added, removed or changed.
    """

    place: Path
    paths: Sequence[str]
    fingerprint: str


@dataclass(frozen=True)
class FileSource:
    """Decodes, crops and resizes image files."""

    place: str
    crop: str
    size: int

    def draw(self, item: ImageFile) -> Sample:
        """One file as a (size, size, 3) image.

        Raises:
            BadImage: corrupt, not RGB, or smaller than the crop.
        """
        try:
            with Image.open(_open(self.place, item.path)) as image:
                if image.mode != "RGB":
                    raise BadImage(f"not RGB (mode {image.mode})")
                pixels = np.asarray(crop_and_resize(image, self.crop, self.size))
        except DECODE_ERRORS as error:
            raise BadImage(f"can't be decoded ({type(error).__name__})") from error
        return Sample(pixels, item.codes, digest64(pixels.tobytes()))

    def name_of(self, item: ImageFile) -> str:
        """The relative path."""
        return item.path


def _open(place: str, path: str) -> io.BytesIO | Path:
    folder = _as_folder(place)
    if folder is not None:
        return folder / path
    try:
        return io.BytesIO(_open_zip(place).read(path))
    except RuntimeError as error:  # encrypted, or packed in a way this Python can't unpack
        raise BadImage(f"can't be unpacked ({error})") from error


@functools.lru_cache(maxsize=1)
def _as_folder(place: str) -> Path | None:
    """The place, if it is a folder and not a zip; looked up once, not for every image."""
    folder = Path(place)
    return folder if folder.is_dir() else None


@functools.lru_cache(maxsize=1)
def _open_zip(place: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(place)


def is_image(path: str) -> bool:
    """Whether a relative path is an image's; hidden files and macOS's copies are not."""
    if not path.lower().endswith(IMAGE_SUFFIXES):
        return False
    parts = [part for part in path.split("/") if part != "."]
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def list_images(place: Path, recursive: bool = True) -> Listing:
    """All images of a folder or zip.

    Args:
        place: a folder, or a zip (always searched whole).
        recursive: for folders: look into subfolders too.

    Raises:
        UserError: ``place`` is not a folder or zip, or holds no image.
    """
    if place.is_dir():
        found = _in_folder(place, recursive)
    elif zipfile.is_zipfile(place):
        found = _in_zip(place)
    else:
        raise UserError(f"{place} is neither a folder nor a whole .zip; give one of images.")
    if not found:
        raise UserError(f"{place} holds no images (looked for {', '.join(IMAGE_SUFFIXES)}).")
    found.sort()
    return Listing(place, [path for path, *_ in found], sha256_of_json(found))


def _in_folder(place: Path, recursive: bool) -> list[tuple[str, int, int]]:
    """Relative path, size in bytes and time of change in ns of each image.

    What can't be looked at, such as a link to nowhere, counts as an image of size and time 0:
    drawing it fails and names it as a bad one.
    """
    found = []
    for parent, folders, names in os.walk(place):
        if not recursive:
            folders.clear()
        # Once a folder, not once a file: building paths was most of a listing's time.
        inside = Path(parent).relative_to(place).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        for name in names:
            path = prefix + name
            if not is_image(path):
                continue
            try:
                status = Path(parent, name).stat()
            except OSError:
                found.append((path, 0, 0))
                continue
            if stat.S_ISREG(status.st_mode):
                found.append((path, status.st_size, status.st_mtime_ns))
    return found


def _in_zip(place: Path) -> list[tuple[str, int, int]]:
    """Name, size in bytes and CRC-32 of each image."""
    try:
        with zipfile.ZipFile(place) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise UserError(f"{place} is a damaged .zip ({error}); supply it again.") from error
    return [(m.filename, m.file_size, m.CRC) for m in members if is_image(m.filename)]


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


def plan_folder(config: "DataConfig") -> Plan:
    """The images of any folder or zip, split by name hash; nothing is decoded yet.

    Raises:
        UserError: the path is not there or holds no images.
    """
    place = Path(config.dataset)
    try:
        place = place.expanduser()
        there = place.exists()
    except (OSError, RuntimeError):  # a name too long for any file, the home of nobody
        there = False
    if not there:
        raise UserError(
            f"unknown dataset {config.dataset!r}, and no folder or zip of that name is here."
            + did_you_mean(config.dataset, DATASETS)
        )
    listing = list_images(place)
    files = [ImageFile(path) for path in listing.paths]
    in_hash_order = sorted(files, key=lambda file: name_hash(file.path))
    held_out = in_hash_order[: max_held_out(config.num_held_out, len(files))]
    kept_out = set(held_out)
    train = [file for file in files if file not in kept_out]
    description = {
        "dataset": listing.place.resolve().stem,
        "files_sha256": sha256_of_json(list(listing.paths)),
        "split": "held-out: smallest SHA-256 of the relative path",
    }
    return plan_files(config, listing, train, held_out, description, {})


def plan_files(
    config: "DataConfig",
    listing: Listing,
    train: Sequence[ImageFile],
    held_out: Sequence[ImageFile],
    description: dict[str, str],
    label_names: dict[str, list[str]],
) -> Plan:
    """A plan for files that are already split."""
    return Plan(
        name=description["dataset"],
        origin=str(listing.place),
        source=FileSource(str(listing.place.resolve()), config.crop, config.size),
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
            "filter": FILTER,
            "versions": {"pillow": importlib.metadata.version("pillow")},
        },
        fingerprint=listing.fingerprint,
    )
