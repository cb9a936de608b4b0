"""The pictures that all loops of a table train on: portraits as JPEGs of CelebA's size."""

import functools
import shutil
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from mindiffusion.data.avatars import AvatarSource
from mindiffusion.data.folder import FileSource, ImageFile
from mindiffusion.files import exclusive_lock
from mindiffusion.machine import available_cores
from mindiffusion.places import cache_root

WIDTH, HEIGHT = 178, 218
QUALITY = 95
NUM_DISTINCT = 512
"""Portraits drawn; further files are copies of them, which take as long to decode."""
CLASS_FOLDER = "faces"
"""torchvision's ImageFolder wants its images one folder down."""


def speed_cache() -> Path:
    """Where such pictures are kept."""
    return cache_root() / "speed"


def jpeg_folder(count: int, cache: Path | None = None) -> Path:
    """A folder with ``faces/000000.jpg`` …: ``count`` files, made once and then kept.

    Args:
        count: number of files.
        cache: where such folders are kept; None: ``speed_cache()``.
    """
    cache = cache or speed_cache()
    folder = cache / f"jpeg-{WIDTH}x{HEIGHT}-{count}"
    with exclusive_lock(cache / f".{folder.name}.lock", wait_seconds=float("inf")):
        if not folder.exists():
            unfinished = cache / f"unfinished-{folder.name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            (unfinished / CLASS_FOLDER).mkdir(parents=True)
            draw = functools.partial(draw_jpeg, unfinished / CLASS_FOLDER)
            with get_context("spawn").Pool(available_cores()) as pool:
                for _ in pool.imap_unordered(draw, range(min(count, NUM_DISTINCT)), chunksize=16):
                    pass
            for index in range(NUM_DISTINCT, count):
                first = file_of(unfinished / CLASS_FOLDER, index % NUM_DISTINCT)
                shutil.copyfile(first, file_of(unfinished / CLASS_FOLDER, index))
            unfinished.rename(folder)
    return folder


def file_of(folder: Path, index: int) -> Path:
    """Where picture ``index`` is."""
    return folder / f"{index:06d}.jpg"


def draw_jpeg(folder: Path, index: int) -> None:
    """Portrait ``index``, cut from a square to CelebA's shape, as a JPEG file."""
    square = AvatarSource(("personas",), HEIGHT).draw(index).pixels
    left = (HEIGHT - WIDTH) // 2
    image = Image.fromarray(np.ascontiguousarray(square[:, left : left + WIDTH]))
    image.save(file_of(folder, index), quality=QUALITY)


def names(folder: Path) -> list[str]:
    """Relative paths of a folder's JPEGs, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.jpg"))


def prepared_array(folder: Path, side: int) -> np.ndarray:
    """The folder's pictures as our preparation makes them, squashed: (N, side, side, 3) uint8."""
    source = FileSource(str(folder), "squash", side)
    return np.stack([source.draw(ImageFile(name)).pixels for name in names(folder)])
