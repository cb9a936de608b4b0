import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy import linalg

from benchmark.evaluation.metrics import frechet
from benchmark.evaluation.metrics.frechet import (
    MomentAccumulator,
    Moments,
    covariance_root,
    frechet_distance,
    merge_moments,
    moments,
)
from mindiffusion.errors import UserError


def normal_features(seed, n, dim, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return shift + scale * rng.normal(size=(n, dim)) @ np.diag(np.linspace(0.2, 2.0, dim))


def spectral_features(seed, n, basis, condition, scale=1.0):
    """Features whose variances fall evenly in the logarithm over ``condition``."""
    sd = np.sqrt(np.logspace(0, -np.log10(condition), len(basis)))
    return scale * (np.random.default_rng(seed).normal(size=(n, len(basis))) * sd) @ basis


def rotation(dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def distance_by_sqrtm(a, b):
    root = np.trace(linalg.sqrtm(a.covariance @ b.covariance)).real
    shift = a.mean - b.mean
    return shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root


def test_moments_equal_numpy():
    features = normal_features(0, 50, 7)
    result = moments(features)
    np.testing.assert_allclose(result.mean, features.mean(axis=0))
    np.testing.assert_allclose(result.covariance, np.cov(features, rowvar=False), atol=1e-14)
    assert result.n == 50


def test_moment_accumulator_equals_moments_for_any_split_and_large_mean():
    features = normal_features(1, 101, 6, shift=1e6)
    accumulator = MomentAccumulator()
    for batch in (features[:1], features[1:1], features[1:40], features[40:]):
        accumulator.add(batch)
    whole, split = moments(features), accumulator.result()
    assert split.n == whole.n
    np.testing.assert_allclose(split.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(split.covariance, whole.covariance, atol=1e-8)


def test_moment_accumulator_result_is_unchanged_by_later_batches():
    accumulator = MomentAccumulator()
    accumulator.add(normal_features(0, 10, 3))
    first = accumulator.result()
    mean, covariance = first.mean.copy(), first.covariance.copy()
    accumulator.add(normal_features(1, 10, 3, shift=5))
    np.testing.assert_array_equal(first.mean, mean)
    np.testing.assert_array_equal(first.covariance, covariance)


def test_merge_moments_equals_moments_of_all_features():
    features = normal_features(1, 101, 6, shift=1e6)
    parts = [moments(features[a:b]) for a, b in ((0, 2), (2, 50), (50, 101))]
    whole, merged = moments(features), merge_moments(parts)
    assert merged.n == 101
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(merged.covariance, whole.covariance, atol=1e-8)


def test_merge_moments_of_one_part_is_the_part():
    part = moments(normal_features(1, 20, 4))
    merged = merge_moments([part])
    np.testing.assert_allclose(merged.covariance, part.covariance, rtol=1e-14)
    np.testing.assert_array_equal(merged.mean, part.mean)


def test_merge_moments_rejects_no_part_and_unequal_widths():
    with pytest.raises(UserError, match="no part"):
        merge_moments([])
    with pytest.raises(UserError, match="one feature net"):
        merge_moments([moments(np.eye(3)), moments(np.eye(4))])


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form():
    rng = np.random.default_rng(2)
    mean_a, mean_b = rng.normal(size=(2, 9))
    sd_a, sd_b = rng.uniform(0.1, 3, size=(2, 9))
    a, b = Moments(mean_a, np.diag(sd_a**2), 100), Moments(mean_b, np.diag(sd_b**2), 100)
    expected = ((mean_a - mean_b) ** 2).sum() + ((sd_a - sd_b) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_in_one_dimension_is_the_closed_form():
    a, b = Moments(np.array([3.0]), np.array([[4.0]]), 10), Moments(np.zeros(1), np.eye(1), 10)
    assert frechet_distance(a, b) == pytest.approx(3**2 + (2 - 1) ** 2, rel=1e-14)


def test_frechet_distance_equals_matrix_square_root():
    a = moments(normal_features(3, 300, 24))
    b = moments(normal_features(4, 300, 24, scale=1.3, shift=0.2) @ np.tri(24))
    assert frechet_distance(a, b) == pytest.approx(distance_by_sqrtm(a, b), rel=1e-10)


@pytest.mark.parametrize("condition", [1e4, 1e8])
@pytest.mark.parametrize(("n_a", "n_b"), [(1000, 900), (40, 900), (40, 50)])
def test_frechet_distance_equals_matrix_square_root_on_long_spectra(condition, n_a, n_b):
    basis = rotation(96)
    a = moments(spectral_features(1, n_a, basis, condition, scale=1.1))
    b = moments(spectral_features(2, n_b, basis, condition))
    assert frechet_distance(a, b) == pytest.approx(distance_by_sqrtm(a, b), rel=1e-6)


def test_frechet_distance_of_nearly_equal_commuting_gaussians_keeps_its_digits():
    # The root of an eigenvalue that is wrong by 1e-16 would be wrong by 1e-8: more than these
    # directions' own share.
    basis = rotation(128)
    variances = np.logspace(0, -10, 128)
    nearby = variances * (1 + 0.1 * np.cos(np.arange(128)))
    a = Moments(np.zeros(128), (basis.T * nearby) @ basis, 1000)
    b = Moments(np.zeros(128), (basis.T * variances) @ basis, 1000)
    expected = ((np.sqrt(nearby) - np.sqrt(variances)) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-11)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-11)


def test_frechet_distance_is_symmetric_also_at_low_rank():
    a = moments(normal_features(5, 10, 40))
    b = moments(normal_features(6, 60, 40, scale=1.5))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


@pytest.mark.parametrize("n", [12, 400])
def test_frechet_distance_of_equal_sets_is_zero(n):
    features = normal_features(7, n, 60)
    a = moments(features)
    b = moments(features[::-1])
    assert frechet_distance(a, b) <= 1e-10 * np.trace(a.covariance)


def test_frechet_distance_of_low_rank_sets_is_that_of_their_subspace():
    rng = np.random.default_rng(8)
    small_a, small_b = rng.normal(size=(15, 6)), 2 * rng.normal(size=(15, 6)) + 1
    basis = np.linalg.qr(rng.normal(size=(80, 6)))[0].T
    inside = frechet_distance(moments(small_a), moments(small_b))
    embedded = frechet_distance(moments(small_a @ basis), moments(small_b @ basis))
    assert embedded == pytest.approx(inside, rel=1e-9)


def test_frechet_distance_to_copies_of_a_few_images_is_that_of_their_subspace():
    # 200 images, but rank 2: the other eigenvalues are rounding, and count for nothing.
    basis = rotation(60)
    reference = moments(spectral_features(3, 500, basis, 1e8))
    collapsed = moments(spectral_features(4, 3, basis, 1e8)[np.arange(200) % 3])
    directions, singular, _ = np.linalg.svd(collapsed.covariance)
    root = directions[:, :2] * np.sqrt(singular[:2])
    inner = np.linalg.eigvalsh(root.T @ reference.covariance @ root)
    shift = collapsed.mean - reference.mean
    spread = np.trace(collapsed.covariance) + np.trace(reference.covariance)
    expected = shift @ shift + spread - 2 * np.sqrt(inner).sum()
    assert frechet_distance(collapsed, reference) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_of_orthogonal_low_rank_sets_has_no_cross_term():
    rng = np.random.default_rng(16)
    basis = np.linalg.qr(rng.normal(size=(300, 8)))[0].T
    a = moments(rng.normal(size=(20, 4)) @ basis[:4])
    b = moments(rng.normal(size=(20, 4)) @ basis[4:])
    shift = a.mean - b.mean
    expected = shift @ shift + np.trace(a.covariance) + np.trace(b.covariance)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_to_a_collapsed_set_is_closed_form():
    reference = moments(normal_features(9, 200, 5))
    collapsed = moments(np.ones((20, 5)))
    expected = ((reference.mean - 1) ** 2).sum() + np.trace(reference.covariance)
    assert frechet_distance(collapsed, reference) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_from_a_collapsed_reference_is_closed_form():
    generated = moments(normal_features(9, 200, 5))
    collapsed = moments(np.ones((20, 5)))
    expected = ((generated.mean - 1) ** 2).sum() + np.trace(generated.covariance)
    assert frechet_distance(generated, collapsed) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_with_a_stored_root_is_the_same():
    a, b = moments(normal_features(10, 30, 12)), moments(normal_features(11, 30, 12, scale=2))
    root = covariance_root(b)
    np.testing.assert_allclose(root @ root.T, b.covariance, atol=1e-12)
    assert frechet_distance(a, b, reference_root=root) == frechet_distance(a, b)


def test_frechet_distance_grows_with_noise():
    reference = moments(normal_features(12, 500, 8))
    rng = np.random.default_rng(13)
    clean, noise = normal_features(14, 500, 8), rng.normal(size=(500, 8))
    values = [
        frechet_distance(moments(clean + level * noise), reference) for level in (0, 0.5, 1, 2)
    ]
    assert values == sorted(values)
    assert values[1] > 2 * values[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_moments_reject_non_finite_features_and_name_the_image(bad):
    features = normal_features(15, 10, 3)
    features[4, 1] = bad
    with pytest.raises(UserError, match=r"1 of 10 images.*image 4"):
        moments(features)


@pytest.mark.parametrize("n", [0, 1])
def test_moments_reject_fewer_than_two_images(n):
    with pytest.raises(UserError, match=f"Moments of {n} images"):
        moments(np.zeros((n, 3)))


def test_moments_reject_features_that_are_not_a_matrix():
    with pytest.raises(UserError, match=r"\(N, D\)"):
        moments(np.zeros(5))


def test_features_of_another_width_are_rejected():
    with pytest.raises(UserError, match="one feature net"):
        frechet_distance(moments(np.eye(3)), moments(np.eye(4)))
    accumulator = MomentAccumulator()
    accumulator.add(np.eye(3))
    with pytest.raises(UserError, match="one feature net"):
        accumulator.add(np.eye(4))


NEW_SCIPY = """
import sys
import numpy as np
import scipy
from scipy import linalg
from benchmark.evaluation.metrics.frechet import frechet_distance, moments

assert sys.version_info >= (3, 12)
rng = np.random.default_rng(0)
a, b = moments(rng.normal(size=(200, 16))), moments(rng.normal(size=(200, 16)) * 1.2 + 0.1)
shift = a.mean - b.mean
root = np.trace(linalg.sqrtm(a.covariance @ b.covariance)).real
expected = shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root
assert abs(frechet_distance(a, b) / expected - 1) < 1e-6
print("agrees with scipy", scipy.__version__)
"""


@pytest.fixture(scope="module")
def new_scipy_python():
    """A Python ≥ 3.12 with numpy and scipy ≥ 1.18: $NEW_SCIPY_PYTHON, this one, or one on PATH."""
    names = ["python3.12", "python3.13", "python3.14"]
    candidates = [os.environ.get("NEW_SCIPY_PYTHON"), sys.executable, *map(shutil.which, names)]
    probe = (
        "import sys, numpy, scipy; major, minor = map(int, scipy.__version__.split('.')[:2]); "
        "sys.exit(not (sys.version_info >= (3, 12) and (major, minor) >= (1, 18)))"
    )
    for python in filter(None, candidates):
        if subprocess.run([python, "-c", probe], capture_output=True).returncode == 0:
            return python
    pytest.skip("no Python >= 3.12 with numpy and scipy >= 1.18; name one in NEW_SCIPY_PYTHON")


def test_frechet_distance_equals_matrix_square_root_of_new_scipy(new_scipy_python, repository):
    done = subprocess.run(
        [new_scipy_python, "-c", NEW_SCIPY],
        env=dict(os.environ) | {"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "agrees with scipy" in done.stdout


@pytest.mark.parametrize("n", [2, 8, 30])
def test_few_images_take_a_shorter_way_to_the_same_distance(n, monkeypatch):
    rng = np.random.default_rng(n)
    scale = np.exp(-np.arange(60) / 8)
    generated = moments(rng.normal(size=(n, 60)) * scale)
    reference = moments(rng.normal(size=(200, 60)) * scale + 0.1)
    short = frechet_distance(generated, reference)
    calls = []
    monkeypatch.setattr(
        frechet, "_low_rank_cross_trace",
        lambda a, root: calls.append(a.n) or frechet._cross_trace(a.covariance, root),
    )  # fmt: skip
    assert short == pytest.approx(frechet_distance(generated, reference), rel=1e-12)
    assert calls == [n]


def test_images_that_are_all_alike_have_no_cross_term():
    same = moments(np.ones((3, 20)))
    other = moments(np.random.default_rng(0).normal(size=(50, 20)))
    expected = ((same.mean - other.mean) ** 2).sum() + np.trace(other.covariance)
    assert frechet_distance(same, other) == pytest.approx(expected, rel=1e-12)
