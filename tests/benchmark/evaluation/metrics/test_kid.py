import numpy as np
import pytest
from torch_fidelity.metric_kid import kernel_mmd

import benchmark.evaluation.metrics.kid as kid_module
from benchmark.evaluation.metrics.kid import (
    draw_subsets,
    kid,
    kid_full,
    mmd2_unbiased,
    polynomial_kernel,
    sums_over_others,
)
from mindiffusion.errors import UserError


def sets(n_x=30, n_y=40, dim=6, shift=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_x, dim)) + shift, rng.normal(size=(n_y, dim))


def fidelity_mmd2(x, y):
    return kernel_mmd(
        x,
        y,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
    )


def test_polynomial_kernel_is_the_formula():
    x, y = sets(3, 4, 2)
    assert polynomial_kernel(x, y)[1, 2] == pytest.approx((x[1] @ y[2] / 2 + 1) ** 3)


def test_mmd2_unbiased_equals_torch_fidelity_on_equal_sets():
    x, y = sets(25, 25)
    assert mmd2_unbiased(x, y) == pytest.approx(fidelity_mmd2(x, y), rel=1e-10)


def test_kid_equals_torch_fidelity_on_the_same_subsets():
    x, y = sets(60, 80)
    theirs = [fidelity_mmd2(x[i], y[j]) for i, j in draw_subsets(60, 80, 10, 20, seed=3)]
    ours = kid(x, y, num_subsets=10, subset_size=20, seed=3)
    assert ours.mean == pytest.approx(np.mean(theirs), rel=1e-10)
    assert ours.std == pytest.approx(np.std(theirs), rel=1e-8)


def test_draw_subsets_is_seeded_and_without_replacement():
    first, again, other = (draw_subsets(9, 7, 5, 6, seed=s) for s in (1, 1, 2))
    flat = [np.concatenate([np.concatenate(pair) for pair in d]) for d in (first, again, other)]
    np.testing.assert_array_equal(flat[0], flat[1])
    assert (flat[0] != flat[2]).any()
    for rows, columns in first:
        assert len(set(rows)) == len(set(columns)) == 6
        assert rows.max() < 9 and columns.max() < 7


def test_kid_uses_the_whole_smaller_set_by_default():
    x, y = sets(30, 30)
    result = kid(x, y, num_subsets=4)
    assert (result.num_subsets, result.subset_size) == (4, 30)
    assert result.mean == pytest.approx(mmd2_unbiased(x, y), rel=1e-10)


def test_mmd2_unbiased_does_not_depend_on_the_block_length(monkeypatch):
    x, y = sets(30, 41)
    whole = mmd2_unbiased(x, y)
    monkeypatch.setattr(kid_module, "_BLOCK_ROWS", 7)
    assert mmd2_unbiased(x, y) == pytest.approx(whole, rel=1e-12)


def test_mmd2_unbiased_averages_to_the_population_value():
    # x = ±1 with P(1) = p, y with P(1) = q. On ±1 the kernel (xy + 1)³ is 4 xy + 4, so
    # MMD² = 4 (E x - E y)².
    rng = np.random.default_rng(4)
    p, q = 0.8, 0.4
    values = []
    for _ in range(4000):
        x = np.where(rng.random((6, 1)) < p, 1.0, -1.0)
        y = np.where(rng.random((8, 1)) < q, 1.0, -1.0)
        values.append(mmd2_unbiased(x, y))
    expected = 4 * (2 * p - 2 * q) ** 2
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error
    assert error < 0.05 * expected


def test_kid_full_is_the_unbiased_estimate_and_a_brute_force_jackknife():
    x, y = sets(12, 9)
    result = kid_full(x, y)
    without_x = np.array([mmd2_unbiased(np.delete(x, i, 0), y) for i in range(12)])
    without_y = np.array([mmd2_unbiased(x, np.delete(y, i, 0)) for i in range(9)])
    variance = 11 * without_x.var() + 8 * without_y.var()
    assert result.value == mmd2_unbiased(x, y)
    assert result.standard_error == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert (result.n_generated, result.n_reference) == (12, 9)


def test_kid_full_standard_error_is_the_spread_over_repeated_draws():
    results = [kid_full(*sets(100, 100, shift=0.5, seed=s)) for s in range(150)]
    spread = np.std([r.value for r in results], ddof=1)
    stated = np.sqrt(np.mean([r.standard_error**2 for r in results]))
    assert 0.8 < stated / spread < 1.25


def test_kid_full_interval_covers_the_population_value():
    # As above, on ±1: MMD² = 4 (E x - E y)².
    rng = np.random.default_rng(11)
    p, q = 0.7, 0.4
    covered = []
    for _ in range(300):
        x = np.where(rng.random((200, 1)) < p, 1.0, -1.0)
        y = np.where(rng.random((150, 1)) < q, 1.0, -1.0)
        result = kid_full(x, y)
        covered.append(abs(result.value - 4 * (2 * p - 2 * q) ** 2) < 1.96 * result.standard_error)
    assert 0.91 < np.mean(covered) < 0.98


def test_kid_full_of_equal_distributions_is_zero_within_its_error():
    results = [kid_full(*sets(80, 80, shift=0.0, seed=s)) for s in range(60)]
    scores = np.array([r.value / r.standard_error for r in results])
    assert (np.abs(scores) < 2).mean() > 0.9
    assert (scores < 0).any()


def test_kid_grows_with_noise():
    clean, reference = sets(200, 200, shift=0.0)
    noise = np.random.default_rng(9).normal(size=clean.shape)
    values = [kid_full(clean + level * noise, reference).value for level in (0, 0.7, 1.4, 2.8)]
    assert values == sorted(values)
    assert values[-1] > 10 * abs(values[0])


def test_kid_rejects_bad_input():
    x, y = sets(5, 5)
    with pytest.raises(UserError, match="allowed is 2 to 5"):
        kid(x, y, subset_size=6)
    with pytest.raises(UserError, match="one feature net"):
        mmd2_unbiased(x, y[:, :3])
    with pytest.raises(UserError, match="2 generated and 5 reference"):
        kid_full(x[:2], y)
    with pytest.raises(UserError, match="not finite"):
        mmd2_unbiased(x, np.full_like(y, np.nan))


def test_kid_full_takes_known_sums_of_the_reference():
    x, y = sets(40, 60, shift=0.5, seed=3)
    assert kid_full(x, y, sums_over_others(y)) == kid_full(x, y)
    # They are used: those of another reference give another number.
    assert kid_full(x, y, sums_over_others(2 * y)).value != kid_full(x, y).value
