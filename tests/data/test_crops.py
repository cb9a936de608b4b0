import numpy as np
import pytest
from PIL import Image

from mindiffusion.data.crops import crop_and_resize
from mindiffusion.outside.pictures import BadImage


def coordinates(height: int, width: int) -> Image.Image:
    """An image whose red is the column and whose green is the row."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))


@pytest.mark.parametrize(("crop", "side", "left", "top"), [
    ("center178", 178, 0, 20), ("center140", 140, 19, 39)
])  # fmt: skip
def test_center_crop_keeps_the_middle_pixels(crop, side, left, top):
    pixels = np.asarray(crop_and_resize(coordinates(218, 178), crop, side))
    assert tuple(pixels[0, 0, :2]) == (left, top)
    assert tuple(pixels[-1, -1, :2]) == (left + side - 1, top + side - 1)


def test_squash_keeps_the_whole_picture():
    pixels = np.asarray(crop_and_resize(coordinates(218, 178), "squash", 32)).astype(float)
    assert pixels[..., 0].mean() == pytest.approx(177 / 2, abs=1)
    assert pixels[..., 1].mean() == pytest.approx(217 / 2, abs=1)


def test_squash_equals_torchvision_resize():
    transforms = pytest.importorskip("torchvision.transforms")
    noise = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    expected = np.asarray(transforms.Resize((32, 32))(image))
    assert np.array_equal(np.asarray(crop_and_resize(image, "squash", 32)), expected)


def test_crop_larger_than_the_image_is_refused():
    with pytest.raises(BadImage, match="178x170 pixels, smaller than crop center178"):
        crop_and_resize(coordinates(170, 178), "center178", 32)
