import numpy as np
import pytest
from PIL import Image

from mindiffusion.data.crops import _HOW, crop_and_resize, filter_of
from mindiffusion.data.names import CROPS
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


@pytest.mark.parametrize(
    ("width", "height", "halves", "whole"),
    # By hand, of size 64: halved while the shorter side has 128, then made 64 on that side.
    [
        (178, 218, [(89, 109)], (64, 78)),
        (500, 375, [(250, 187), (125, 93)], (86, 64)),
        (333, 500, [(166, 250), (83, 125)], (64, 96)),
        (127, 100, [], (81, 64)),
        (61, 40, [], (98, 64)),
    ],
)
def test_adm_crop_halves_while_it_can_and_keeps_the_middle(width, height, halves, whole):
    noise = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    found = np.asarray(crop_and_resize(image, "adm", 64))
    for size in halves:
        image = image.resize(size, Image.Resampling.BOX)
    pixels = np.asarray(image.resize(whole, Image.Resampling.BICUBIC))
    left, top = ((side - 64) // 2 for side in whole)
    assert np.array_equal(found, pixels[top : top + 64, left : left + 64])


def test_adm_crop_is_the_square_in_the_middle():
    pixels = np.asarray(crop_and_resize(coordinates(100, 200), "adm", 100)).astype(int)
    assert pixels[0, 0].tolist()[:2] == [50, 0] and pixels[-1, -1].tolist()[:2] == [149, 99]


def test_adm_crop_halves_by_the_mean_of_four():
    noise = np.random.default_rng(3).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    found = np.asarray(crop_and_resize(Image.fromarray(noise), "adm", 64))
    mean = noise.reshape(64, 2, 64, 2, 3).astype(float).mean((1, 3))
    # Both of PIL's passes round to whole grey levels.
    assert np.abs(found - mean).max() <= 1.01


def test_adm_crop_of_an_image_of_the_size_changes_nothing():
    noise = np.random.default_rng(4).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(crop_and_resize(Image.fromarray(noise), "adm", 64)), noise)


def test_adm_crop_of_a_line_of_pixels_is_refused():
    with pytest.raises(BadImage, match="has 65000x4 pixels, one side more than 64 times the other"):
        crop_and_resize(Image.new("RGB", (65_000, 4)), "adm", 1024)
    found = crop_and_resize(Image.new("RGB", (4, 256), (9, 8, 7)), "adm", 32)
    assert found.size == (32, 32) and found.getpixel((5, 5)) == (9, 8, 7)


def test_every_crop_that_configs_name_is_there_and_says_its_filter():
    assert tuple(_HOW) == CROPS
    # It stands in the manifests of kept data.
    assert {filter_of(crop) for crop in CROPS if crop != "adm"} == {
        "PIL bilinear, reducing_gap none"
    }
    assert filter_of("adm") == "PIL box by halves, then bicubic"


def test_crop_larger_than_the_image_is_refused():
    with pytest.raises(BadImage, match="178x170 pixels, smaller than crop center178"):
        crop_and_resize(coordinates(170, 178), "center178", 32)
