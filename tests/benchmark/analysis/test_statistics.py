import numpy as np
import pytest
from scipy import stats

from benchmark.analysis.statistics import (
    Contrast,
    bootstrap_interval,
    equivalence,
    holm,
    interquartile_mean,
    mean_and_interval,
    paired,
    probability_of_improvement,
    realised_correlation,
    sign_flip,
    verdict,
)
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


# --- contrasts ---


def test_paired_contrast_of_two_arms_is_scipys_paired_t_test():
    first, second = np.random.default_rng(1).normal(size=(2, 6))
    found, expected = paired(first - second), stats.ttest_rel(first, second)
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.df == 5
    assert found.interval(0.9) == pytest.approx(tuple(expected.confidence_interval(0.9)))


def test_one_seed_leaves_everything_but_the_estimate_open():
    found = paired([-2.0])
    assert found.estimate == -2.0 and found.df == 0
    assert np.isnan([found.standard_error, found.low, found.high, found.p]).all()
    assert verdict(found, 0.03, -1) == "undecided"


def test_identical_arms_are_equal_without_a_warning():
    found = paired([0.0, 0.0, 0.0])
    assert (found.estimate, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert verdict(found, 0.03, 0) == "equal"


# --- several comparisons ---


def test_holm_multiplies_the_smallest_by_their_number_and_stays_monotone():
    # .01 · 3, max(.02 · 2, .03), max(.03 · 1, .04).
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])


# --- without a normal distribution ---


@pytest.mark.parametrize(("n", "smallest"), [(6, 0.03125), (8, 0.0078125)])
def test_sign_flip_of_one_sign_gives_the_smallest_p_there_is(n, smallest):
    assert sign_flip(np.arange(1.0, n + 1)) == smallest


def test_sign_flip_is_scipys_permutation_test():
    values = np.random.default_rng(8).normal(0.4, 1, size=9)
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip(values) == pytest.approx(expected.pvalue, rel=1e-12)
    assert sign_flip(-values) == sign_flip(values)


@pytest.mark.parametrize("n", [1, 5, 21])
def test_sign_flip_is_not_given_where_it_says_nothing(n):
    assert sign_flip(np.ones(n)) is None


# --- verdicts ---


def interval(low, high, df=1000):
    """A contrast with (nearly) this 95 % interval."""
    error = (high - low) / 2 / stats.t.isf(0.025, df)
    return Contrast((low + high) / 2, error, df, low, high, 0.5)


def test_equivalence_holds_where_the_90_percent_interval_lies_within():
    values = np.random.default_rng(9).normal(0.004, 0.02, size=8)
    found = paired(values, confidence=0.9)
    edge = max(abs(found.low), abs(found.high))
    assert equivalence(found, edge) == pytest.approx(0.05, rel=1e-9)
    assert equivalence(found, edge * 1.01) < 0.05 < equivalence(found, edge * 0.99)


@pytest.mark.parametrize(
    ("low", "high", "direction", "expected"),
    [
        (-0.10, -0.04, -1, "supported"),
        (-0.10, -0.04, 1, "refuted"),
        (-0.10, -0.04, 0, "refuted"),
        (0.04, 0.10, 1, "supported"),
        (0.04, 0.10, -1, "refuted"),
        # Below zero for sure, but not for sure by as much as matters.
        (-0.10, -0.01, -1, "undecided"),
        (-0.10, -0.01, 1, "refuted"),
        (-0.02, 0.02, -1, "equal"),
        (-0.02, -0.01, -1, "equal"),
        (-0.02, 0.02, 0, "equal"),
        (-0.10, 0.10, -1, "undecided"),
        (-0.10, 0.10, 0, "undecided"),
    ],
)
def test_verdict_follows_the_interval(low, high, direction, expected):
    assert verdict(interval(low, high), 0.03, direction) == expected


# --- many runs ---


def test_realised_correlation_sees_shared_seeds():
    rng = np.random.default_rng(10)
    found = realised_correlation(5 * rng.normal(size=500) + rng.normal(size=(3, 500)))
    # Var(block) = 25, Var(arm) = 1.
    assert found[0, 1] == pytest.approx(25 / 26, abs=0.02)
    assert np.diag(found) == pytest.approx(1)
    with pytest.raises(UserError, match="three or more"):
        realised_correlation([[1.0, 2.0], [1.0, 3.0]])


def test_interquartile_mean_is_of_the_middle_half():
    assert interquartile_mean([100, 1, 2, 3, 4, 5, 6, -50]) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_probability_of_improvement_counts_pairs():
    values, baseline = np.arange(8.0), np.arange(8.0) + 0.5
    lower = (values[:, None] < baseline).mean()
    assert probability_of_improvement(values, baseline) == pytest.approx(lower)
    assert probability_of_improvement(values, values) == 0.5


def test_bootstrap_of_many_is_close_to_the_t_interval():
    values = np.random.default_rng(11).normal(3, 1, size=200)
    low, high = bootstrap_interval(values, np.random.default_rng(0))
    summary = mean_and_interval(values)
    assert (low + high) / 2 == pytest.approx(summary.mean, abs=0.02)
    assert (high - low) / 2 == pytest.approx(summary.half_width, rel=0.1)


def test_percentile_bootstrap_of_five_covers_too_little():
    """Why it is refused below 20: docs/methods.md, Bootstrap of few seeds, has .84 at n = 5."""
    rng = np.random.default_rng(12)
    values = rng.normal(size=(2000, 5))
    means = values[np.arange(2000)[:, None, None], rng.integers(5, size=(2000, 400, 5))].mean(-1)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) < 0.9


@pytest.mark.parametrize(
    ("function", "fewest"),
    [
        (interquartile_mean, 8),
        (lambda values: probability_of_improvement(values, np.arange(20.0)), 8),
        (lambda values: probability_of_improvement(np.arange(20.0), values), 8),
        (lambda values: bootstrap_interval(values, np.random.default_rng(0)), 20),
    ],
)
def test_summaries_of_many_runs_refuse_few(function, fewest):
    function(np.arange(float(fewest)))
    with pytest.raises(UserError, match=f"of {fewest - 1} seeds: needs {fewest} or more") as caught:
        function(np.arange(fewest - 1.0))
    assert "\n" not in str(caught.value)
