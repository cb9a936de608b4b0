"""Relative entropy by nearest neighbours against Gaussians whose relative entropy is known."""

import numpy as np
import pytest

from benchmark.difficulty.nearest import knn_relative_entropy, standardised_scores
from mindiffusion.errors import UserError


def gaussians(n, dim, scale, seed):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, dim)), scale * draw.normal(size=(n, dim))


@pytest.mark.parametrize(("dim", "scale"), [(1, 1.0), (2, 1.0), (2, 2.0), (3, 1.5), (3, 3.0)])
def test_gaussians_within_the_error(dim, scale):
    """KL(N(0, I) ‖ N(0, s²I)) = d·(ln s + (s⁻² − 1)/2)."""
    known = dim * (np.log(scale) + (scale**-2 - 1) / 2)
    p, q = gaussians(3000, dim, scale, dim)
    found = knn_relative_entropy(p, q)
    assert 0.005 < found.standard_error < 0.05
    # Neighbours share points: the true error is up to twice that of independent terms.
    assert abs(found.value - known) < 6 * found.standard_error


def test_estimate_falls_short_where_the_second_law_is_the_narrower_one():
    """Few points of Q stand for its tail: the bias that the module's docstring names."""
    p, q = gaussians(3000, 2, 0.7, 2)
    known = 2 * (np.log(0.7) + (0.7**-2 - 1) / 2)
    found = knn_relative_entropy(p, q)
    assert 0.3 * known < found.value < known - 3 * found.standard_error


def test_error_is_about_the_spread_over_samples():
    found = [knn_relative_entropy(*gaussians(400, 2, 1.5, seed)) for seed in range(40)]
    spread = np.std([one.value for one in found], ddof=1)
    stated = np.mean([one.standard_error for one in found])
    assert 0.5 < stated / spread < 2


def test_linear_maps_of_both_change_nothing_after_standardising():
    p, q = gaussians(500, 3, 1.5, 0)
    mixing = np.array([[2.0, 0.3, 0], [0, 0.1, 0], [0.5, 0, 7.0]])
    plain = knn_relative_entropy(*standardised_scores(p, q, 3))
    mixed = knn_relative_entropy(*standardised_scores(p @ mixing + 5, q @ mixing + 5, 3))
    # Standardised scores of the two differ by a rotation.
    assert mixed.value == pytest.approx(plain.value, abs=1e-6)


def test_components_without_variance_are_left_out():
    p, q = gaussians(50, 2, 1.5, 0)
    flat = [np.pad(one, ((0, 0), (0, 4))) for one in (p, q)]
    found = standardised_scores(*flat, 5)
    assert [one.shape for one in found] == [(50, 2), (50, 2)]
    both = np.concatenate(found)
    assert both.T @ both / len(both) == pytest.approx(np.eye(2))


@pytest.mark.parametrize(
    ("p", "q", "k", "said"),
    [
        (np.zeros((9, 2)), np.ones((9, 2)), 5, "more than 5 points are equal"),
        (np.eye(4), np.eye(4), 4, "neighbour 4 of 4 and 4 points"),
        (np.eye(4), np.eye(4), 0, "neighbour 0 of 4 and 4 points"),
    ],
)
def test_bad_points_are_one_line(p, q, k, said):
    with pytest.raises(UserError, match=said) as error:
        knn_relative_entropy(p, q, k)
    assert "\n" not in str(error.value)


def test_equal_features_are_one_line():
    with pytest.raises(UserError, match="features of 6 pictures are all equal"):
        standardised_scores(np.ones((3, 4)), np.ones((3, 4)), 2)
