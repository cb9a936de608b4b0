import dataclasses

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics import (
    BlockFit,
    Contrast,
    bootstrap_interval,
    contrast,
    dunnett,
    equivalence,
    fit_blocks,
    guarded_contrast,
    holm,
    interquartile_mean,
    mean_and_interval,
    paired,
    probability_of_improvement,
    realised_correlation,
    sign_flip,
    spread_test,
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


# --- blocks and contrasts ---


def blocks(rng, arms, n, spread=1.0):
    """Arms by seeds: seeds share a large block effect, arms scatter around it."""
    return 5 * rng.normal(size=n) + spread * rng.normal(size=(arms, n))


def test_contrast_of_two_arms_is_the_paired_t_test():
    values = blocks(np.random.default_rng(1), 2, 6)
    found = contrast(fit_blocks(values), [1, -1])
    expected = stats.ttest_rel(values[0], values[1])
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.df == 5
    check = paired(values[0] - values[1])
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(check), rel=1e-9)


def test_block_fit_is_least_squares_with_a_column_for_each_arm_and_seed():
    values = blocks(np.random.default_rng(2), 4, 5)
    arm, seed = np.indices(values.shape)
    design = np.hstack([np.eye(4)[arm.ravel()], np.eye(5)[seed.ravel()][:, 1:]])
    solution, squares, rank, _ = np.linalg.lstsq(design, values.ravel(), rcond=None)
    fit = fit_blocks(values)
    assert fit.df == values.size - rank == 12
    assert fit.variance == pytest.approx(squares[0] / 12, rel=1e-10)
    weights = np.array([1.0, -0.5, -0.5, 0.0])
    covariance = squares[0] / 12 * np.linalg.inv(design.T @ design)[:4, :4]
    found = contrast(fit, weights)
    assert found.estimate == pytest.approx(weights @ solution[:4], rel=1e-10)
    assert found.standard_error == pytest.approx(np.sqrt(weights @ covariance @ weights), rel=1e-10)


def test_seed_blocks_cancel_in_every_contrast():
    rng = np.random.default_rng(3)
    values = blocks(rng, 4, 6)
    moved = values + 100 * rng.normal(size=6)
    weights = [1, -1, -1, 1]
    one, other = (contrast(fit_blocks(array), weights) for array in (values, moved))
    assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other), rel=1e-9)


def test_one_seed_leaves_everything_but_the_estimate_open():
    fit = fit_blocks([[1.0], [3.0], [4.0]])
    for found in (contrast(fit, [1, -1, 0]), guarded_contrast(fit, [1, -1, 0])[0], paired([-2.0])):
        assert found.estimate == -2.0 and found.df == 0
        assert np.isnan([found.standard_error, found.low, found.high, found.p]).all()
        assert verdict(found, 0.03, -1) == "undecided"


@pytest.mark.parametrize("n", [2, 3, 5, 8, 20])
def test_intervals_cover_as_often_as_they_say(n):
    """95 % nominal, 4,000 draws: pooled, paired, and the one that chooses between them."""
    rng = np.random.default_rng(n)
    weights = np.array([1.0, -1.0, 0, 0, 0, 0])
    hits = np.zeros(3)
    for _ in range(4000):
        values = blocks(rng, 6, n)
        fit = fit_blocks(values)
        intervals = (contrast(fit, weights), paired(weights @ values),
                     guarded_contrast(fit, weights)[0])  # fmt: skip
        hits += [found.low <= 0 <= found.high for found in intervals]
    assert (hits / 4000 > 0.93).all() and (hits / 4000 < 0.97).all()


def test_guard_widens_the_interval_of_an_arm_that_scatters_more():
    rng = np.random.default_rng(4)
    weights = np.array([1.0, -1.0, 0, 0, 0, 0])
    hits = np.zeros(2)
    for _ in range(1000):
        values = blocks(rng, 6, 8)
        values[0] += 3 * rng.normal(size=8)
        fit = fit_blocks(values)
        intervals = contrast(fit, weights), guarded_contrast(fit, weights)[0]
        hits += [found.low <= 0 <= found.high for found in intervals]
    assert hits[0] / 1000 < 0.87
    assert hits[1] / 1000 > 0.92


