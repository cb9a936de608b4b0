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
    ("center178", 178, 0, 20), ("center140", 140, 19, 39), ("uvit128", 128, 25, 57)
])  # fmt: skip
def test_crop_keeps_its_square(crop, side, left, top):
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


def test_uvit_crop_at_64_pixels_is_the_bilinear_formula():
    """Halving weighs four neighbours 1, 3, 3, 1; at the edges those that are there."""
    noise = np.random.default_rng(1).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    weights = np.zeros((64, 128))
    for row in range(64):
        for offset, weight in zip(range(-1, 3), (1, 3, 3, 1), strict=True):
            if 0 <= 2 * row + offset < 128:
                weights[row, 2 * row + offset] = weight
    weights /= weights.sum(1, keepdims=True)
    square = noise[57:185, 25:153].astype(float)
    expected = np.einsum("ia,abc,jb->ijc", weights, square, weights)
    found = np.asarray(crop_and_resize(Image.fromarray(noise), "uvit128", 64))
    # Both of PIL's passes round to whole grey levels.
    assert np.abs(found - expected).max() <= 1.01


@pytest.mark.parametrize(("height", "width"), [(184, 178), (218, 152)])
def test_uvit_crop_of_a_smaller_picture_is_refused(height, width):
    with pytest.raises(BadImage, match=f"{width}x{height} pixels, smaller than crop uvit128"):
        crop_and_resize(coordinates(height, width), "uvit128", 64)
    crop_and_resize(coordinates(185, 153), "uvit128", 64)


def test_crop_larger_than_the_image_is_refused():
    with pytest.raises(BadImage, match="178x170 pixels, smaller than crop center178"):
        crop_and_resize(coordinates(170, 178), "center178", 32)
