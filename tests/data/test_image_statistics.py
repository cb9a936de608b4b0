"""Statistics of training images: exact, and the same however they are read."""

from fractions import Fraction

import numpy as np
import pytest

from mindiffusion.data import mean_and_spread
from mindiffusion.data.mean_and_spread import image_statistics

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (37, 6, 5, 3), dtype=np.uint8)


def test_mean_and_spread_are_those_of_the_floats():
    found = image_statistics(IMAGES)
    values = IMAGES / 127.5 - 1
    assert found.mean.dtype == np.float64 and found.mean.shape == (6, 5, 3)
    np.testing.assert_allclose(found.mean, values.mean(0), atol=1e-15)
    assert found.std == pytest.approx(np.sqrt(((values - values.mean(0)) ** 2).mean()), rel=1e-13)
    assert found.summary.std == found.std
    np.testing.assert_allclose(found.summary.mean_colour, values.mean((0, 1, 2)), atol=1e-15)


def test_they_are_exact_whatever_the_blocks(monkeypatch):
    whole = image_statistics(IMAGES)
    for block in (1, 5, 36, 37):
        monkeypatch.setattr(mean_and_spread, "_BLOCK", block)
        assert image_statistics(IMAGES).is_same(whole)
    count = len(IMAGES)
    pixels = IMAGES.reshape(count, -1).astype(object)
    means = [Fraction(int(total), count) for total in pixels.sum(0)]
    of_means = sum(mean * mean for mean in means) / len(means)
    variance = Fraction(int((pixels**2).sum()), pixels.size) - of_means
    assert whole.std == float(variance) ** 0.5 / 127.5


def test_images_of_one_kind_have_no_spread_and_the_most_is_one():
    assert image_statistics(np.repeat(IMAGES[:1], 9, 0)).std == 0
    both_ends = np.zeros((2, 4, 4, 3), np.uint8)
    both_ends[1] = 255
    found = image_statistics(both_ends)
    assert found.std == 1 and not found.mean.any()


def test_a_bright_picture_moves_the_mean_alone():
    # In float32 the squares of so even an array would cancel.
    images = np.full((1000, 4, 4, 3), 250, np.uint8)
    images[0, 0, 0, 0] = 251
    variance = Fraction(1, 1000 * 48) - Fraction(1, 1000**2 * 48)
    assert image_statistics(images).std == pytest.approx(float(variance) ** 0.5 / 127.5, rel=1e-14)


def test_other_statistics_are_not_the_same():
    found = image_statistics(IMAGES)
    assert found.is_same(image_statistics(IMAGES.copy()))
    assert not found.is_same(image_statistics(IMAGES[:-1]))
