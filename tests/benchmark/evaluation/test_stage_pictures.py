"""What a network is shown in each stage, of every process."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.evaluation.milestone.stage_pictures import NUM_SHOWN, shown
from mindiffusion.config.process import PROCESSES
from mindiffusion.data.codec import PIXELS


@pytest.fixture
def images():
    """Eight flat images, each of another grey."""
    greys = np.linspace(60, 200, NUM_SHOWN).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (NUM_SHOWN, 32, 32, 3)).copy()


HIDING = {"linear_path": {"lowest": 0.01}}
"""Settings of a process whose usual ones are for other data than pictures."""


@pytest.mark.parametrize("kind", PROCESSES)
def test_pure_noise_hides_an_image_and_the_least_noise_shows_it(kind, images, tiny_config):
    process = PROCESSES[kind](**HIDING.get(kind, {}))
    config = replace(tiny_config("b"), process=process)
    lowest, highest = (torch.full((NUM_SHOWN,), t, dtype=torch.float64) for t in (1e-3, 1.0))
    clear, noise = (
        shown(images, times, config, PIXELS).astype(float) for times in (lowest, highest)
    )
    assert np.abs(clear.mean((1, 2, 3)) - images.mean((1, 2, 3))).max() < 3
    assert clear.std((1, 2, 3)).max() < 6
    # Standard normal values in [-1, 1], as grey levels, whatever the image.
    assert noise.std((1, 2, 3)) == pytest.approx(np.full(NUM_SHOWN, 127.5 * 0.718), rel=0.03)


def test_noise_is_the_same_for_any_stage(images, tiny_config):
    times = torch.full((NUM_SHOWN,), 0.5, dtype=torch.float64)
    whole = shown(images, times, tiny_config("b"), PIXELS)
    part = shown(images[:3], times[:3], tiny_config("c"), PIXELS)
    np.testing.assert_array_equal(part, whole[:3])
