"""Densities on other clocks, on the levels of a process."""

import numpy as np
import pytest
import torch
from scipy import stats

from mindiffusion.config.process import DDPMConfig
from mindiffusion.curriculum.clock import to_noise_time
from mindiffusion.curriculum.density import (
    Average,
    Beta,
    Levels,
    LogSigmaLaplace,
    LogSigmaNormal,
    Share,
    Window,
)
from mindiffusion.errors import UserError

LINEAR = (1e-4, 0.02, 1000)


def on_chain(density, beta1, beta2, n_T):
    """A density on the noise-time clock of a chain."""
    return to_noise_time(density, DDPMConfig(beta1=beta1, beta2=beta2, n_T=n_T).log_sigma, n_T)


def log_sigma(beta1, beta2, n_T):
    """ln σ of levels 1 … n_T, by the formula."""
    alpha_bar = np.cumprod(1 - np.linspace(beta1, beta2, n_T + 1))[1:]
    return np.log(np.sqrt(1 - alpha_bar) / np.sqrt(alpha_bar))


@pytest.mark.parametrize("schedule", [LINEAR, (1e-3, 0.2, 100)], ids=str)
@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (0.0, 1.0)])
def test_log_normal_trains_the_level_nearest_to_the_drawn_sigma(mean, std, schedule):
    levels = on_chain(LogSigmaNormal(mean, std), *schedule)
    drawn = stats.norm(mean, std).ppf((np.arange(4000) + 0.5) / 4000)
    nearest = np.abs(drawn[:, None] - log_sigma(*schedule)).argmin(axis=1)
    counted = np.cumsum(np.bincount(nearest, minlength=schedule[2])) / len(drawn)
    found = np.cumsum(levels.probabilities(schedule[2]))
    np.testing.assert_allclose(found, counted, atol=1 / len(drawn))
    assert levels.bounds(schedule[2]) == (1, schedule[2])


def test_log_normal_mass_of_a_range_is_that_of_the_normal():
    mass = on_chain(LogSigmaNormal(-1.2, 1.2), *LINEAR).probabilities(1000)
    table = log_sigma(*LINEAR)
    for level in (1, 10, 200, 500, 800, 999):
        edge = (table[level - 1] + table[level]) / 2
        assert mass[:level].sum() == pytest.approx(stats.norm.cdf(edge, -1.2, 1.2), abs=1e-12)
    assert mass.sum() == pytest.approx(1, abs=1e-12)


def test_logit_normal_is_the_flow_time_of_the_paper():
    """σ = t/(1 − t) of a rectified flow: logit(t) = ln σ ~ N(0, 1)."""
    rng = np.random.default_rng(0)
    flow_time = 1 / (1 + np.exp(-rng.standard_normal(100_000)))
    edges = np.quantile(np.log(flow_time / (1 - flow_time)), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(LogSigmaNormal(0.0, 1.0).cdf(edges), [0.1, 0.5, 0.9], atol=0.005)


@pytest.mark.parametrize(("a", "b"), [(0.8, 1.0), (2.0, 3.0), (0.5, 0.5)])
def test_beta_is_the_distribution_of_the_name(a, b):
    mass = Beta(a, b).probabilities(500)
    np.testing.assert_allclose(np.cumsum(mass), stats.beta.cdf(np.arange(1, 501) / 500, a, b))
    time = Beta(a, b).quantile((torch.arange(5000) + 0.5) / 5000, 500)
    expected = np.ceil(stats.beta.ppf((np.arange(5000) + 0.5) / 5000, a, b) * 500) / 500
    # u is a float32, so that a draw at a level's very end may fall on the other side.
    assert np.mean(np.abs(time.numpy() - expected) > 1e-9) < 2e-3
    assert Beta(a, b).bounds(500) == (1, 500)


def test_density_on_the_noise_time_clock_stays_itself():
    for density in (Window(0.3), Beta(1.0, 2.0), Average((Share(1.0, Window()),))):
        assert on_chain(density, *LINEAR) == density


def test_average_is_converted_share_by_share():
    normal = LogSigmaNormal(0.0, 1.0)
    average = Average((Share(3.0, Window(0.5)), Share(1.0, normal)))
    with pytest.raises(ValueError, match="clock log_sigma"):
        average.probabilities(1000)
    found = on_chain(average, *LINEAR).probabilities(1000)
    parts = (Window(0.5), on_chain(normal, *LINEAR))
    expected = [part.probabilities(1000) for part in parts]
    np.testing.assert_allclose(found, 0.75 * expected[0] + 0.25 * expected[1], atol=1e-15)


def test_levels_draw_what_they_list():
    levels = Levels((0.0, 0.25, 0.0, 0.75, 0.0))
    time = levels.quantile(torch.tensor([0.0, 0.24, 0.25, 0.9999999]), 5)
    assert time.tolist() == [0.4, 0.4, 0.8, 0.8]
    assert levels.bounds(5) == (2, 4) and levels.intervals == ((0.2, 0.8),)
    with pytest.raises(UserError, match="5 masses for 6 levels"):
        levels.probabilities(6)


def test_laplace_of_log_snr_has_the_papers_density():
    mean, scale = 0.4, 0.5  # of log-SNR, which is -2 ln sigma
    log_snr = np.linspace(-6, 6, 2001)
    density = np.exp(-np.abs(log_snr - mean) / scale) / (2 * scale)
    laplace = LogSigmaLaplace(-mean / 2, scale / 2)
    shares = -np.diff(laplace.cdf(-log_snr / 2))
    middles = (density[1:] + density[:-1]) / 2 * np.diff(log_snr)
    np.testing.assert_allclose(shares, middles, atol=2e-5)
    assert laplace.cdf(np.array([-mean / 2, -99.0, 99.0])) == pytest.approx([0.5, 0, 1])
