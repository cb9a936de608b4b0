import threading
from dataclasses import replace

import numpy as np
import pytest

from benchmark.evaluation.features import reference_set as module
from benchmark.evaluation.features.reference_set import reference_set
from benchmark.evaluation.metrics.frechet import covariance_root, moments
from benchmark.evaluation.metrics.kid import sums_over_others
from mindiffusion.errors import UserError


@pytest.fixture
def extractor(make_extractor):
    return make_extractor(dim=16, batch_size=3)


def archive_of(folder):
    (path,) = folder.glob("*.npz")
    return path


def test_reference_set_has_features_moments_and_root(extractor, smooth_images, tmp_path):
    images = smooth_images(9)
    found = reference_set(extractor, images, 7, tmp_path, "set-a")
    features = extractor(images[:7])
    assert found.n == len(found.features) == 7 and found.features.dtype == np.float32
    np.testing.assert_allclose(found.features, features, rtol=1e-5, atol=1e-6)
    expected = moments(found.features)
    np.testing.assert_allclose(found.moments.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.moments.covariance, expected.covariance, atol=1e-12)
    root = covariance_root(found.moments)
    assert found.root.tobytes() == root.tobytes() and root.shape == (16, 6)


def test_reference_set_is_computed_once_and_again_if_the_file_is_bad(
    extractor, smooth_images, tmp_path
):
    images = smooth_images(6)
    cache = tmp_path / "cache"
    first = reference_set(extractor, images, 4, cache, "set-a")
    # Other pixels under the same manifest show whether the cache or the net answered.
    other = 255 - images
    again = reference_set(extractor, other, 4, cache, "set-a")
    for name in ("features", "root"):
        assert getattr(again, name).tobytes() == getattr(first, name).tobytes()
    assert again.moments.mean.tobytes() == first.moments.mean.tobytes()
    assert again.moments.covariance.tobytes() == first.moments.covariance.tobytes()
    assert again.moments.n == again.n == 4
    path = archive_of(cache)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    packed, method = bytearray(content), bytearray(content)
    entry = content.rindex(b"PK\1\2")
    packed[entry + 8] ^= 1  # as if encrypted
    method[entry + 10] ^= 1  # as if packed by a method that nobody knows
    flipped = bytes([content[middle] ^ 1])
    for bad in (
        packed,
        method,
        b"",
        bytes(content[:-100]),
        bytes(content[:middle] + flipped + content[middle + 1 :]),
    ):
        path.write_bytes(bad)
        again = reference_set(extractor, other, 4, cache, "set-a")
        np.testing.assert_allclose(again.features, extractor(other[:4]), rtol=1e-5, atol=1e-6)


def test_reference_sets_are_kept_apart(extractor, make_extractor, smooth_images, tmp_path):
    images = smooth_images(6)
    other_weights = replace(extractor, weights_sha256="1" * 64)
    other_version = replace(extractor, net=replace(extractor.net, version=2))
    reference_set(extractor, images, 4, tmp_path, "set-a")
    reference_set(extractor, images, 5, tmp_path, "set-a")
    reference_set(extractor, images, 4, tmp_path, "set-b")
    reference_set(other_weights, images, 4, tmp_path, "set-a")
    reference_set(other_version, images, 4, tmp_path, "set-a")
    assert len(list(tmp_path.glob("*.npz"))) == 5


@pytest.mark.parametrize("n", [1, 7])
def test_reference_set_rejects_a_count_the_array_cannot_give(extractor, smooth_images, tmp_path, n):
    with pytest.raises(UserError, match="allows 2 to 6"):
        reference_set(extractor, smooth_images(6), n, tmp_path, "set-a")


def test_of_several_processes_one_computes_a_reference(
    extractor, smooth_images, tmp_path, monkeypatch
):
    computed, compute = [], module._compute
    monkeypatch.setattr(
        module, "_compute", lambda *words: computed.append(words) or compute(*words)
    )
    images, found = smooth_images(6), []
    threads = [
        threading.Thread(
            target=lambda: found.append(reference_set(extractor, images, 6, tmp_path, "set-a"))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1
    assert len({one.features.tobytes() for one in found}) == 1 and len(found) == 3


def test_reference_set_reads_a_mapped_array(extractor, smooth_images, tmp_path):
    np.save(tmp_path / "images.npy", smooth_images(5))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    found = reference_set(extractor, mapped, 4, tmp_path / "cache", "set-a")
    np.testing.assert_allclose(found.features, extractor(smooth_images(5)[:4]), rtol=1e-5)


def test_kernel_sums_are_computed_once_and_again_if_their_file_is_bad(
    extractor, smooth_images, tmp_path, monkeypatch
):
    found = reference_set(extractor, smooth_images(9), 7, tmp_path, "set-a")
    expected = sums_over_others(found.features)
    assert found.kernel_sums.tobytes() == expected.tobytes()
    (path,) = tmp_path.glob("*-kernel.npz")
    calls = []
    monkeypatch.setattr(module, "sums_over_others", lambda features: calls.append(1) or expected)
    again = reference_set(extractor, smooth_images(9), 7, tmp_path, "set-a")
    assert again.kernel_sums.tobytes() == expected.tobytes() and not calls
    path.write_bytes(path.read_bytes()[:-9])
    third = reference_set(extractor, smooth_images(9), 7, tmp_path, "set-a")
    assert third.kernel_sums.tobytes() == expected.tobytes() and calls == [1]
