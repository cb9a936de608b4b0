import tracemalloc

import numpy as np
import pytest
import torch
from torch_fidelity.metric_prc import calculate_precision_recall_full

import benchmark.evaluation.metrics.neighbours as module
from benchmark.evaluation.metrics.neighbours import nearest_neighbours, neighbour_scores
from mindiffusion.errors import UserError


def two_sets(m=130, n=110, dim=8, seed=0, shift=0.3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, dim)) * 1.1 + shift, rng.normal(size=(n, dim))


def brute_force(generated, reference):
    """The four scores by the papers' definitions, from all float64 distances."""

    def distances(a, b):
        return np.sqrt(((a[:, None].astype(float) - b[None].astype(float)) ** 2).sum(axis=2))

    def radii(a, k):
        return np.sort(distances(a, a), axis=1)[:, k]  # column 0 is the image itself

    across = distances(reference, generated)
    in_dense = across <= radii(reference, 5)[:, None]
    return (
        (across <= radii(reference, 3)[:, None]).any(axis=0).mean(),
        (across <= radii(generated, 3)[None, :]).any(axis=1).mean(),
        in_dense.sum(axis=0).mean() / 5,
        in_dense.any(axis=1).mean(),
    )


def values(scores):
    parts = (scores.precision, scores.recall, scores.density, scores.coverage)
    return tuple(part.value for part in parts)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_neighbour_scores_equal_brute_force_also_far_from_the_origin(seed, offset):
    x, y = (features + offset for features in two_sets(seed=seed))
    assert values(neighbour_scores(x, y)) == pytest.approx(brute_force(x, y), abs=1e-15)


def test_neighbour_scores_of_float32_features_equal_brute_force():
    x, y = (features.astype(np.float32) for features in two_sets())
    assert values(neighbour_scores(x, y)) == pytest.approx(brute_force(x, y), abs=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_equal_torch_fidelity(seed):
    x, y = two_sets(seed=seed)
    theirs = calculate_precision_recall_full(torch.from_numpy(x), torch.from_numpy(y))
    assert values(neighbour_scores(x, y))[:2] == pytest.approx(theirs, abs=1e-6)


def test_neighbour_scores_of_clusters_tighter_than_float32_equal_brute_force():
    # Around a point far from the centre, float32 products cannot tell these distances from 0.
    rng = np.random.default_rng(5)
    y = rng.normal(size=(60, 6))
    tight = y[:1] + 30 + 1e-6 * rng.normal(size=(50, 6))
    x, y = np.concatenate([tight[:25], y[:20] + 0.1]), np.concatenate([y, tight[25:]])
    with_copies = np.concatenate([x, y[:9]])
    assert values(neighbour_scores(with_copies, y)) == pytest.approx(brute_force(with_copies, y))


def test_neighbour_scores_of_equal_sets_are_exact():
    # Each image lies in the balls of itself and of those it is among the 5 nearest of; the
    # farthest of these lies exactly on the border, where only exact ties count right.
    y = two_sets()[1]
    assert values(neighbour_scores(y, y)) == (1.0, 1.0, pytest.approx(6 / 5, rel=1e-12), 1.0)


def test_copies_that_rounding_moved_lie_in_each_others_balls():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(1, 64))
    x, y = (one * (1 + 3e-6 * rng.uniform(-1, 1, size=(n, 64))) for n in (16, 20))
    assert values(neighbour_scores(x, y, rounding=1e-5)) == (1, 1, 20 / 5, 1)
    constant = np.repeat(one, 16, axis=0)
    moved = constant * (1 + 1e-7)
    assert values(neighbour_scores(constant, moved)) == (0, 0, 0, 0)
    assert values(neighbour_scores(constant, moved, rounding=1e-5)) == (1, 1, 16 / 5, 1)
    assert values(neighbour_scores(constant, constant * (1 + 3e-5), rounding=1e-5)) == (0, 0, 0, 0)


def test_rounding_changes_nothing_of_images_that_differ():
    x, y = two_sets()
    assert neighbour_scores(x, y, rounding=1e-5) == neighbour_scores(x, y)


def test_neighbour_scores_do_not_depend_on_the_tiles(monkeypatch):
    x, y = two_sets()
    whole, found = neighbour_scores(x, y), nearest_neighbours(x, y, 4)
    monkeypatch.setattr(module, "_TILE", 17)
    monkeypatch.setattr(module, "_PAIRS", 3)
    assert neighbour_scores(x, y) == whole
    for ours, tiled in zip(found, nearest_neighbours(x, y, 4), strict=True):
        np.testing.assert_array_equal(ours, tiled)


