"""Silhouette: do images of one class lie together, and apart from the other classes?

Source: Rousseeuw 1987, "Silhouettes", eq. 1, with the cosine distance.
"""

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.features_of.balanced import Balanced
from benchmark.evaluation.features_of.grouped import Estimate, groups_of, leaving_groups_out
from benchmark.evaluation.features_of.layers import FloatArray


def cosine_distances(features: FloatArray) -> FloatArray:
    """1 − cos of all pairs of features (N, D), (N, N) in [0, 2]; 1 beside a feature of length 0."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = features / np.where(lengths > 0, lengths, 1.0)
    distances: FloatArray = np.clip(1.0 - units @ units.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def mean_silhouette(distances: FloatArray, classes: NDArray[np.int64]) -> float:
    """Mean over images of (b − a) / max(a, b), in [-1, 1].

    a is an image's mean distance to the others of its class, b the least mean distance to another
    class.

    Args:
        distances: (N, N).
        classes: (N,), two classes or more, with two images or more of each.
    """
    numbers = np.unique(classes)
    belongs = (classes[:, None] == numbers).astype(np.float64)
    counts = belongs.sum(0)
    sums = distances @ belongs
    own = belongs.astype(bool)
    within = sums[own] / (counts - 1)[own.argmax(1)]
    between = np.where(own, np.inf, sums / counts).min(1)
    largest = np.maximum(within, between)
    return float(np.mean((between - within) / np.where(largest > 0, largest, 1.0)))


def silhouette(features: FloatArray, chosen: Balanced) -> Estimate:
    """The mean silhouette of an attribute's classes, with its error over groups of images.

    Args:
        features: (M, D) of all images.
        chosen: those that count, as many of each class.
    """
    distances = cosine_distances(features[chosen.index])

    def measure(kept: NDArray[np.bool_]) -> float:
        return mean_silhouette(distances[np.ix_(kept, kept)], chosen.classes[kept])

    return leaving_groups_out(measure, groups_of(int(chosen.place.max()) + 1)[chosen.place])
