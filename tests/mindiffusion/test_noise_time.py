"""Densities where noise levels are continuous: draws, shares and ends on the noise-time clock."""

import numpy as np
import pytest
import torch
from scipy import stats

from mindiffusion.curriculum.clock import to_noise_time
from mindiffusion.curriculum.density import (
    Average,
    Beta,
    Histogram,
    Levels,
    LogSigmaNormal,
    Share,
    Window,
)
from mindiffusion.curriculum.exposure import relative_exposure
from mindiffusion.curriculum.noise_time import fine_knots

STEP = 2.0**-24
"""Of uniforms: ``noise.uniforms`` gives multiples of it."""
WIDEST = 0.99 * np.pi / 2
SHARE_BOUND, TIME_BOUND = 2e-3, 1e-3
"""Of what ``fine_knots`` promises."""


def log_tangent(t):
    """ln σ of a process with alpha = cos, sigma = sin of an angle in proportion to t."""
    return np.log(np.tan(WIDEST * t))


def on_tangent(mean, std):
    return to_noise_time(LogSigmaNormal(mean, std), log_tangent, None)


THREE = Histogram((0.1, 0.3, 0.6, 1.0), (0.5, 0.0, 0.5))
STRAIGHT = {
    "plain": Window(),
    "window": Window(0.29, 0.58),
    "thin window": Window(0.5, 0.5 + 1e-9),
    "histogram": THREE,
    "histogram with empty ends": Histogram((0.0, 0.2, 0.4, 0.8, 1.0), (0.0, 0.3, 0.7, 0.0)),
    "levels": Levels((0.0, 0.25, 0.0, 0.75, 0.0)),
    "average": Average((Share(3.0, Window(0.5)), Share(1.0, THREE), Share(1.0, Window(0.0, 0.2)))),
}
SMOOTH = {
    "beta": Beta(2.0, 3.0),
    "beta at both ends": Beta(0.5, 0.5),
    "beta at almost 0": Beta(1e-3, 1.0),
    "beta in a point": Beta(1e4, 1e4),
    "average with beta": Average((Share(1.0, Window(0.5)), Share(1.0, Beta(0.8, 1.0)))),
    "log-normal": on_tangent(-1.2, 1.2),
    "thin log-normal": on_tangent(0.0, 1e-3),
    "log-normal above all levels": on_tangent(90.0, 1.0),
}
DENSITIES = STRAIGHT | SMOOTH


@pytest.fixture(params=DENSITIES)
def density(request):
    return DENSITIES[request.param]


def uniforms(stride=1499):
    """Multiples of 2⁻²⁴ in [0, 1), rising: the first and the last ones, and many between."""
    ends = torch.arange(5), 2**24 - 5 + torch.arange(5)
    every = torch.unique(
        torch.cat([*ends, torch.arange(0, 2**24, stride), torch.tensor(2**23)[None]])
    )
    return every.float() * STEP


def inside(t, intervals):
    return np.any([(low <= t) & (t <= high) for low, high in intervals], axis=0)


def test_draws_are_noise_times_inside_the_density_and_rise_with_u(density):
    u = uniforms()
    t = density.quantile(u, None)
    assert t.dtype == torch.float64 and t.shape == u.shape
    assert bool((t > 0).all()) and bool((t <= 1).all()) and bool((t.diff() >= 0).all())
    assert inside(t.numpy(), density.intervals).all()
    # In float32 too, as the log keeps them.
    assert bool((t.float() > 0).all())
    low, high = density.ends(None)
    assert low <= t[0] and t[-1] <= high
    # A caller's own uniforms may have more bits.
    last = density.quantile(torch.tensor([1 - 2.0**-53], dtype=torch.float64), None)
    assert t[-1] <= last <= high


@pytest.mark.parametrize("name", STRAIGHT)
def test_draw_has_exactly_its_share_of_the_mass_below_it(name):
    u, density = uniforms(), STRAIGHT[name]
    share = density.cdf(density.quantile(u, None).numpy())
    # The share is read off a time that is rounded, within a window that may be thin.
    np.testing.assert_allclose(
        share, u.double().numpy() + STEP / 2, atol=1e-6 if "thin" in name else 1e-12
    )


def test_windows_draws_are_evenly_spaced_between_its_ends():
    u = torch.arange(8) / 8
    expected = 0.2 + 0.5 * (np.arange(8) / 8 + STEP / 2)
    np.testing.assert_allclose(Window(0.2, 0.7).quantile(u, None), expected, atol=1e-15)
    assert torch.equal(
        Window(0.2, 0.7).quantile(u, None), Histogram((0.2, 0.7), (1.0,)).quantile(u, None)
    )


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_no_draw_falls_into_a_gap_wherever_its_share_of_mass_ends(shift):
    """Also where the mass below the gap is just what a uniform stands for."""
    mass = (2**24 + shift) * 2.0**-25
    gap = Histogram((0.1, 0.3, 0.6, 1.0), (mass, 0.0, 1.0 - mass))
    mixed = Average((Share(mass, Window(0.1, 0.3)), Share(1.0 - mass, Window(0.6))))
    u = (2**23 + torch.arange(-3, 4)).float() * STEP
    for density in (gap, mixed):
        t = density.quantile(u, None).numpy()
        assert inside(t, density.intervals).all()
        assert t.min() < 0.31 and t.max() > 0.59


