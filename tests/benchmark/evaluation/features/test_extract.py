import json
import tracemalloc

import numpy as np
import pytest
from drive_features import DIM, GROUPS, picture, pictures_of
from drive_features import extractor as driven_extractor

from benchmark.evaluation.features import extract
from benchmark.evaluation.features.extract import (
    array_batches,
    feature_set,
    group_ranges,
    own_ranges,
)
from benchmark.evaluation.metrics.frechet import moments
from mindiffusion.errors import UserError
from mindiffusion.training.ranks import Ranks


def assert_same_moments(found, expected, tolerance=1e-9):
    assert found.n == expected.n
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(found.mean, expected.mean, **close)
    np.testing.assert_allclose(found.covariance, expected.covariance, **close)


def assert_same_bits(found, expected):
    for one, other in zip(found.groups, expected.groups, strict=True):
        assert one.mean.tobytes() == other.mean.tobytes()
        assert one.covariance.tobytes() == other.covariance.tobytes()
    if expected.features is not None:
        assert found.features.tobytes() == expected.features.tobytes()


def test_feature_set_has_the_moments_of_each_group_and_of_all(make_extractor, smooth_images):
    extractor, images = make_extractor(), smooth_images(23)
    features = extractor(images)
    found = feature_set(extractor, array_batches(images, 5), 23, groups=4, keep=True)
    assert [group.n for group in found.groups] == [5, 6, 6, 6] and found.n == 23
    for group, indices in zip(found.groups, group_ranges(23, 4), strict=True):
        assert_same_moments(group, moments(features[indices.start : indices.stop]), 1e-6)
    assert_same_moments(found.moments, moments(features), 1e-6)
    assert found.features.dtype == np.float32
    np.testing.assert_allclose(found.features, features, rtol=1e-5, atol=1e-6)


def test_feature_set_has_the_same_bits_however_images_come(make_extractor, smooth_images):
    extractor, images = make_extractor(), smooth_images(31)
    expected = feature_set(extractor, array_batches(images, 31), 31, groups=3, keep=True)
    for size in (1, 2, 7):
        batches = array_batches(images, size)
        assert_same_bits(feature_set(extractor, batches, 31, groups=3, keep=True), expected)


def test_feature_set_takes_images_of_several_sizes_in_any_order(make_extractor, smooth_images):
    extractor = make_extractor()
    sizes = {0: smooth_images(6, 0, 16), 1: smooth_images(6, 1, 24)}
    batches = [
        (np.array([1, 9, 3]), sizes[1][:3]),
        (np.array([0, 2, 4, 6, 8, 10]), sizes[0]),
        (np.array([7, 5, 11]), sizes[1][3:]),
    ]
    expected = np.empty((12, 6))
    for indices, images in batches:
        expected[indices] = extractor(images)
    found = feature_set(extractor, batches, 12, groups=3, keep=True)
    np.testing.assert_allclose(found.features, expected, rtol=1e-5, atol=1e-6)
    assert_same_moments(found.moments, moments(expected), 1e-6)


def test_feature_set_calls_the_net_with_whole_batches_of_one_group(make_extractor, smooth_images):
    extractor, sizes = make_extractor(batch_size=4), []
    extractor.module.register_forward_hook(lambda _, inputs, output: sizes.append(len(output)))
    feature_set(extractor, array_batches(smooth_images(22), 3), 22, groups=2)
    assert sizes == [4, 4, 3, 4, 4, 3]


def test_feature_set_keeps_no_features_unless_asked(make_extractor, smooth_images):
    found = feature_set(make_extractor(), array_batches(smooth_images(8), 3), 8, groups=2)
    assert found.features is None


def test_feature_set_tells_how_many_images_are_done(make_extractor, smooth_images):
    told = []
    batches = array_batches(smooth_images(20), 8)
    feature_set(make_extractor(), batches, 20, on_images=told.append)
    assert told == [8, 16, 20]


def peak_bytes(extractor, n, keep=False):
    """Of a stream whose images exist only while they are wanted."""
    batches = (
        (np.arange(start, start + 8), np.full((8, 16, 16, 3), start % 256, dtype=np.uint8))
        for start in range(0, n, 8)
    )
    tracemalloc.start()
    try:
        feature_set(extractor, batches, n, keep=keep)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_images(make_extractor, monkeypatch):
    monkeypatch.setattr(extract, "ROWS_AT_ONCE", 16)
    extractor = make_extractor(dim=64, batch_size=8)
    peak_bytes(extractor, 160)  # what is imported and cached once
    few, many = peak_bytes(extractor, 400), peak_bytes(extractor, 1600)
    assert many < 1.05 * few
    assert peak_bytes(extractor, 1600, keep=True) > few + 0.9 * 1600 * 64 * 4


