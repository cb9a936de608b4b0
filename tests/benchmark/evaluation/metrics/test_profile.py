import math

import numpy as np
import pytest

from benchmark.evaluation.metrics.profile import (
    SUMMARIES,
    ProfileResult,
    elbo_weights,
    paired_difference,
    summaries,
)
from mindiffusion.chain import Chain
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.process import times_of
from mindiffusion.schedules import linear_tables

N_T = 1000
PROCESS = DDPMProcess(Chain((1e-4, 0.02), N_T))
TABLES = linear_tables(1e-4, 0.02, N_T)
ALPHA_BAR, BETA = TABLES.alpha_bar.numpy(), TABLES.beta.numpy()
GRID = PROCESS.fine_grid()
EVERY_LEVEL = tuple(GRID.t[1:].tolist())
MIDDLES = times_of(PROCESS.grid(20))


def noisy_profile(seed, mean=1.0, n=400, levels=(0.01, 0.5), shared=0.0):
    """Errors of n images about ``mean``; ``shared`` is what all profiles have of each image."""
    common = np.random.default_rng(99).normal(size=n)
    own = np.random.default_rng(seed).normal(size=(len(levels), n))
    return ProfileResult(levels, mean + 0.1 * (shared * common + 0.1 * own))


def summaries_of(profile):
    return summaries(profile, *(each.numpy() for each in (GRID.t, GRID.alpha, GRID.sigma)))


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


@pytest.mark.parametrize("other", [{"n": 9}, {"levels": (0.01, 0.501)}])
def test_profiles_that_do_not_fit_are_one_line(other):
    with pytest.raises(UserError, match="do not pair"):
        paired_difference(noisy_profile(1), noisy_profile(1, **other))


def test_summary_of_equal_errors_is_that_error():
    profile = ProfileResult(MIDDLES, np.full((20, 3), 0.37))
    found = summaries_of(profile)
    assert set(found) == set(SUMMARIES) == {"L_simple", "ELBO", "sigma-0.1-3"}
    for estimate in found.values():
        assert estimate.value == pytest.approx(0.37, rel=1e-12)
        assert estimate.standard_error == pytest.approx(0.0, abs=1e-15)


def test_simple_summary_is_the_mean_over_equal_shares():
    values = np.random.default_rng(0).uniform(0.1, 1.0, (20, 5))
    found = summaries_of(ProfileResult(MIDDLES, values))["L_simple"]
    assert found.value == pytest.approx(values.mean(), rel=1e-12)
    by_image = values.mean(axis=0)
    assert found.standard_error == pytest.approx(by_image.std(ddof=1) / math.sqrt(5), rel=1e-12)


def test_elbo_weight_is_the_squared_shift_of_the_reverse_mean_over_its_variance():
    """KL of two Gaussians of variance β_t, whose means differ by one unit of ε-error."""
    t = np.array([1, 2, 40, 500, 1000])
    per_unit = BETA[t] / np.sqrt(1 - ALPHA_BAR[t]) / np.sqrt(1 - BETA[t])
    np.testing.assert_allclose(
        elbo_weights(GRID.alpha.numpy(), GRID.sigma.numpy())[t - 1],
        per_unit**2 / (2 * BETA[t]),
        rtol=1e-9,
    )


def test_elbo_summary_over_every_level_is_the_weighted_sum():
    mse = np.exp(-np.arange(1, N_T + 1) / 300)
    profile = ProfileResult(EVERY_LEVEL, np.stack([mse, mse], axis=1))
    weights = BETA[1:] / (1 - BETA[1:]) / (1 - ALPHA_BAR[1:])
    expected = (weights * mse).sum() / weights.sum()
    assert summaries_of(profile)["ELBO"].value == pytest.approx(expected, rel=1e-9)
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
    profile = ProfileResult((0.5, 1.0), np.ones((2, 2)))
    alpha = np.sqrt([0.5, 0.05, 0.001])
    with pytest.raises(UserError, match=r"None of the 2 noise levels has σ/α in 0\.1–3"):
        summaries(profile, np.array([0.0, 0.5, 1.0]), alpha, np.sqrt(1 - alpha**2))


def test_summaries_of_a_difference_are_paired():
    levels = MIDDLES
    a = noisy_profile(1, 1.1, levels=levels, shared=1.0)
    b = noisy_profile(2, 1.0, levels=levels, shared=1.0)
    apart, paired = summaries_of(a), summaries_of(paired_difference(a, b))
    for name, estimate in paired.items():
        assert estimate.value == pytest.approx(0.1, abs=5 * estimate.standard_error)
        assert estimate.standard_error < apart[name].standard_error / 5


def test_of_two_levels_as_near_the_lower_counts():
    """Of the grid .25, .5, .75, 1 the time .5 is as near to .25 as to .75."""
    profile = ProfileResult((0.25, 0.75), np.array([[1.0, 1.0], [0.0, 0.0]]))
    t = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    alpha = np.sqrt([0.9, 0.8, 0.7, 0.6, 0.5])
    assert summaries(profile, t, alpha, np.sqrt(1 - alpha**2))["L_simple"].value == 0.5