@pytest.mark.parametrize(
    ("a", "b"), [(2.0, 3.0), (0.5, 0.5), (1e-3, 1.0), (200.0, 3.0), (1e4, 1e4)]
)
def test_beta_is_drawn_within_the_bounds(a, b):
    u, grid = uniforms(), np.linspace(0, 1, 100_003)
    density = Beta(a, b)
    expected = stats.beta.ppf(u.double().numpy() + STEP / 2, a, b)
    assert np.abs(density.quantile(u, None).numpy() - expected).max() < TIME_BOUND / 2
    drawn = np.interp(grid, density.knots, density.cdf(density.knots))
    assert np.abs(drawn - stats.beta.cdf(grid, a, b)).max() < SHARE_BOUND / 2


@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (0.0, 1.0), (-6.0, 2.0), (0.0, 1e-3)])
def test_log_normal_is_drawn_within_the_bounds(mean, std):
    u, grid = uniforms(), np.linspace(0, 1, 100_003)[1:-1]
    density, normal = on_tangent(mean, std), stats.norm(mean, std)
    expected = np.arctan(np.exp(normal.ppf(u.double().numpy() + STEP / 2))) / WIDEST
    assert np.abs(density.quantile(u, None).numpy() - np.minimum(expected, 1)).max() < TIME_BOUND
    error = np.abs(density.cdf(grid) - normal.cdf(log_tangent(grid))).max()
    assert error < SHARE_BOUND and (std < 1 or error < 3e-5)


def test_tails_beyond_the_process_train_its_ends():
    """ln σ from −2 to 2: what lies outside goes to t = 0 and t = 1, as to the ends of a chain."""
    density = to_noise_time(LogSigmaNormal(0.0, 2.0), lambda t: 4 * t - 2, None)
    tail = stats.norm(0, 2).cdf(-2)
    np.testing.assert_allclose(
        density.cdf(np.array([2e-7, 0.5, 1 - 2e-7])), [tail, 0.5, 1 - tail], atol=1e-6
    )
    u = torch.tensor([0.0, 0.99 * tail, 1.01 * tail, 1 - 0.99 * tail, 1 - STEP])
    t = density.quantile(u, None)
    assert 0 < t[0] <= t[1] < 1e-7 and t[2] > 1e-3 and t[3] > 1 - 1e-7


@pytest.mark.parametrize(
    "name", ["plain", "window", "histogram", "average", "beta", "beta at both ends"]
)
def test_fine_counting_comes_to_the_same_shares(name):
    """A density's two definitions: the rule for counted levels and the CDF."""
    t, density = np.linspace(0, 1, 501), DENSITIES[name]
    counted = density.share_up_to(t, 100_000)
    np.testing.assert_allclose(counted, density.share_up_to(t, None), atol=1e-4)


def test_log_normal_of_a_fine_chain_has_the_shares_of_continuous_levels():
    counted = to_noise_time(LogSigmaNormal(-1.2, 1.2), log_tangent, 10_000)
    t = np.linspace(0, 1, 101)
    expected = on_tangent(-1.2, 1.2).share_up_to(t, None)
    np.testing.assert_allclose(counted.share_up_to(t, 10_000), expected, atol=2e-4)


def test_exposure_is_the_true_share_of_each_bin(density):
    found = np.array([value for _, value in relative_exposure(density, None)])
    edges = np.arange(21) / 20
    np.testing.assert_allclose(found, 20 * np.diff(density.cdf(edges)), atol=1e-9)
    assert found.sum() == pytest.approx(20, abs=1e-7) and found.min() >= 0
    t = density.quantile((torch.arange(2**14) + 0.5) / 2**14, None).numpy()
    # Draws come from the same shares; a draw on an edge may count on either side.
    drawn = np.array([np.mean(t <= edge) for edge in edges[1:]])
    np.testing.assert_allclose(drawn, np.cumsum(found) / 20, atol=2e-3)


def test_exposure_of_smooth_densities_is_exact():
    beta = [value for _, value in relative_exposure(Beta(2.0, 3.0), None)]
    edges = np.arange(21) / 20
    np.testing.assert_allclose(beta, 20 * np.diff(stats.beta.cdf(edges, 2, 3)), atol=1e-8)
    found = [value for _, value in relative_exposure(on_tangent(-1.2, 1.2), None)]
    share = stats.norm(-1.2, 1.2).cdf(log_tangent(edges[1:-1]))
    np.testing.assert_allclose(found, 20 * np.diff([0.0, *share, 1.0]), atol=1e-8)


def test_ends_are_those_of_the_intervals_or_of_the_counted_levels():
    assert THREE.ends(None) == (0.1, 1.0) and THREE.ends(100) == (0.1, 1.0)
    assert Window(0.0, 0.5).ends(None) == (0.0, 0.5) and Window(0.0, 0.5).ends(10) == (0.1, 0.5)
    assert STRAIGHT["average"].ends(None) == (0.0, 1.0)


@pytest.mark.parametrize(
    "cdf",
    [
        lambda t: t,
        lambda t: t**0.001,
        lambda t: 1 - (1 - t) ** 0.001,
        lambda t: (t >= 1 / 3).astype(float),
        lambda t: (t >= 1).astype(float),
    ],
)
def test_fine_knots_keep_bins_narrow_and_light(cdf):
    knots = fine_knots(cdf)
    width, mass = np.diff(knots), np.diff(cdf(knots))
    assert knots[0] == 0 and knots[-1] == 1 and (width > 0).all()
    assert width.max() < TIME_BOUND * (1 + 1e-9)
    assert (mass[width > 2.0**-24] <= SHARE_BOUND).all()
    assert np.isin(np.arange(1001) / 1000, knots).all() and len(knots) < 2000
