import numpy as np
import pytest

from benchmark.evaluation.metrics.extrapolation import can_extrapolate, frechet_estimate
from benchmark.evaluation.metrics.frechet import (
    Moments,
    covariance_root,
    frechet_distance,
    merge_moments,
    moments,
)
from mindiffusion.errors import UserError

DIM = 12
VARIANCES = np.arange(1, DIM + 1) ** -1.5
REFERENCE = Moments(np.zeros(DIM), np.diag(VARIANCES), 10**6)
ROOT = covariance_root(REFERENCE)
SCALE, SHIFT = 1.2, 0.1
TRUTH = DIM * SHIFT**2 + ((SCALE - 1) ** 2 * VARIANCES).sum()


def draw(seed, n, scale=SCALE, shift=SHIFT):
    rng = np.random.default_rng(seed)
    return shift + scale * rng.normal(size=(n, DIM)) * np.sqrt(VARIANCES)


def estimate(features, num_groups):
    groups = [moments(part) for part in np.array_split(features, num_groups)]
    return frechet_estimate(groups, REFERENCE, ROOT)


@pytest.fixture(scope="module")
def estimates():
    """100 draws of 240 images in 8 groups of a generator whose true distance is known."""
    return [estimate(draw(seed, 240), 8) for seed in range(100)]


def test_frechet_estimate_value_is_the_distance_of_all_images():
    features = draw(0, 103)
    result = estimate(features, 4)
    assert result.value == pytest.approx(frechet_distance(moments(features), REFERENCE), rel=1e-12)
    assert result.n == 103


def test_frechet_estimate_of_equal_groups_is_the_textbook_jackknife():
    groups = [moments(part) for part in np.array_split(draw(1, 100), 5)]
    result = frechet_estimate(groups, REFERENCE, ROOT)
    left_out = np.array(
        [
            frechet_distance(merge_moments(groups[:g] + groups[g + 1 :]), REFERENCE, ROOT)
            for g in range(5)
        ]
    )
    assert result.standard_error == pytest.approx(np.sqrt(4 / 5 * 5 * left_out.var()), rel=1e-9)
    assert result.infinity == pytest.approx(5 * result.value - 4 * left_out.mean(), rel=1e-9)


@pytest.mark.parametrize("sizes", [(20, 20, 20, 20), (13, 20, 21, 30)])
def test_frechet_estimate_is_exact_where_the_distance_is_a_line_in_one_over_n(monkeypatch, sizes):
    # Groups that differ in n only, and a distance a + b/n: nothing is left to err.
    monkeypatch.setattr(
        "benchmark.evaluation.metrics.extrapolation.frechet_distance",
        lambda a, b, root: 3 + 50 / a.n,
    )
    groups = [Moments(np.zeros(1), np.eye(1), n) for n in sizes]
    result = frechet_estimate(groups, REFERENCE, ROOT)
    assert result.value == pytest.approx(3 + 50 / sum(sizes))
    if len(set(sizes)) == 1:
        assert result.infinity == pytest.approx(3, rel=1e-12)
        assert result.standard_error == pytest.approx(0, abs=1e-9)
        assert result.infinity_error == pytest.approx(0, abs=1e-9)
    assert result.infinity == pytest.approx(3, abs=0.05)


def test_frechet_estimate_error_grows_with_the_bend_of_the_curve(monkeypatch):
    monkeypatch.setattr(
        "benchmark.evaluation.metrics.extrapolation.frechet_distance",
        lambda a, b, root: 3 + 5e4 / a.n**2,
    )
    result = frechet_estimate([Moments(np.zeros(1), np.eye(1), 20)] * 4, REFERENCE, ROOT)
    assert result.standard_error == pytest.approx(0, abs=1e-9)
    assert 0.3 * abs(result.infinity - 3) < result.infinity_error < 3 * abs(result.infinity - 3)


def test_frechet_estimate_infinity_is_free_of_the_bias_of_n(estimates):
    values = np.array([e.value for e in estimates])
    limits = np.array([e.infinity for e in estimates])
    error = limits.std(ddof=1) / np.sqrt(len(limits))
    assert values.mean() - TRUTH > 6 * error
    assert abs(limits.mean() - TRUTH) < 3 * error


def test_frechet_estimate_standard_error_is_the_spread_over_draws(estimates):
    spread = np.std([e.value for e in estimates], ddof=1)
    stated = np.sqrt(np.mean([e.standard_error**2 for e in estimates]))
    assert 0.8 < stated / spread < 1.6


def test_frechet_estimate_interval_of_infinity_covers_the_truth(estimates):
    # Student's t with 7 degrees of freedom: 2.36.
    covered = [abs(e.infinity - TRUTH) < 2.36 * e.infinity_error for e in estimates]
    assert np.mean(covered) >= 0.9


def test_frechet_estimate_of_the_reference_itself_is_zero_in_the_limit_only():
    results = [estimate(draw(seed, 400, scale=1, shift=0), 8) for seed in range(30)]
    assert np.mean([e.value > 2 * e.standard_error for e in results]) > 0.7
    limits = np.array([e.infinity for e in results])
    assert (limits < 0).any()
    assert abs(limits.mean()) < 3 * limits.std(ddof=1) / np.sqrt(len(limits))
    assert np.mean([abs(e.infinity) < 2.36 * e.infinity_error for e in results]) > 0.9


def test_frechet_estimate_rejects_few_groups_and_other_widths():
    with pytest.raises(UserError, match=r"3 groups.*give 4 or more"):
        estimate(draw(0, 30), 3)
    groups = [moments(np.random.default_rng(0).normal(size=(9, 3)))] * 4
    with pytest.raises(UserError, match="one feature net"):
        frechet_estimate(groups, REFERENCE, ROOT)


def test_can_extrapolate_from_two_images_a_feature():
    assert can_extrapolate(24, DIM) and not can_extrapolate(23, DIM)