def test_spread_test_splits_the_residual_in_two_independent_parts():
    values = blocks(np.random.default_rng(5), 3, 7)
    fit = fit_blocks(values)
    # Two orthogonal contrasts of three arms make up the whole residual.
    first, second = np.array([1.0, -1.0, 0.0]), np.array([1.0, 1.0, -2.0])
    ratio = (first @ values).var() / 2 / ((second @ values).var() / 6)
    assert spread_test(fit, first) == pytest.approx(stats.f.sf(ratio, 6, 6), rel=1e-9)
    assert np.isnan(spread_test(fit_blocks(values[:2]), [1, -1]))


def test_identical_arms_are_equal_without_a_warning():
    fit = fit_blocks([[1.0, 2.0, 4.0]] * 3)
    found, _ = guarded_contrast(fit, [1, -1, 0])
    assert (found.estimate, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert verdict(found, 0.03, 0) == "equal"


@pytest.mark.parametrize(
    "values", [[1.0, 2.0], [[1.0, 2.0]], [[1.0, np.nan], [1.0, 2.0]], [[], []]]
)
def test_blocks_refuse_what_is_no_whole_table(values):
    with pytest.raises(UserError, match="each arm with every seed"):
        fit_blocks(values)


@pytest.mark.parametrize("weights", [[1, 1], [1, -1, 0], [0, 0], [1, -0.5]])
def test_contrast_refuses_weights_that_do_not_sum_to_zero(weights):
    with pytest.raises(UserError, match="with sum 0"):
        contrast(fit_blocks([[1.0, 2.0], [3.0, 5.0]]), weights)


# --- several comparisons ---


def test_holm_multiplies_the_smallest_by_their_number_and_stays_monotone():
    # .01 · 3, max(.02 · 2, .03), max(.03 · 1, .04).
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])


def test_dunnett_without_blocks_is_scipys():
    """With seed effects of 0 and the one-way residual put in, both must agree."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=(4, 9)) + np.array([[0.0], [0.4], [1.1], [-0.9]])
    expected = stats.dunnett(*values[1:], control=values[0], rng=np.random.default_rng(1))
    interval = expected.confidence_interval(0.95)
    one_way = BlockFit(values, float(values.var(axis=1, ddof=1).mean()), 4 * 8)
    found = dunnett(one_way, 0, np.random.default_rng(2))
    assert found.p == pytest.approx(expected.pvalue, abs=2e-3)
    assert found.low == pytest.approx(interval.low, abs=5e-3)
    assert found.high == pytest.approx(interval.high, abs=5e-3)


def test_dunnett_holds_its_joint_error_rate_in_blocks():
    rng = np.random.default_rng(7)
    fits = [fit_blocks(blocks(rng, 4, 5)) for _ in range(4000)]
    # The critical value depends on A and n alone.
    one = dunnett(fits[0], 2, np.random.default_rng(0))
    critical = (one.high - one.estimate)[0] / np.sqrt(2 * fits[0].variance / 5)
    means = np.array([fit.values.mean(axis=1) for fit in fits])
    errors = np.sqrt([2 * fit.variance / 5 for fit in fits])
    largest = np.abs(means[:, [0, 1, 3]] - means[:, [2]]).max(axis=1) / errors
    assert np.mean(largest > critical) == pytest.approx(0.05, abs=0.011)


def test_dunnett_refuses_one_seed():
    with pytest.raises(UserError, match="two or more"):
        dunnett(fit_blocks([[1.0], [2.0]]), 0, np.random.default_rng(0))


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
    found = realised_correlation(blocks(rng, 3, 500))
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
    """Why it is refused below 20: METHODS §7 has .84 at n = 5."""
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
