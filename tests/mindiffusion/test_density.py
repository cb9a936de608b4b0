import math

import numpy as np
import pytest
import torch

from mindiffusion.config.process import DDPMConfig, VPSDEConfig
from mindiffusion.curriculum.density import Average, Histogram, Share, SoftTruncation, Window
from mindiffusion.curriculum.stages import StageConfig, placed, trained_on_all_levels
from mindiffusion.errors import UserError

LAST_U = 1 - 2**-24
"""The largest uniform ``noise.uniforms`` gives."""


def levels(window, u, n_T):
    time = window.quantile(torch.as_tensor(u), n_T)
    return [round(float(t) * n_T) for t in time]


@pytest.mark.parametrize(
    ("t_min", "t_max", "n_T", "expected"),
    [
        (0.0, 1.0, 1000, (1, 1000)),
        (0.8, 1.0, 1000, (800, 1000)),
        (0.2, 0.4, 1000, (200, 400)),
        (0.29, 0.58, 100, (29, 58)),
        (0.0005, 1.0, 1000, (1, 1000)),
        (0.0, 0.01, 100, (1, 1)),
        (0.555, 0.999, 100, (55, 99)),
    ],
)
def test_window_bounds_are_integers_with_guarded_rounding(t_min, t_max, n_T, expected):
    assert Window(t_min, t_max).bounds(n_T) == expected


def test_window_bounds_guard_is_needed_and_right_for_every_multiple_of_a_hundredth():
    assert math.floor(0.29 * 100) == 28
    for k in range(1, 100):
        assert Window(k / 100, 1.0).bounds(100)[0] == k
        assert Window(0.0, k / 100).bounds(100)[1] == k


@pytest.mark.parametrize("n_T", [2, 100, 1000])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.8, 1.0), (0.29, 0.58), (0.0, 0.5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_window_quantile_hits_both_ends_and_never_passes_them(n_T, ends, dtype):
    window = Window(*ends)
    low, high = window.bounds(n_T)
    u = torch.tensor([0.0, LAST_U], dtype=dtype)
    assert levels(window, u, n_T) == [low, high]
    assert levels(window, torch.tensor([math.nextafter(1.0, 0.0)]).double(), n_T) == [high]


def test_window_quantile_gives_every_level_the_same_mass():
    window = Window(0.29, 0.58)
    u = (torch.arange(30 * 40) + 0.5) / (30 * 40)
    hits = torch.bincount(torch.tensor(levels(window, u, 100)))
    assert hits[:29].sum() == 0 and hits[29:].tolist() == [40] * 30


def test_window_quantile_is_monotone_float64_and_of_counted_levels():
    u = torch.linspace(0, LAST_U, 999)
    time = Window(0.2, 1.0).quantile(u, 1000)
    assert time.dtype == torch.float64 and bool((time.diff() >= 0).all())
    assert torch.equal(time, (time * 1000).round() / 1000)


@pytest.mark.parametrize(("t_min", "t_max"), [(0.5, 0.5), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_window_refuses_bad_ends(t_min, t_max):
    with pytest.raises(ValueError, match="need 0 <= t_min < t_max <= 1"):
        Window(t_min, t_max)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_window_refuses_ends_that_are_not_finite(bad):
    for ends in ((bad, 1.0), (0.0, bad)):
        with pytest.raises(ValueError, match="finite number"):
            Window(*ends)


def test_window_without_a_level_is_an_error_and_never_trains_on_level_zero():
    with pytest.raises(UserError, match=r"\[0\.0, 0\.005\] holds none of the levels 1 to 100"):
        Window(0.0, 0.005).quantile(torch.zeros(1), 100)


THREE = Histogram((0.1, 0.3, 0.6, 1.0), (0.5, 0.0, 0.5))
MIXED = Average((Share(3.0, Window(0.5)), Share(1.0, THREE), Share(1.0, Window(0.0, 0.2))))


@pytest.mark.parametrize("n_T", [2, 100, 999, 1000])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.8, 1.0), (0.29, 0.58), (0.2, 1.0)], ids=str)
def test_histogram_of_one_bin_is_the_window_with_its_ends(n_T, ends):
    window, histogram = Window(*ends), Histogram(ends, (1.0,))
    assert histogram.bounds(n_T) == window.bounds(n_T)
    np.testing.assert_array_equal(histogram.probabilities(n_T), window.probabilities(n_T))
    # Also where u is a multiple of a level's probability.
    ties = torch.arange(1024) / 1024
    u = torch.cat([ties, ties + 2**-24, torch.tensor([LAST_U])])
    assert torch.equal(histogram.quantile(u, n_T), window.quantile(u, n_T))
    assert histogram.intervals == window.intervals


