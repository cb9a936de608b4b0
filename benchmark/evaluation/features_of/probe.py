"""Linear probes: how well a linear classifier reads an attribute in a layer's features.

Least squares on one-hot classes with a ridge, whose strength the training half decides by its own
leave-one-out error. Source: Alain and Bengio 2016, "Understanding intermediate layers using linear
classifier probes"; the leave-one-out residual, Hastie, Tibshirani and Friedman 2009, eq. 7.64.
"""

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.features_of.balanced import Balanced
from benchmark.evaluation.features_of.grouped import Estimate
from benchmark.evaluation.features_of.layers import FloatArray

RIDGES = 10.0 ** np.arange(-6, 4)
"""Strengths that are tried, relative to the largest eigenvalue of the features' covariance."""


def probe(features: FloatArray, chosen: Balanced) -> Estimate:
    """Accuracy of the probe on the half of the images that it has not seen; chance is 1/K.

    Of each class the images at even places are trained on and those at odd places are read, so the
    split is fixed and both halves are balanced. The error is binomial, over the images read.

    Args:
        features: (M, D) of all images.
        chosen: those that count, as many of each of K classes.
    """
    own = features[chosen.index]
    is_seen = chosen.place % 2 == 0
    seen, unseen = own[is_seen], own[~is_seen]
    centre, scale = seen.mean(0), seen.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    weights = ridge_weights((seen - centre) / scale, chosen.classes[is_seen])
    guesses = ((unseen - centre) / scale @ weights[1:] + weights[0]).argmax(1)
    is_right = guesses == chosen.classes[~is_seen]
    share = float(is_right.mean())
    return Estimate(share, float(np.sqrt(share * (1 - share) / len(is_right))))


def ridge_weights(features: FloatArray, classes: NDArray[np.int64]) -> FloatArray:
    """Weights of the ridge whose leave-one-out error is least, of equal ones the weakest.

    Args:
        features: (N, D), centred.
        classes: (N,) as 0 … K − 1.

    Returns:
        (1 + D, K): the constant, then a row a feature.
    """
    targets = np.eye(int(classes.max()) + 1)[classes]
    constant = targets.mean(0)
    left, values, right = np.linalg.svd(features, full_matrices=False)
    projected = left.T @ (targets - constant)
    squares = values**2
    best, least = np.zeros_like(values), np.inf
    for ridge in RIDGES * max(squares.max(initial=0.0), np.finfo(np.float64).tiny):
        shrunk = squares / (squares + ridge)
        residuals = targets - constant - left @ (shrunk[:, None] * projected)
        # The constant is fitted too, which takes 1/N of each image's own weight.
        leverage = (left**2 * shrunk).sum(1) + 1 / len(features)
        error = float(np.square(residuals / np.maximum(1 - leverage, 1e-12)[:, None]).sum())
        if error < least:
            best, least = values / (squares + ridge), error
    return np.vstack([constant, right.T @ (best[:, None] * projected)])
