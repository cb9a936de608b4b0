from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _write_images(folder: Path, count: int, shape: tuple[int, int] = (218, 178)) -> list[str]:
    """Smooth random RGB PNGs ``000001.png`` ... of (height, width) ``shape``."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:06d}.png" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(shape[::-1]).save(folder / name)
    return names


@pytest.fixture
def write_images():
    """The function that writes ``count`` images of a shape into a folder."""
    return _write_images


@pytest.fixture
def image_folder(tmp_path):
    """20 images of CelebA's size."""
    _write_images(tmp_path / "faces", 20)
    return tmp_path / "faces"