def test_large_images_pass_the_net_few_at_a_time(make_extractor, smooth_images, monkeypatch):
    extractor, images = make_extractor(batch_size=8), smooth_images(20)
    expected = feature_set(extractor, array_batches(images, 8), 20, groups=2, keep=True)
    pixels = images.shape[1] * images.shape[2]
    monkeypatch.setattr(extract, "PIXELS_AT_ONCE", 3 * pixels)
    calls = []
    real = type(extractor).batch
    monkeypatch.setattr(
        type(extractor), "batch", lambda self, x: calls.append(len(x)) or real(self, x)
    )
    found = feature_set(extractor, array_batches(images, 8), 20, groups=2, keep=True)
    assert calls == [3, 3, 3, 1] * 2 or sorted(calls) == [1, 1, 3, 3, 3, 3, 3, 3]
    np.testing.assert_allclose(found.features, expected.features, rtol=1e-5, atol=1e-6)


def test_images_of_many_sizes_do_not_wait_for_ever(make_extractor, monkeypatch):
    extractor = make_extractor(batch_size=8)
    monkeypatch.setattr(extract, "MOST_WAITING", 3 * 30 * 30)
    calls = []
    real = type(extractor).batch
    monkeypatch.setattr(
        type(extractor), "batch", lambda self, x: calls.append(len(x)) or real(self, x)
    )
    sizes = range(16, 28)
    batches = [
        (np.array([k]), np.full((1, side, side, 3), k, np.uint8)) for k, side in enumerate(sizes)
    ]
    waited = []
    feature_set(extractor, batches, 12, groups=1, on_images=lambda n: waited.append(n - len(calls)))
    assert len(calls) == 12 and max(waited) <= 8


def test_group_ranges_cover_all_images_in_order():
    for n, groups in ((20, 10), (29, 10), (8, 4), (5, 1)):
        ranges = group_ranges(n, groups)
        assert [index for one in ranges for index in one] == list(range(n))
        assert len(ranges) == groups and min(map(len, ranges)) >= 2
        assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_group_ranges_reject_groups_of_one_image():
    with pytest.raises(UserError, match="19 images make no 10 groups; give 20"):
        group_ranges(19, 10)


def test_own_ranges_share_the_groups_out():
    every = [own_ranges(30, 5, Ranks(rank=rank, world=3)) for rank in range(3)]
    assert [[one.start for one in ranges] for ranges in every] == [[0, 18], [6, 24], [12]]
    assert own_ranges(30, 5) == group_ranges(30, 5)


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        ([[0, 1, 2], [3, 4, 5]], "2 of 8 images did not come"),
        ([[0, 1, 2, 3], [3, 4, 5]], "came twice"),
        ([[0, 0, 1]], "came twice"),
        ([[6, 7, 8]], "indices from 6 to 8; allowed is one for each image, from 0 to 7"),
        ([[-1, 0]], "indices from -1 to 0"),
    ],
)
def test_feature_set_counts_exactly(make_extractor, smooth_images, indices, said):
    batches = ((np.array(some), smooth_images(len(some))) for some in indices)
    with pytest.raises(UserError, match=said):
        feature_set(make_extractor(), batches, 8, groups=2)


def test_feature_set_refuses_images_that_are_not_uint8(make_extractor):
    batches = [(np.arange(8), np.zeros((8, 4, 4, 3), dtype=np.float32))]
    with pytest.raises(UserError, match=r"float32.*give uint8"):
        feature_set(make_extractor(), batches, 8, groups=2)


def test_two_ranks_have_the_bits_of_one(tmp_path, run_cli, torchrun, repository):
    n = 37
    script = repository / "tests/benchmark/evaluation/features/drive_features.py"
    (tmp_path / "job.json").write_text(json.dumps({"n": n}))
    done = run_cli([*torchrun, script, tmp_path], tmp_path)
    assert done.returncode == 0, done.stderr
    batches = pictures_of(own_ranges(n, GROUPS), 3)
    alone = feature_set(driven_extractor(), batches, n, GROUPS, keep=True)
    for rank in range(2):
        with np.load(tmp_path / f"rank{rank}.npz") as dump:
            assert set(dump["drawn"]) < set(range(n))  # each rank drew its own images only
            for number, group in enumerate(alone.groups):
                assert dump["means"][number].tobytes() == group.mean.tobytes()
                assert dump["covariances"][number].tobytes() == group.covariance.tobytes()
            assert dump["features"].tobytes() == alone.features.tobytes()
    assert alone.features.shape == (n, DIM)
    np.testing.assert_allclose(
        alone.features, driven_extractor()(np.stack([picture(k) for k in range(n)])), rtol=1e-5
    )
