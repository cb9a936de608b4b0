import itertools

import numpy as np
import pytest

from benchmark.evaluation.features_of.channel_norms import channel_norms
from benchmark.evaluation.features_of.cka import linear_cka, unbiased_hsic
from benchmark.evaluation.features_of.layers import LayerFeatures
from benchmark.evaluation.features_of.spectrum import (
    effective_rank_of,
    shown_ranks,
)
from mindiffusion.errors import UserError


def drawn(n, dim, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim))


def test_hsic_is_the_mean_over_all_fours_of_images():
    """Song et al. 2012, eq. 4: over i ≠ j ≠ q ≠ r of k_ij (l_ij + l_qr − 2 l_iq)."""
    a, b = (x @ x.T for x in (drawn(6, 3), drawn(6, 2, 1)))
    for gram in (a, b):
        np.fill_diagonal(gram, 0)
    fours = list(itertools.permutations(range(6), 4))
    brute = np.mean([a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q]) for i, j, q, r in fours])
    assert unbiased_hsic(a, b) == pytest.approx(brute)


def test_cka_of_a_rotated_scaled_and_shifted_representation_is_1():
    features = drawn(60, 12)
    rotation = np.linalg.qr(drawn(12, 12, 1)).Q
    found = linear_cka(features, 3.0 * features @ rotation + 5.0)
    assert found.value == pytest.approx(1.0, abs=1e-12)
    assert found.standard_error == pytest.approx(0.0, abs=1e-9)


def test_cka_of_independent_representations_is_about_0_however_few_images():
    """The biased estimate would be near 1/2 here."""
    values = [linear_cka(drawn(40, 40, k), drawn(40, 40, 100 + k)).value for k in range(30)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(30) + 1e-3
    assert np.std(values) < 0.1


def test_cka_falls_with_what_is_not_shared():
    common = drawn(200, 5)
    parts = [linear_cka(common, common + noise * drawn(200, 5, 3)).value for noise in (0, 0.5, 2)]
    assert parts[0] > parts[1] > parts[2] > 0


def test_cka_of_what_does_not_vary_is_nan_and_few_images_are_refused():
    assert np.isnan(linear_cka(np.ones((30, 4)), drawn(30, 4)).value)
    for a, b in ((19, 19), (30, 31)):
        with pytest.raises(UserError, match="20 or more"):
            linear_cka(drawn(a, 3), drawn(b, 3))


def test_norms_are_root_mean_squares_and_channels_of_no_strength_are_dead():
    squares = np.array([[4.0, 0.0, 1e-6, 16.0], [4.0, 0.0, 1e-6, 0.0]])
    found = channel_norms(LayerFeatures(np.zeros((2, 4)), squares))
    np.testing.assert_allclose(found.norms, [2.0, 0.0, 1e-3, np.sqrt(8)])
    assert found.dead == 0.5
    assert found.percentiles()[50] == pytest.approx((2 + 1e-3) / 2)


def test_effective_rank_counts_equal_values_and_ranks_are_powers_of_two():
    assert effective_rank_of(np.array([3.0, 3.0, 3.0, 0.0])) == pytest.approx(3.0)
    assert effective_rank_of(np.array([5.0])) == 1.0
    assert effective_rank_of(np.zeros(4)) == 0.0
    assert effective_rank_of(np.array([2.0, 1.0])) == pytest.approx(25 / 17)
    assert shown_ranks(9) == (1, 2, 4, 8) and shown_ranks(8) == (1, 2, 4, 8)
    assert shown_ranks(1) == (1,) and shown_ranks(0) == ()
