"""Colour of planted pictures, whose offset and spread are known."""

import numpy as np
import pytest

from benchmark.evaluation.metrics.colour import colour_offset, colour_spread, picture_means
from mindiffusion.errors import UserError


def pictures(n=400, seed=0, spread=12.0):
    """Flat pictures (n, 8, 8, 3) around mid grey, with a texture whose mean is 0."""
    draw = np.random.default_rng(seed)
    colours = np.rint(draw.normal(size=(n, 1, 1, 3)) * spread).clip(-60, 60)
    texture = np.where(np.indices((8, 8)).sum(0) % 2, 20, -20)[None, :, :, None]
    return (128 + colours + texture).astype(np.uint8)


def both(generated, reference):
    means = picture_means(generated), picture_means(reference)
    return colour_offset(*means), colour_spread(*means)


def test_picture_means_are_those_of_every_channel():
    images = np.random.default_rng(1).integers(0, 256, (700, 4, 6, 3), dtype=np.uint8)
    np.testing.assert_allclose(picture_means(images), images.mean(axis=(1, 2)), rtol=1e-14)
    white = np.full((1, 1024, 1024, 3), 255, dtype=np.uint8)
    assert picture_means(white).tolist() == [[255.0, 255.0, 255.0]]


def test_a_set_has_no_offset_to_itself_and_its_own_spread():
    offset, spread = both(pictures(), pictures())
    assert offset.value == 0 and spread.value == pytest.approx(1)


@pytest.mark.parametrize(("channel", "shift"), [(0, 7), (1, -7), (2, 7)])
def test_offset_of_one_channel_is_found_whatever_its_sign(channel, shift):
    shifted = pictures().astype(int)
    shifted[..., channel] += shift
    shifted[..., (channel + 1) % 3] += 3
    offset, spread = both(shifted.astype(np.uint8), pictures())
    assert offset.value == pytest.approx(7) and spread.value == pytest.approx(1)


def test_spread_scaled_by_one_and_a_half_is_one_and_a_half():
    reference = 2 * np.rint(picture_means(pictures()) / 2)
    centre = reference.mean(axis=0)
    scaled = centre + 1.5 * (reference - centre)
    assert colour_spread(scaled, reference).value == pytest.approx(1.5)
    assert colour_offset(scaled, reference).value == pytest.approx(0, abs=1e-9)


def test_channels_join_as_the_root_of_their_mean_variance():
    reference = np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])  # variance 2 in each channel
    generated = np.array([[0.0, 5.0, 5.0], [6.0, 5.0, 5.0]])  # variance 18 in one, 0 in two
    assert colour_spread(generated, reference).value == pytest.approx((18 / 3 / 2) ** 0.5)


def test_errors_are_those_of_drawing_the_pictures_anew():
    draw = np.random.default_rng(2)
    reference = draw.normal(size=(5000, 3)) * (20, 20, 20) + 128
    found = []
    for _ in range(400):
        generated = draw.normal(size=(150, 3)) * (30, 25, 20) + (138, 130, 128)
        found.append((colour_offset(generated, reference), colour_spread(generated, reference)))
    for one in zip(*found, strict=True):
        real = np.std([estimate.value for estimate in one], ddof=1)
        stated = np.mean([estimate.standard_error for estimate in one])
        assert stated == pytest.approx(real, rel=0.15)


def test_pictures_all_alike_have_no_spread_and_are_no_yardstick():
    alike = np.full((5, 3), 100 / 3)  # whose computed variance is not 0
    assert alike.var() > 0
    none = colour_spread(alike, picture_means(pictures()))
    assert (none.value, none.standard_error) == (0, 0)
    assert colour_spread(picture_means(pictures()), alike) is None


def test_a_single_picture_has_an_offset_without_error_and_no_spread():
    means = picture_means(pictures())
    one = colour_offset(means[:1], means)
    assert one.value == pytest.approx(np.abs(means[0] - means.mean(axis=0)).max())
    assert one.standard_error is None
    assert colour_spread(means[:1], means) is None
    assert colour_spread(means, means[:1]) is None


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 3)), "float64"),
        (np.zeros((2, 3, 8, 8), dtype=np.uint8), r"\(N, H, W, 3\)"),
        (np.zeros((0, 8, 8, 3), dtype=np.uint8), "N ≥ 1"),
    ],
)
def test_picture_means_refuse_bad_input(images, message):
    with pytest.raises(UserError, match=message):
        picture_means(images)
