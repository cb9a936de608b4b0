import numpy as np
import pytest
import torch

from benchmark.evaluation.attributes.damage import (
    NOISE_RANGE,
    blur,
    blur_range,
    blurred,
    damaged,
    noisy,
)
from benchmark.evaluation.attributes.scores import (
    UNKNOWN,
    balanced_mean,
    calibration_error,
    measured_classes,
)
from mindiffusion.errors import UserError

CLASSES = np.array([0] * 90 + [1] * 8 + [2] * 2)


def test_balanced_accuracy_of_a_constant_answer_is_chance():
    value, error = balanced_mean(CLASSES == 0, CLASSES)
    assert value == pytest.approx(1 / 3) and error == 0


def test_balanced_mean_weighs_classes_alike():
    scores = np.where(CLASSES == 0, 0.5, np.where(CLASSES == 1, 1.0, 0.0))
    assert balanced_mean(scores, CLASSES)[0] == pytest.approx(0.5)


def test_balanced_mean_error_is_the_spread_over_redrawn_images():
    rng = np.random.default_rng(0)
    chance = np.array([0.9, 0.3, 0.5])
    classes = np.repeat([0, 1, 2], [200, 50, 20])
    scores = rng.random((2000, 270)) < chance[classes]
    values, errors = balanced_mean(scores, classes)
    assert values.shape == errors.shape == (2000,)
    assert values.mean() == pytest.approx(chance.mean(), abs=0.005)
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.08)


def test_classes_of_one_image_and_unknown_ones_are_left_out():
    classes = np.array([0, 0, 1, UNKNOWN, UNKNOWN, 2, 2])
    assert measured_classes(classes).tolist() == [0, 2]
    scores = np.array([1, 1, 0, 0, 0, 1, 1])
    assert balanced_mean(scores, classes)[0] == 1
    with pytest.raises(UserError, match="No class has 2 of the 3 images"):
        balanced_mean(np.ones(3), np.array([0, 1, UNKNOWN]))


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = np.tile([0.95, 0.05], (100, 1))
    classes = np.zeros(100, dtype=np.int64)
    assert calibration_error(sure, classes) == pytest.approx(0.05)
    classes[:60] = 1
    assert calibration_error(sure, classes) == pytest.approx(0.55)
    # Two bins, one 0.15 too sure and the other 0.25 too unsure.
    mixed = np.concatenate([sure[:50], np.tile([0.75, 0.25], (50, 1))])
    classes = np.array([0] * 40 + [1] * 10 + [0] * 50)
    assert calibration_error(mixed, classes) == pytest.approx(0.2)


def test_calibration_error_ignores_unknown_classes():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert calibration_error(probabilities, np.array([0, UNKNOWN, 0])) == 0
    with pytest.raises(UserError, match="No image has a known class"):
        calibration_error(probabilities, np.full(3, UNKNOWN))


def test_blur_is_gaussian_and_keeps_flat_images():
    flat = torch.full((2, 3, 32, 32), 0.3)
    torch.testing.assert_close(blur(flat, torch.tensor([0.7, 4.0])), flat)
    spot = torch.zeros(1, 1, 65, 65, dtype=torch.float64)
    spot[0, 0, 32, 32] = 1
    result = blur(spot, torch.tensor([2.5], dtype=torch.float64))[0, 0]
    place = torch.arange(65, dtype=torch.float64) - 32
    assert result.sum().item() == pytest.approx(1, abs=1e-9)
    assert (result.sum(0) * place**2).sum().item() == pytest.approx(2.5**2, rel=1e-6)
    assert torch.equal(result, result.T)


def test_damage_goes_from_weak_to_strong_within_its_limits():
    images = torch.zeros(40, 3, 32, 32)
    spread = noisy(images, seed=0, step=0).flatten(1).std(dim=1)
    low, high = NOISE_RANGE
    assert low < spread[0] < 1.2 * low and 0.8 * high < spread[-1] < high
    checks = torch.eye(32).repeat(40, 3, 1, 1) - 0.5
    contrast = blurred(checks).flatten(1).std(dim=1)
    assert (contrast.diff() < 0).all()
    assert blur_range(32) == (0.7, 4.0)


def test_damage_blurs_the_first_half_and_is_keyed_by_seed_and_step():
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    both = damaged(images, seed=3, step=5)
    torch.testing.assert_close(both[:4], blurred(images[:4]))
    assert torch.equal(both[4:], noisy(images[4:], seed=3, step=5))
    assert not torch.equal(noisy(images, seed=3, step=5), noisy(images, seed=3, step=6))
    assert not torch.equal(noisy(images, seed=3, step=5), noisy(images, seed=4, step=5))
