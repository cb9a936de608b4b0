"""Accuracy in which every class counts alike, and calibration error, from arrays."""

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.metrics.frechet import FloatArray
from mindiffusion.errors import UserError

UNKNOWN = -1
"""Class of an image that is left out of an attribute's scores."""
_MIN_PER_CLASS = 2
_BINS = 10


def measured_classes(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes with at least two of the images: the rest have no spread to be judged by."""
    found, counts = np.unique(classes[classes != UNKNOWN], return_counts=True)
    return found[counts >= _MIN_PER_CLASS]


def balanced_mean(scores: NDArray, classes: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Mean over classes of the mean score within each class, and its standard error.

    With 0/1 correctness as the score this is the balanced accuracy: a constant prediction gets
    1/K of K classes, however unequal they are. With the difference of two correctnesses of the
    same images it is the paired difference of two accuracies. The error is over images, within
    classes: √(Σ_k s_k²/n_k)/K with s_k² the sample variance.

    Args:
        scores: (..., N), one score an image.
        classes: (N,) the images' true classes; ``UNKNOWN`` ones, and those of classes with one
            image, are left out.

    Returns:
        Two float64 arrays of shape (...).

    Raises:
        UserError: no class has two images.
    """
    kept = measured_classes(classes)
    if kept.size == 0:
        raise UserError(f"No class has 2 of the {len(classes)} images; give more labelled images.")
    means, variances = [], []
    for one in kept:
        own = np.asarray(scores, dtype=np.float64)[..., classes == one]
        means.append(own.mean(axis=-1))
        variances.append(own.var(axis=-1, ddof=1) / own.shape[-1])
    return np.mean(means, axis=0), np.sqrt(np.sum(variances, axis=0)) / len(kept)


def calibration_error(probabilities: NDArray, classes: NDArray[np.int64]) -> float:
    """Expected calibration error, in [0, 1], over ten equal bins of the top probability.

    Args:
        probabilities: (N, K) predicted.
        classes: (N,) true; ``UNKNOWN`` ones are left out.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §2.

    Raises:
        UserError: no image has a known class.
    """
    known = classes != UNKNOWN
    if not known.any():
        raise UserError("No image has a known class; a calibration error needs labelled images.")
    confidence = probabilities[known].max(axis=1).astype(np.float64)
    correct = probabilities[known].argmax(axis=1) == classes[known]
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    # Per bin |Σ correct − Σ confidence|: its share of images times its gap.
    gap = np.bincount(bins, correct, _BINS) - np.bincount(bins, confidence, _BINS)
    return float(np.abs(gap).sum() / known.sum())
