"""References: features of a prepared array's images with their moments, computed once and kept."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.features.extract import (
    FeatureExtractor,
    ImageBatch,
    array_batches,
    feature_set,
)
from benchmark.evaluation.metrics.frechet import FloatArray, Moments, covariance_root
from benchmark.evaluation.metrics.kid import sums_over_others
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, exclusive_lock, sha256_of_json
from mindiffusion.outside.arrays import Wanted, read_npz

_LAYOUT = 2
"""Of the file; part of its key."""


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """What generated images are held against.

    Attributes:
        features: (n, D) float32, which is what the nets give.
        moments: their mean and covariance.
        root: ``covariance_root(moments)``, (D, k).
        n: number of images.
        path: its file in the cache; None where it is kept in none.
    """

    features: NDArray[np.float32]
    moments: Moments
    root: FloatArray
    n: int
    path: Path | None = None

    @functools.cached_property
    def kernel_sums(self) -> FloatArray:
        """``sums_over_others(features)`` of the kernel distance, (n,); kept in a file of its own.

        It takes n² · D operations, so it is computed when first asked for.
        """
        if self.path is None:
            return sums_over_others(self.features)
        path = self.path.with_name(f"{self.path.stem}-kernel.npz")
        with exclusive_lock(path.with_name(f".{path.stem}.lock"), wait_seconds=math.inf):
            found = _read_arrays(path, {"sums": Wanted("<f8", (self.n,))}, 8 * self.n)
            if found is not None:
                return found["sums"]
            sums = sums_over_others(self.features)
            with atomic_write(path) as handle:
                np.savez(handle, sums=sums)
        return sums


def reference_set(
    extractor: FeatureExtractor,
    images: NDArray[np.uint8],
    n: int,
    cache_dir: Path,
    manifest_id: str,
) -> ReferenceSet:
    """The first ``n`` images of a prepared array, as a reference.

    Kept in a file named by what determines it. A file that is cut, altered or of another shape is
    computed again. Of several processes one computes; the others wait and read its file.

    Args:
        extractor: the loaded net.
        images: (N, H, W, 3) uint8, may be memory-mapped.
        n: how many images, 2 ≤ n ≤ N.
        cache_dir: folder of the cache.
        manifest_id: identifies the array: source, split and preparation.

    Raises:
        UserError: n out of range.
    """
    if not 2 <= n <= len(images):
        raise UserError(f"{n} reference images asked for; the array allows 2 to {len(images)}.")

    def batches() -> Iterator[ImageBatch]:
        return array_batches(images[:n], extractor.batch_size)

    return reference_of_batches(extractor, batches, n, cache_dir, manifest_id)


def reference_of_batches(
    extractor: FeatureExtractor,
    batches: Callable[[], Iterable[ImageBatch]],
    n: int,
    cache_dir: Path,
    content_id: str,
) -> ReferenceSet:
    """As :func:`reference_set`, of ``n`` images that come in batches, each index once.

    Args:
        extractor: the loaded net.
        batches: called only where the cache has nothing.
        n: number of images, ≥ 2.
        cache_dir: folder of the cache.
        content_id: identifies the images and their order.
    """
    path = cache_dir / f"{extractor.net.label}-{_key(extractor, n, content_id)[:16]}.npz"
    with exclusive_lock(cache_dir / f".{path.stem}.lock", wait_seconds=math.inf):
        found = _read(path, n, extractor.net.dim)
        return found or _compute(extractor, batches(), n, path)


def _key(extractor: FeatureExtractor, n: int, manifest_id: str) -> str:
    key = {
        "layout": _LAYOUT,
        "version": extractor.net.version,
        "manifest": manifest_id,
        "net": extractor.net.label,
        "weights": extractor.weights_sha256,
        "n": n,
    }
    return sha256_of_json(key)


def _compute(
    extractor: FeatureExtractor, batches: Iterable[ImageBatch], n: int, path: Path
) -> ReferenceSet:
    whole = feature_set(extractor, batches, n, groups=1, keep=True)
    assert whole.features is not None
    root = covariance_root(whole.moments)
    found = ReferenceSet(whole.features, whole.moments, root, whole.n, path)
    with atomic_write(path) as handle:
        np.savez(
            handle,
            features=found.features,
            mean=found.moments.mean,
            covariance=found.moments.covariance,
            root=found.root,
        )
    return found


def _read(path: Path, n: int, dim: int) -> ReferenceSet | None:
    """The stored reference, or None where there is no whole file."""
    wanted = {
        "features": Wanted("<f4", (n, dim)),
        "mean": Wanted("<f8", (dim,)),
        "covariance": Wanted("<f8", (dim, dim)),
        "root": Wanted("<f8", (dim, None)),
    }
    most = 4 * n * dim + 8 * dim * (2 * dim + 1)
    found = _read_arrays(path, wanted, most)
    if found is None:
        return None
    moments = Moments(found["mean"], found["covariance"], n)
    return ReferenceSet(found["features"], moments, found["root"], n, path)


def _read_arrays(path: Path, wanted: Mapping[str, Wanted], most: int) -> dict[str, NDArray] | None:
    """Arrays of a file, or None where it is not whole (zip entries carry a CRC)."""
    try:
        return read_npz(path, wanted, most)
    except (OSError, UserError):
        return None