def test_neighbour_scores_memory_does_not_grow_with_the_number_of_images(monkeypatch):
    monkeypatch.setattr(module, "_TILE", 64)

    def peak(n):
        x, y = (features.astype(np.float32) for features in two_sets(n, n, dim=4))
        tracemalloc.start()
        neighbour_scores(x, y)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    small, large = peak(300), peak(1200)
    # A matrix of all distances would be 16 times as large; a few numbers an image are kept.
    assert large < 1.6 * small


def test_neighbour_scores_measure_few_pairs_twice_wherever_the_origin_is(monkeypatch):
    exact, pairs = module._exact_squared, []
    monkeypatch.setattr(
        module, "_exact_squared", lambda x, y: (pairs.append(len(x)), exact(x, y))[1]
    )
    x, y = two_sets()
    neighbour_scores(x, y)
    near, pairs[:] = sum(pairs), []
    neighbour_scores(x + 1e4, y + 1e4)
    # The candidates of 130 and 110 images, and hardly a comparison beyond.
    assert near < 1.05 * (130 * 11 + 110 * 13)
    assert sum(pairs) == near


def test_mode_collapse_keeps_precision_and_loses_recall_and_coverage():
    rng = np.random.default_rng(1)
    modes = 6 * rng.normal(size=(10, 8))
    reference = np.repeat(modes, 30, axis=0) + rng.normal(size=(300, 8))
    healthy = np.repeat(modes, 30, axis=0) + rng.normal(size=(300, 8))
    collapsed = np.tile(modes[:2], (150, 1)) + 0.7 * rng.normal(size=(300, 8))
    whole, dropped = neighbour_scores(healthy, reference), neighbour_scores(collapsed, reference)
    assert dropped.precision.value >= whole.precision.value
    assert dropped.density.value >= whole.density.value
    assert dropped.recall.value < 0.3 * whole.recall.value
    assert dropped.coverage.value < 0.3 * whole.coverage.value


def test_far_noise_loses_precision_and_density():
    healthy, reference = two_sets(200, 200, shift=0.0)
    noise = np.random.default_rng(2).normal(size=healthy.shape)
    scores = [neighbour_scores(healthy + level * noise, reference) for level in (0, 1, 3)]
    precision = [s.precision.value for s in scores]
    density = [s.density.value for s in scores]
    assert precision == sorted(precision, reverse=True) and precision[-1] < 0.5 * precision[0]
    assert density == sorted(density, reverse=True) and density[-1] < 0.5 * density[0]


def test_neighbour_scores_errors_are_those_of_means():
    scores = neighbour_scores(*two_sets())
    for part, n in ((scores.precision, 130), (scores.recall, 110), (scores.coverage, 110)):
        expected = np.sqrt(part.value * (1 - part.value) / (n - 1))
        assert part.standard_error == pytest.approx(expected, rel=1e-12)
    assert 0 < scores.density.standard_error < scores.density.value
    assert (scores.n_generated, scores.n_reference) == (130, 110)


def test_nearest_neighbours_are_those_of_brute_force():
    x, y = two_sets(30, 40)
    distances, rows = nearest_neighbours(x, y, 3)
    full = np.sqrt(((x[:, None] - y[None]) ** 2).sum(axis=2))
    np.testing.assert_array_equal(rows, np.argsort(full, axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(full, axis=1)[:, :3], rtol=1e-13)


def test_nearest_neighbours_of_bytes_are_exact_and_in_order():
    base = np.array([[0, 0], [255, 255], [3, 4], [3, 4]], dtype=np.uint8)
    distances, rows = nearest_neighbours(np.array([[0, 0]], dtype=np.uint8), base, 4)
    np.testing.assert_array_equal(distances, [[0, 5, 5, np.hypot(255, 255)]])
    np.testing.assert_array_equal(rows, [[0, 2, 3, 1]])


def test_neighbours_reject_bad_input():
    x, y = two_sets(6, 9)
    with pytest.raises(UserError, match="give 6 or more"):
        neighbour_scores(x[:5], y)
    with pytest.raises(UserError, match="one feature net"):
        neighbour_scores(x, y[:, :3])
    with pytest.raises(UserError, match="not finite"):
        neighbour_scores(x, np.full_like(y, np.inf))
    with pytest.raises(UserError, match=r"\(N, D\)"):
        neighbour_scores(x[0], y)
    with pytest.raises(UserError, match="allowed is 1 to 9"):
        nearest_neighbours(x, y, 10)
