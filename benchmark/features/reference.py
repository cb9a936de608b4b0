"""References: features of a prepared array's images with their moments, computed once and kept."""

import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.features.extract import FeatureExtractor, ImageBatch, array_batches, feature_set
from benchmark.metrics.frechet import FloatArray, Moments, covariance_root
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, exclusive_lock, sha256_of_json

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
    """

    features: NDArray[np.float32]
    moments: Moments
    root: FloatArray
    n: int


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
    found = ReferenceSet(whole.features, whole.moments, covariance_root(whole.moments), whole.n)
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
    """The stored reference, or None where there is no whole file (zip entries carry a CRC)."""
    try:
        # Opened here: np.load leaves a file it cannot read open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            names = ("features", "mean", "covariance", "root")
            features, mean, covariance, root = (archive[name] for name in names)
    # RuntimeError: a flipped flag says that an entry is encrypted or packed in an unknown way.
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
    if features.shape != (n, dim) or covariance.shape != (dim, dim) or len(root) != dim:
        return None
    return ReferenceSet(features, Moments(mean, covariance, n), root, n)
