"""The arithmetic of convergence curves."""

import numpy as np
import pytest
import torch

from benchmark.difficulty.convergence import (
    UNITS,
    in_unit,
    relative_excess,
    shares_above,
    steps_to_half,
)


def test_errors_in_other_units_are_those_of_the_images_and_of_v():
    """One wrong answer at one level, its error in x and in v computed from scratch."""
    alpha, sigma = 0.6, 1.7  # of no process that preserves variance
    draw = torch.Generator().manual_seed(0)
    x, noise, wrong = torch.randn(3, 50, generator=draw, dtype=torch.float64)
    x_t, said = alpha * x + sigma * noise, noise + 0.1 * wrong
    x_said = (x_t - sigma * said) / alpha
    length = (alpha**2 + sigma**2) ** 0.5
    v, v_said = ((alpha * e - sigma * i) / length for e, i in ((noise, x), (said, x_said)))
    errors = {
        "eps": (said - noise).square().mean(),
        "x0": (x_said - x).square().mean(),
        "v": (v_said - v).square().mean(),
    }
    assert errors.keys() == UNITS.keys()
    for unit, error in errors.items():
        found = in_unit(np.array([float(errors["eps"])]), np.array([sigma / alpha]), unit)
        assert found == pytest.approx(float(error))


def test_errors_are_averaged_in_the_unit():
    errors, ratio = np.array([[1.0, 3.0], [2.0, 2.0]]), np.array([1.0, 2.0])
    assert in_unit(errors, ratio, "eps").tolist() == [2.0, 2.0]
    assert in_unit(errors, ratio, "x0").tolist() == [6.5, 5.0]
    assert in_unit(errors, ratio, "v").tolist() == [8.5, 7.0]


def test_relative_excess_is_1_at_the_start_0_at_the_floor_and_negative_below():
    assert relative_excess(np.array([3.0, 2.0, 1.0, 0.5]), 3.0, 1.0).tolist() == [1, 0.5, 0, -0.25]
    for start in (1.0, 0.5):
        assert np.isnan(relative_excess(np.array([3.0, 2.0]), start, 1.0)).all()


@pytest.mark.parametrize(
    ("excess", "half"),
    [
        ([0.9, 0.6, 0.2], 25.0),
        ([0.5, 0.2, 0.1], 10.0),
        ([0.25, 0.2, 0.1], 10 * 0.5 / 0.75),
        ([1.5, 0.5, 0.7], 20.0),  # the first time counts
        ([0.9, 0.8, 0.51], float("inf")),
    ],
)
def test_steps_to_half_are_between_the_measured_ones(excess, half):
    assert steps_to_half(np.array([10.0, 20.0, 40.0]), np.array(excess)) == pytest.approx(half)


def test_steps_to_half_of_an_unknown_excess_are_unknown():
    assert np.isnan(steps_to_half(np.array([1.0, 2.0]), np.array([np.nan, np.nan])))


def test_steps_to_half_of_an_exponential_are_its_half_life():
    steps = np.linspace(0.5, 100, 200)
    assert steps_to_half(steps, 2.0 ** (-steps / 17)) == pytest.approx(17, abs=0.01)


def test_shares_above_the_floor_add_up_to_1_and_what_is_below_stays_negative():
    found = shares_above(np.array([[3.0, 1.0, -2.0], [-1.0, -1.0, 0.0]]))
    assert found[0].tolist() == [0.75, 0.25, -0.5]
    assert np.isnan(found[1]).all()
