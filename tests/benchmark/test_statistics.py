import numpy as np
import pytest
from scipy import stats

from benchmark.statistics import mean_and_interval
from mindiffusion.errors import UserError


def test_interval_equals_scipys_t_interval():
    values = np.array([3.1, 2.4, 5.6, 4.0, 3.3])
    summary = mean_and_interval(values, confidence=0.9)
    low, high = stats.t.interval(0.9, 4, loc=values.mean(), scale=stats.sem(values))
    assert summary.n == 5
    assert summary.mean == pytest.approx(values.mean(), rel=1e-14)
    assert summary.mean - summary.half_width == pytest.approx(low, rel=1e-12)
    assert summary.mean + summary.half_width == pytest.approx(high, rel=1e-12)


def test_interval_of_two_values_is_the_closed_form():
    # For two values the 95 % quantile is that of a Cauchy variable: tan(0.475 pi).
    summary = mean_and_interval([1.0, 3.0])
    assert summary.mean == 2.0
    assert summary.half_width == pytest.approx(np.tan(0.475 * np.pi), rel=1e-10)


def test_interval_of_one_value_is_open():
    summary = mean_and_interval([7.5])
    assert (summary.mean, summary.half_width, summary.n) == (7.5, None, 1)


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        summary = mean_and_interval(rng.normal(size=4))
        hits += abs(summary.mean) <= summary.half_width
    assert 0.93 < hits / 2000 < 0.97


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [[1.0, 2.0]]])
def test_interval_refuses_what_is_no_list_of_numbers(values):
    with pytest.raises(UserError, match="finite numbers"):
        mean_and_interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_interval_refuses_a_confidence_outside_0_and_1(confidence):
    with pytest.raises(UserError, match="between 0 and 1"):
        mean_and_interval([1.0, 2.0], confidence)
