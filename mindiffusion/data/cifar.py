"""CIFAR-10 as its author passes it on: the folder ``cifar-10-batches-py`` of six Python files.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images". A batch has rows
of 3072 bytes: the red, the green and the blue plane of 32×32 pixels, row by row. Nothing is
downloaded: torchvision's ``CIFAR10(root, download=True)`` leaves the folder below its root.
"""

import functools
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindiffusion.data.classes import FEWEST_CLASSES, MOST_CLASSES, check_filled
from mindiffusion.data.crops import crop_and_resize, filter_of
from mindiffusion.data.folder import name_hash
from mindiffusion.data.source import Plan, Sample, digest64
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.pickles import read_plain_pickle
from mindiffusion.printable import is_printable

if TYPE_CHECKING:  # a worker that decodes images starts in half the time without pydantic
    from mindiffusion.data.spec import DataConfig

FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
NAMES = "batches.meta"
LABEL = "class"
SIDE = 32
_MOST_NAME = 80


class CifarImage(NamedTuple):
    """One row of one file."""

    file: str
    row: int
    codes: tuple[int, ...]

    @property
    def name(self) -> str:
        """Such as ``data_batch_1/37``."""
        return f"{self.file}/{self.row}"


class CifarSource(NamedTuple):
    """Takes images out of the files.

    Attributes:
        place: the folder.
        crop: one of ``CROPS``.
        size: side of the square images, in pixels.
    """

    place: str
    crop: str
    size: int

    def draw(self, item: CifarImage) -> Sample:
        """One image as (size, size, 3); its code is its class.

        Raises:
            BadImage: it is smaller than the crop.
            UserError: the file is not what it was.
        """
        path = Path(self.place) / item.file
        rows, classes = _batch(path)
        if item.row >= len(classes) or (classes[item.row],) != item.codes:
            raise UserError(
                f"{path} has changed since it was listed (row {item.row}); run again once nothing "
                "writes to it."
            )
        planes = rows[item.row].reshape(3, SIDE, SIDE)
        image = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
        pixels = np.asarray(crop_and_resize(image, self.crop, self.size))
        return Sample(pixels, item.codes, digest64(pixels.tobytes()))

    def name_of(self, item: CifarImage) -> str:
        """Such as ``data_batch_1/37``."""
        return item.name


def is_cifar(dataset: str) -> bool:
    """Whether a data set's name is the path of such a folder, or of the folder around it."""
    return _place(dataset) is not None


def _place(dataset: str) -> Path | None:
    try:
        given = Path(dataset).expanduser()
        return next((p for p in (given, given / FOLDER) if (p / TRAIN[0]).is_file()), None)
    except (OSError, RuntimeError):  # a name too long for any file, the home of nobody
        return None


def plan_cifar(config: "DataConfig") -> Plan:
    """CIFAR-10's images; its test images are the held-out ones.

    Raises:
        UserError: a file is missing or is not one of CIFAR-10's, a setting has no effect, or a
            class that networks are to be told has no training image.
    """
    place = _place(config.dataset)
    assert place is not None
    _refuse_formats(config, place)
    names = _names(place)
    train = _train_images(config, place, names)
    held_out = _images(place, TEST, names)
    return Plan(
        name="cifar10",
        origin=str(place),
        source=CifarSource(str(place.resolve()), config.crop, config.size),
        size=config.size,
        train=train,
        held_out=held_out,
        num_held_out=min(config.num_held_out, len(held_out)),
        replace_duplicates=False,
        label_names={LABEL: names},
        description={
            "dataset": "cifar10",
            "split": "train: data batches; held-out: first of the test batch",
            "chosen": "smallest SHA-256 of the file's name and the row",
            "crop": config.crop,
            "filter": filter_of(config.crop),
            "versions": {"pillow": importlib.metadata.version("pillow")},
        },
        fingerprint=_fingerprint(place),
    )


def _refuse_formats(config: "DataConfig", place: Path) -> None:
    if config.extra_formats:
        raise UserError(
            f"data.extra_formats are for folders and zips of images; {place} has CIFAR-10's own "
            "files: leave them out."
        )


def _train_images(config: "DataConfig", place: Path, names: list[str]) -> list[CifarImage]:
    train = [image for file in TRAIN for image in _images(place, file, names)]
    if config.num_train is not None:
        chosen = set(sorted(train, key=lambda image: name_hash(image.name))[: config.num_train])
        train = [image for image in train if image in chosen]
    if config.labels == LABEL:
        check_filled(names, (image.codes[0] for image in train), place)
    return train


def _fingerprint(place: Path) -> str:
    """Changes when a file does."""
    stats = [(place / file).stat() for file in (*TRAIN, TEST, NAMES)]
    return sha256_of_json([(one.st_size, one.st_mtime_ns) for one in stats])


def _names(place: Path) -> list[str]:
    found = _content(place / NAMES).get(b"label_names")
    names = [one.decode("utf-8", "replace") for one in found or () if isinstance(one, bytes)]
    is_right = isinstance(found, list) and len(found) == len(set(names))
    is_right = is_right and FEWEST_CLASSES <= len(names) <= MOST_CLASSES
    if not is_right or not all(0 < len(one) <= _MOST_NAME and is_printable(one) for one in names):
        raise UserError(
            f"{place / NAMES} must have label_names, a list of {FEWEST_CLASSES} to {MOST_CLASSES} "
            "different names; give CIFAR-10's own."
        )
    return names


def _images(place: Path, file: str, names: list[str]) -> list[CifarImage]:
    classes = _batch(place / file)[1]
    if max(classes) >= len(names) or min(classes) < 0:
        raise UserError(
            f"{place / file} has classes from {min(classes)} to {max(classes)}, but {NAMES} names "
            f"0 to {len(names) - 1}; give files of one data set."
        )
    return [CifarImage(file, row, (number,)) for row, number in enumerate(classes)]


@functools.lru_cache(maxsize=1)
def _batch(path: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Pixels (N, 3072) and classes of a file.

    Raises:
        UserError: it is not one of CIFAR-10's.
    """
    content = _content(path)
    pixels, classes = content.get(b"data"), content.get(b"labels")
    if not isinstance(pixels, np.ndarray) or not isinstance(classes, list):
        raise UserError(f"{path} lacks data or labels; give CIFAR-10's own (not CIFAR-100's).")
    is_right = pixels.shape == (len(classes), 3 * SIDE**2) and len(classes) > 0
    if not is_right or not all(type(one) is int for one in classes):
        raise UserError(
            f"{path} has data of shape {pixels.shape} and {len(classes)} labels; expected "
            f"(N, {3 * SIDE**2}) and N whole numbers. Give CIFAR-10's own."
        )
    return pixels, classes


def _content(path: Path) -> dict[bytes, Any]:
    try:
        return read_plain_pickle(path)
    except FileNotFoundError:
        raise UserError(
            f"{path.parent} lacks {path.name}; CIFAR-10 has {TRAIN[0]} to 5, {TEST} and {NAMES}."
        ) from None
