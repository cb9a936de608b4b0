"""Anybody's images as uint8 batches: a folder, a zip, an ``.npy`` or an ``.npz`` array."""

import collections
import difflib
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from benchmark.evaluation.images.image_files import (
    check_level,
    decode,
    decoding_threads,
    first_of,
    look_at_all,
    notes_on,
    opened,
)
from mindiffusion.data.listing import IMAGE_SUFFIXES, find_images, is_image
from mindiffusion.data.prepared import SPLITS, is_whole, load_prepared
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.arrays import Declared, describe_npz, map_npy, open_npz_array
from mindiffusion.outside.documents import Name, read_json
from mindiffusion.outside.pictures import MOST_PIXELS
from mindiffusion.outside.zips import is_zip, kind_of
from mindiffusion.printable import printable

Batch = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Indices (B,) of images and their pixels (B, H, W, 3)."""

_ALLOWED = "Give a folder or .zip of images, or an .npy or .npz of uint8 (N, H, W, 3)."
_FILES_PER_TASK = 32
_BATCHES_AHEAD = 2
_BATCH_PIXELS = 1 << 24
"""Of a batch, unless one image has more: 64 images of 512 x 512, or one photograph."""
_BLOCK_BYTES = 1 << 24
_NAMED_ARRAYS = 6


@dataclass(frozen=True, eq=False)
class ImageSource(ABC):
    """A set of images to be scored.

    Attributes:
        path: where they are.
        count: how many, ≥ 2.
        sizes: their (height, width) in pixels.
        digest: hex SHA-256 of the content: names and bytes of files, or pixels of an array.
        notes: lines that the user should read beside any number.
        manifest: id of the data set that they are of or were learned from, where that is known.
    """

    path: Path
    count: int
    sizes: frozenset[tuple[int, int]]
    digest: str
    notes: tuple[str, ...]
    manifest: str | None

    @abstractmethod
    def batches(self, size: int) -> Iterator[Batch]:
        """All images, at most ``size`` at a time, those of one batch of one height and width.

        Each run of ``size`` consecutive images, or of fewer where they are large, gives one batch
        for each size found in it, so indices rise throughout where all images are alike. The order
        is always the same, and the memory needed does not grow with the images' sizes.

        Raises:
            UserError: an image can't be decoded; the message names it.
        """


@dataclass(frozen=True, eq=False)
class ImageArray(ImageSource):
    """Images that are one array (N, H, W, 3) uint8, mapped from a file."""

    array: NDArray[np.uint8] = field(repr=False)

    def batches(self, size: int) -> Iterator[Batch]:
        """Consecutive images; see :meth:`ImageSource.batches`."""
        step = min(size, max(1, _BATCH_PIXELS // (self.array.shape[1] * self.array.shape[2])))
        for start in range(0, self.count, step):
            images = np.array(self.array[start : start + step])
            yield np.arange(start, start + len(images)), images


@dataclass(frozen=True, eq=False)
class ImageFiles(ImageSource):
    """Images that are files of a folder or members of a zip, in the order of their names.

    Attributes:
        names: of the files.
        pixels: of each.
    """

    names: Sequence[str] = field(repr=False)
    pixels: Sequence[int] = field(repr=False)

    def batches(self, size: int) -> Iterator[Batch]:
        """Decoded by threads, a little ahead of the caller; see :meth:`ImageSource.batches`."""
        waiting: collections.deque[tuple[range, list[Future[list[NDArray[np.uint8]]]]]]
        waiting = collections.deque()
        threads, ahead = decoding_threads(self.sizes), 0
        with opened(self.path) as read, ThreadPoolExecutor(threads) as pool:

            def task(names: Sequence[str]) -> list[NDArray[np.uint8]]:
                return [decode(self.path, name, read) for name in names]

            for run in _runs(self.pixels, size):
                pixels = self._pixels_of(run)
                while waiting and ahead + pixels > MOST_PIXELS:
                    ahead -= self._pixels_of(waiting[0][0])
                    yield from _by_size(*waiting.popleft())
                names = self.names[run.start : run.stop]
                firsts = range(0, len(names), _FILES_PER_TASK)
                tasks = [pool.submit(task, names[k : k + _FILES_PER_TASK]) for k in firsts]
                waiting.append((run, tasks))
                ahead += pixels
                if len(waiting) > _BATCHES_AHEAD:
                    ahead -= self._pixels_of(waiting[0][0])
                    yield from _by_size(*waiting.popleft())
            while waiting:
                yield from _by_size(*waiting.popleft())

    def _pixels_of(self, run: range) -> int:
        return sum(self.pixels[run.start : run.stop])


def _runs(pixels: Sequence[int], size: int) -> Iterator[range]:
    """Consecutive images: at most ``size``, and of no more pixels than a batch may have."""
    start = total = 0
    for index, one in enumerate(pixels):
        if index - start == size or (index > start and total + one > _BATCH_PIXELS):
            yield range(start, index)
            start, total = index, 0
        total += one
    yield range(start, len(pixels))


def open_images(path: Path) -> ImageSource:
    """A folder or zip of images, or an array of them, checked as far as that is cheap.

    Grey, palette and opaque RGBA images are converted to RGB, and ``notes`` count them. Refused
    is what would need a choice that is not ours: transparency, 16 bits a channel, CMYK.

    Args:
        path: a folder with the images right in it; a ``.zip`` with all of them in one folder; an
            ``.npy`` (N, H, W, 3) uint8, or an ``.npz`` with one such array.

    Raises:
        UserError: nothing there, nothing usable, fewer than two images, or a bad image.
    """
    place = path.expanduser()
    if place.is_dir():
        return _open_files(place)
    if not place.exists():
        raise UserError(f"{path} does not exist.{_nearest(place)} {_ALLOWED}")
    if place.suffix.lower() in (".npy", ".npz"):
        return _open_array(place)
    if is_zip(place):
        return _open_files(place)
    if is_image(place.name):
        raise UserError(f"{path} is one image; a distance needs 2 or more. {_ALLOWED}")
    raise UserError(f"{path} is {kind_of(place)}. {_ALLOWED}")


def _nearest(path: Path) -> str:
    """``' Did you mean ...?'`` where something of nearly that name is there."""
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.parent / near[0]}?" if near else ""


def origin_file(path: Path) -> Path:
    """The file beside an array that says by its ``manifest`` which data set is behind it."""
    return path.with_name(path.name + ".json")


def origin_of(path: Path) -> str | None:
    """The manifest id that an array's file carries; None where it carries none.

    An array of a prepared data set has that of its folder, after a check of its bytes; samples
    drawn by ``benchmark sample`` have that of the data that the net was trained on.

    Raises:
        UserError: the file beside it that should say so can't be read.
    """
    if path.name in [f"{split}.npy" for split in SPLITS] and is_whole(path.parent):
        return load_prepared(path.parent).manifest_id
    beside = origin_file(path)
    if not beside.is_file():
        return None
    advice = f"delete it, or draw {path} again."
    return read_json(beside, _Origin, advice, follow=True).manifest


class _Origin(BaseModel):
    """What stands beside an array of samples."""

    model_config = ConfigDict(strict=True)

    manifest: Name


def _open_array(path: Path) -> ImageArray:
    array = _images_in_npz(path) if path.suffix.lower() == ".npz" else map_npy(path)
    _check_images(path, array.dtype, array.shape)
    _check_count(path, len(array))
    height, width = array.shape[1:3]
    digest = hashlib.sha256(json.dumps(array.shape).encode())
    step = max(1, _BLOCK_BYTES // array[0].nbytes)
    for start in range(0, len(array), step):
        digest.update(np.ascontiguousarray(array[start : start + step]).data)
    return ImageArray(
        path=path,
        count=len(array),
        sizes=frozenset({(height, width)}),
        digest=digest.hexdigest(),
        notes=(),
        manifest=origin_of(path),
        array=array,
    )


def _check_images(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape[1:]:
        raise UserError(
            f"{path} holds {dtype} {shape}; give uint8 (N, H, W, 3): channels last, 0 to 255, "
            "rounded once."
        )


def _images_in_npz(path: Path) -> NDArray:
    """The one array of four dimensions; beside it may stand labels, as in files of other tools."""
    declared = describe_npz(path)
    images = [name for name, one in declared.items() if one and len(one.shape) == 4]
    if len(images) != 1:
        raise UserError(
            f"{path} holds {_listed(declared)}; give one array of images, uint8 (N, H, W, 3)."
        )
    (name,) = images
    found = declared[name]
    assert found is not None
    _check_images(path, found.dtype, found.shape)
    return open_npz_array(path, name)


def _listed(declared: Mapping[str, Declared | None]) -> str:
    names = [
        f"{printable(name, 40)} {one.shape if one else 'of no numbers'}"
        for name, one in declared.items()
    ]
    more = [] if len(names) <= _NAMED_ARRAYS else [f"… ({len(names)} in all)"]
    return ", ".join([*names[:_NAMED_ARRAYS], *more]) or "nothing"


def _check_count(path: Path, count: int) -> None:
    if count < 2:
        number = "one image" if count else "no images"
        raise UserError(f"{path} holds {number}; a distance needs 2 or more.")


def _open_files(place: Path) -> ImageFiles:
    listing = find_images(place)
    names = listing.paths
    others = sorted(name for some in listing.left_out.values() for name in some)
    if not names and is_whole(place):
        raise UserError(
            f"{place} is a prepared data set; give the train.npy or held_out.npy in it."
        )
    if not names:
        raise UserError(f"{place} holds no images (looked for {', '.join(IMAGE_SUFFIXES)}).")
    check_level(place, names)
    _check_count(place, len(names))
    facts = look_at_all(place, names)
    left_out = [f"{len(others)} files that are no images left out: {first_of(others)}"]
    return ImageFiles(
        path=place,
        count=len(names),
        sizes=frozenset(fact.size for fact in facts),
        # Of names without their folder: a zipped folder has the digest of the folder.
        digest=sha256_of_json(
            [[PurePosixPath(n).name, f.sha256] for n, f in zip(names, facts, strict=True)]
        ),
        notes=(*(left_out if others else []), *notes_on(facts)),
        manifest=None,
        names=names,
        pixels=[height * width for height, width in (fact.size for fact in facts)],
    )


def _by_size(run: range, tasks: Iterable[Future[list[NDArray[np.uint8]]]]) -> Iterator[Batch]:
    """Consecutive images, one batch for each of their sizes."""
    images = [image for task in tasks for image in task.result()]
    alike: dict[tuple[int, ...], list[int]] = {}
    for offset, image in enumerate(images):
        alike.setdefault(image.shape, []).append(offset)
    for offsets in alike.values():
        yield run.start + np.array(offsets), np.stack([images[offset] for offset in offsets])
