import math

import numpy as np
import pytest

from benchmark.evaluation.metrics.denoising import profile_levels
from benchmark.evaluation.metrics.profile import (
    SUMMARIES,
    ProfileResult,
    elbo_weights,
    log_ratio,
    paired_difference,
    paired_log_ratio,
    summaries,
)
from mindiffusion.errors import UserError
from mindiffusion.schedules import linear_tables

N_T = 1000
TABLES = linear_tables(1e-4, 0.02, N_T)
ALPHA_BAR, BETA = TABLES.alpha_bar.numpy(), TABLES.beta.numpy()
EVERY_LEVEL = tuple(range(1, N_T + 1))


def noisy_profile(seed, mean=1.0, n=400, levels=(10, 500), shared=0.0):
    """Errors of n images about ``mean``; ``shared`` is what all profiles have of each image."""
    common = np.random.default_rng(99).normal(size=n)
    own = np.random.default_rng(seed).normal(size=(len(levels), n))
    return ProfileResult(levels, mean + 0.1 * (shared * common + 0.1 * own))


def summaries_of(profile):
    return summaries(profile, ALPHA_BAR, BETA)


def test_mean_and_error_are_over_images():
    profile = ProfileResult((1, 2), np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]]))
    assert profile.mse.tolist() == [3.0, 0.0]
    assert profile.standard_error[0] == pytest.approx(math.sqrt(7.0 / 3))


def test_difference_is_paired_so_what_images_share_is_no_error():
    a, b = noisy_profile(1, 1.1, shared=1.0), noisy_profile(2, 1.0, shared=1.0)
    difference = paired_difference(a, b)
    np.testing.assert_allclose(difference.mse, a.mse - b.mse, rtol=1e-12)
    assert (difference.standard_error < a.standard_error / 4).all()
    np.testing.assert_allclose(difference.standard_error, 0.01 * math.sqrt(2 / 400), rtol=0.15)


def test_log_ratio_is_negative_where_the_baseline_is_worse():
    assert log_ratio([1.0, 4.0], [2.0, 1.0]).tolist() == [-math.log(2), math.log(4)]


def test_paired_log_ratio_has_the_error_of_leaving_images_out():
    a, b = noisy_profile(1, 1.3, shared=1.0, n=60), noisy_profile(2, 1.0, shared=1.0, n=60)
    curve = paired_log_ratio(a, b)
    np.testing.assert_allclose(curve.value, np.log(a.mse / b.mse), rtol=1e-12)
    left_out = np.stack(
        [
            np.log(np.delete(a.errors, k, 1).mean(1) / np.delete(b.errors, k, 1).mean(1))
            for k in range(60)
        ]
    )
    jackknife = np.sqrt(59 / 60 * np.square(left_out - left_out.mean(0)).sum(0))
    np.testing.assert_allclose(curve.standard_error, jackknife, rtol=0.03)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: log_ratio([1.0], [1.0, 2.0]), "as many of each"),
        (lambda: log_ratio([0.0], [1.0]), "not positive"),
        (lambda: log_ratio([1.0], [math.nan]), "not positive"),
        (lambda: paired_difference(noisy_profile(1), noisy_profile(1, n=9)), "do not pair"),
        (
            lambda: paired_log_ratio(noisy_profile(1), noisy_profile(1, levels=(10, 501))),
            "do not pair",
        ),
    ],
)
def test_profiles_that_do_not_fit_are_one_line(call, match):
    with pytest.raises(UserError, match=match):
        call()


def test_summary_of_equal_errors_is_that_error():
    profile = ProfileResult(profile_levels(N_T), np.full((20, 3), 0.37))
    found = summaries_of(profile)
    assert set(found) == set(SUMMARIES) == {"L_simple", "ELBO", "sigma-0.1-3"}
    for estimate in found.values():
        assert estimate.value == pytest.approx(0.37, rel=1e-12)
        assert estimate.standard_error == pytest.approx(0.0, abs=1e-15)


def test_simple_summary_is_the_mean_over_equal_shares():
    values = np.random.default_rng(0).uniform(0.1, 1.0, (20, 5))
    found = summaries_of(ProfileResult(profile_levels(N_T), values))["L_simple"]
    assert found.value == pytest.approx(values.mean(), rel=1e-12)
    by_image = values.mean(axis=0)
    assert found.standard_error == pytest.approx(by_image.std(ddof=1) / math.sqrt(5), rel=1e-12)


def test_elbo_weight_is_the_squared_shift_of_the_reverse_mean_over_its_variance():
    """KL of two Gaussians of variance β_t, whose means differ by one unit of ε-error."""
    t = np.array([1, 2, 40, 500, 1000])
    per_unit = BETA[t] / np.sqrt(1 - ALPHA_BAR[t]) / np.sqrt(1 - BETA[t])
    np.testing.assert_allclose(
        elbo_weights(ALPHA_BAR, BETA)[t - 1], per_unit**2 / (2 * BETA[t]), rtol=1e-12
    )


def test_elbo_summary_over_every_level_is_the_weighted_sum():
    mse = np.exp(-np.arange(1, N_T + 1) / 300)
    profile = ProfileResult(EVERY_LEVEL, np.stack([mse, mse], axis=1))
    weights = BETA[1:] / (1 - BETA[1:]) / (1 - ALPHA_BAR[1:])
    expected = (weights * mse).sum() / weights.sum()
    assert summaries_of(profile)["ELBO"].value == pytest.approx(expected, rel=1e-12)
    # Most of its weight is at low noise, which the uniform mean hardly sees.
    assert summaries_of(profile)["ELBO"].value > 1.5 * summaries_of(profile)["L_simple"].value


def test_sigma_summary_is_uniform_in_the_logarithm_between_its_ends():
    log_sigma = 0.5 * np.log(1 / ALPHA_BAR[1:] - 1)
    inside = (log_sigma >= math.log(0.1)) & (log_sigma <= math.log(3.0))
    profile = ProfileResult(EVERY_LEVEL, np.stack([log_sigma, inside.astype(float)], axis=1))
    weighted = [
        summaries_of(ProfileResult(EVERY_LEVEL, column[:, None].repeat(2, axis=1)))["sigma-0.1-3"]
        for column in profile.errors.T
    ]
    middle = (math.log(0.1) + math.log(3.0)) / 2
    assert weighted[0].value == pytest.approx(middle, abs=0.02)
    assert weighted[1].value == pytest.approx(1.0, rel=1e-12)


def test_sigma_summary_needs_a_level_between_its_ends():
    profile = ProfileResult((1, 2), np.ones((2, 2)))
    alpha_bar, beta = np.array([0.5, 0.05, 0.001]), np.array([0.5, 0.9, 0.98])
    with pytest.raises(UserError, match=r"None of the 2 noise levels has σ/α in 0\.1–3"):
        summaries(profile, alpha_bar, beta)


def test_summaries_of_a_difference_are_paired():
    levels = profile_levels(N_T)
    a = noisy_profile(1, 1.1, levels=levels, shared=1.0)
    b = noisy_profile(2, 1.0, levels=levels, shared=1.0)
    apart, paired = summaries_of(a), summaries_of(paired_difference(a, b))
    for name, estimate in paired.items():
        assert estimate.value == pytest.approx(0.1, abs=5 * estimate.standard_error)
        assert estimate.standard_error < apart[name].standard_error / 5
