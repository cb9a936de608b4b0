import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer, make_resizer

from benchmark.evaluation.features import resize as module
from benchmark.evaluation.features.resize import bicubic_weights, resize

GREY_LEVELS = 1e-3


def hard_images(count, height, width):
    """Noise with black and white halves, so that the cubic overshoots and the clip matters."""
    images = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    images[0, : height // 2] = 255
    images[0, height // 2 :] = 0
    return images


def resized(images, side, *values):
    return resize(torch.from_numpy(images), side, *values).numpy()


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [
        (32, 32, 299),
        (64, 64, 299),
        (218, 178, 299),
        (17, 350, 64),
        (299, 61, 299),
        (1, 2, 29),
        (3, 3, 1),
        (223, 225, 224),
        (300, 298, 299),
        (640, 480, 224),
        (5, 5, 5),
    ],
)
def test_resize_equals_pil_on_floats(height, width, side):
    images = hard_images(3, height, width)
    by_pil = make_resizer("PIL", False, "bicubic", (side, side))
    expected = np.stack([by_pil(image) for image in images]).transpose(0, 3, 1, 2)
    found = resized(images, side)
    assert found.shape == (3, 3, side, side) and found.dtype == np.float32
    assert np.abs(found - expected).max() <= GREY_LEVELS


def test_resize_equals_the_resizer_of_clean_fid():
    images = hard_images(2, 45, 90)
    expected = np.stack([build_resizer("clean")(image) for image in images])
    found = resized(images, 299).transpose(0, 2, 3, 1)
    assert np.abs(found - expected).max() <= GREY_LEVELS
    assert (found.min(), found.max()) == (0, 255)  # the cubic overshoots beside a hard edge


@pytest.mark.parametrize("side", [16, 40])
def test_resize_maps_grey_levels_to_a_nets_values(side):
    images = hard_images(2, 40, 40)
    expected = (resized(images, side) - 127) / 128
    np.testing.assert_allclose(resized(images, side, 127.0, 128.0), expected, rtol=0, atol=1e-6)


def test_resize_of_equal_size_leaves_every_grey_level():
    images = hard_images(2, 9, 9)
    np.testing.assert_array_equal(resized(images, 9), images.transpose(0, 3, 1, 2))


def test_resize_does_not_depend_on_blocks_or_parts(monkeypatch):
    images = hard_images(7, 30, 50)
    expected = resized(images, 61)
    monkeypatch.setattr(module, "_CPU_BLOCK", 61)
    np.testing.assert_allclose(resized(images, 61), expected, rtol=0, atol=GREY_LEVELS)
    monkeypatch.setattr(module, "_CPU_BLOCK", 3)
    monkeypatch.setattr(module, "_IN_CACHE", 1)
    np.testing.assert_allclose(resized(images, 61), expected, rtol=0, atol=GREY_LEVELS)


def test_resize_leaves_the_images_as_they_were():
    images = torch.from_numpy(hard_images(2, 8, 8))
    before = images.clone()
    resize(images, 8, 128.0, 128.0)
    resize(images, 20, 128.0, 128.0)
    assert torch.equal(images, before)


def test_resize_of_no_images_is_empty():
    assert resized(hard_images(2, 8, 8)[:0], 20).shape == (0, 3, 20, 20)


@pytest.mark.parametrize(("old", "new"), [(32, 299), (299, 64), (7, 7), (1, 5), (640, 3)])
def test_bicubic_weights_sum_to_one_and_mirror(old, new):
    weights = bicubic_weights(old, new)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-12)


@pytest.mark.parametrize("side", [20, 200])
def test_resize_leaves_the_number_of_threads_as_it_was(side):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        resized(hard_images(1, side, side), 30)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
