"""What networks see of images, and how their samples become images."""

import numpy as np
import pytest
import torch

from mindiffusion.data.codec import PIXELS
from mindiffusion.errors import UserError


@pytest.mark.parametrize(
    ("value", "grey"),
    [
        (-1.0, 0),
        (1.0, 255),
        (-7.0, 0),
        (7.0, 255),
        (100.4 / 127.5 - 1, 100),
        (100.6 / 127.5 - 1, 101),
        (254.4 / 127.5 - 1, 254),
        (254.6 / 127.5 - 1, 255),
    ],
)
def test_pixels_as_images_clamps_scales_and_rounds_to_nearest(value, grey):
    assert PIXELS.images(torch.full((1, 3, 1, 1), value)).tolist() == [[[[grey] * 3]]]


def test_pixels_as_images_gives_every_grey_level_back():
    grey = np.arange(256, dtype=np.uint8)
    images = torch.from_numpy(grey).float().view(1, 1, 16, 16).expand(1, 3, 16, 16) / 127.5 - 1
    result = PIXELS.images(images)
    assert result.dtype == np.uint8 and result.shape == (1, 16, 16, 3)
    assert (result == grey.reshape(16, 16, 1)).all()


def test_pixels_as_images_moves_channels_last():
    images = torch.rand(2, 3, 4, 5) * 2 - 1
    result = PIXELS.images(images)
    assert result.shape == (2, 4, 5, 3)
    assert result[1, 2, 3].tolist() == PIXELS.images(images[1:, :, 2:3, 3:4]).ravel().tolist()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_pixels_as_images_refuses_images_that_are_not_finite(bad):
    images = torch.zeros(2, 3, 4, 4)
    images[1, 2, 3, 3] = bad
    with pytest.raises(UserError, match="not finite"):
        PIXELS.images(images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_come_back_from_what_networks_see(dtype):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    inputs = PIXELS.inputs(torch.from_numpy(images), dtype)
    assert inputs.shape == (5, PIXELS.channels, 4, 6) and inputs.dtype == dtype
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert inputs.min() >= -1 and inputs.max() <= 1
    np.testing.assert_array_equal(PIXELS.images(inputs), images)
