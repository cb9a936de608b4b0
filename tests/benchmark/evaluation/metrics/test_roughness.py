import numpy as np
import pytest

from benchmark.evaluation.metrics.roughness import corner_roughness
from mindiffusion.errors import UserError


def noise_images(std, n=1500):
    x = np.random.default_rng(0).normal(size=(n, 16, 16, 3)) * std
    return (x * 127.5 + 127.5).clip(0, 255).astype(np.uint8)


def test_corner_roughness_of_a_horizontal_ramp_is_half_its_step():
    ramp = np.broadcast_to((np.arange(16) * 4)[None, None, :, None], (2, 16, 16, 3))
    np.testing.assert_allclose(corner_roughness(ramp.astype(np.uint8)), [2.0, 2.0])


def test_corner_roughness_weighs_colours_by_luma():
    image = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    image[:, ::2, :, 1] = 100  # green stripes: only vertical steps
    np.testing.assert_allclose(corner_roughness(image), 58.7 / 2)


def test_corner_roughness_is_the_mean_of_both_upper_corners_only():
    image = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    image[:, 8:] = noise_images(1.0, n=4).reshape(1, -1, 32, 3)[:, :24]
    image[:, :8, 8:24] = 255
    assert corner_roughness(image)[0] == 0
    image[:, :8, 24:32:2] = 60
    assert corner_roughness(image)[0] == pytest.approx(60 / 2 / 2)


@pytest.mark.parametrize(("std", "expected"), [(1.0, 70.5), (0.5, 46.4)])
def test_corner_roughness_of_clipped_gaussian_noise(std, expected):
    # At half the unit standard deviation nothing much is clipped, so the closed form is
    # 127.5 std |luma weights| 2/√π = 48.1; clipping takes the rest.
    assert corner_roughness(noise_images(std)).mean() == pytest.approx(expected, abs=0.5)


def test_corner_roughness_of_faint_noise_is_the_closed_form():
    luma_length = np.linalg.norm([0.299, 0.587, 0.114])
    expected = 127.5 * 0.1 * luma_length * 2 / np.sqrt(np.pi)
    assert corner_roughness(noise_images(0.1)).mean() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("images", "corner", "message"),
    [
        (np.zeros((2, 16, 16, 3)), 8, "float64"),
        (np.zeros((2, 3, 16, 16), dtype=np.uint8), 8, r"\(N, H, W, 3\)"),
        (np.zeros((2, 6, 16, 3), dtype=np.uint8), 8, "allowed is 2 to 6"),
        (np.zeros((2, 16, 16, 3), dtype=np.uint8), 1, "allowed is 2 to 16"),
    ],
)
def test_corner_roughness_rejects_bad_input(images, corner, message):
    with pytest.raises(UserError, match=message):
        corner_roughness(images, corner=corner)