@pytest.mark.parametrize("n_T", [10, 100, 1000])
@pytest.mark.parametrize("density", [Window(0.29, 0.58), THREE, MIXED], ids=["w", "h", "a"])
def test_probabilities_are_those_of_drawn_quantiles(density, n_T):
    u = (torch.arange(2**16) + 0.5) / 2**16
    time = density.quantile(u, n_T)
    assert time.dtype == torch.float64 and bool((time.diff() >= 0).all())
    drawn = torch.bincount((time * n_T).round().long(), minlength=n_T + 1)[1:].numpy() / len(u)
    expected = density.probabilities(n_T)
    assert expected.shape == (n_T,) and expected.sum() == pytest.approx(1, abs=1e-12)
    # Evenly spaced uniforms: a level's count is off by less than two.
    np.testing.assert_allclose(drawn, expected, atol=2 / len(u))
    low, high = density.bounds(n_T)
    ends = density.quantile(torch.tensor([0.0, LAST_U]), n_T) * n_T
    assert ends.round().tolist() == [low, high]
    (inside,) = np.nonzero(expected)
    assert (inside[0] + 1, inside[-1] + 1) == (low, high)


def test_histogram_spreads_a_mass_evenly_over_its_bin():
    mass = THREE.probabilities(100)
    assert (mass[:9] == 0).all() and (mass[29:59] == 0).all()
    np.testing.assert_allclose(mass[9:29], 0.5 / 20)
    np.testing.assert_allclose(mass[59:], 0.5 / 41)
    assert THREE.intervals == ((0.1, 0.3), (0.6, 1.0))


def test_average_mixes_probabilities_by_weight():
    parts = [share.density.probabilities(50) for share in MIXED.shares]
    expected = 0.6 * parts[0] + 0.2 * parts[1] + 0.2 * parts[2]
    np.testing.assert_allclose(MIXED.probabilities(50), expected, atol=1e-16)
    assert set(MIXED.intervals) == {(0.5, 1.0), (0.1, 0.3), (0.6, 1.0), (0.0, 0.2)}


@pytest.mark.parametrize(
    ("edges", "masses"),
    [
        ((0.5,), ()), ((0.0, 1.0), (0.5, 0.5)), ((0.5, 0.5), (1.0,)), ((0.5, 0.2), (1.0,)),
        ((0.5, 1.1), (1.0,)), ((-0.1, 1.0), (1.0,)), ((0.0, 1.0), (0.9,)),
        ((0.0, 0.5, 1.0), (1.5, -0.5)),
    ],
)  # fmt: skip
def test_histogram_refuses_what_is_none(edges, masses):
    with pytest.raises(ValueError, match="time histogram has"):
        Histogram(edges, masses)


def test_histogram_bin_without_a_level_is_an_error():
    thin = Histogram((0.0, 0.501, 0.502, 1.0), (0.5, 0.1, 0.4))
    assert thin.probabilities(1000)[500] == pytest.approx(0.1)
    with pytest.raises(UserError, match="holds none of the levels 1 to 100"):
        thin.bounds(100)


def test_soft_truncation_is_the_average_of_windows_above_random_cuts():
    least = 0.01
    # Cuts with density 1/(cut ln(1/least)): even in ln cut. Between them uniform times.
    cuts = np.exp((np.arange(200_000) + 0.5) / 200_000 * np.log(least))
    for t in (0.02, 0.3, 0.9):
        below = np.clip((t - cuts) / (1 - cuts), 0, None).mean()
        assert SoftTruncation(least).cdf(np.array([t]))[0] == pytest.approx(below, abs=1e-5)
    assert SoftTruncation(least).cdf(np.array([0, least, 1])).tolist() == [0, 0, 1]
    assert SoftTruncation(least).bounds(1000) == (11, 1000)


@pytest.mark.parametrize(("least", "is_whole"), [(1e-5, True), (5e-4, True), (0.01, False)])
def test_soft_truncation_trains_no_level_below_its_lowest_cut(least, is_whole):
    density = SoftTruncation(least)
    assert density.ends(None) == (least, 1.0)
    assert float(density.quantile(torch.zeros(1), None)) > least
    for process in (DDPMConfig(), VPSDEConfig()):
        stages = placed((StageConfig("soft", 1.0, density),), [0])
        assert trained_on_all_levels(stages, 1, process.lowest_time) is is_whole
    assert SoftTruncation().bounds(1000) == (1, 1000)
    fifths = SoftTruncation().probabilities(1000).reshape(5, 200).sum(1) * 5
    assert fifths == pytest.approx([0.783, 0.925, 1.0, 1.075, 1.217], abs=1e-3)
    with pytest.raises(ValueError, match="greater than or equal"):
        SoftTruncation(0.0)
