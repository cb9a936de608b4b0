"""Inception score: exp of the mean KL divergence of class probabilities from their average.

Source: Salimans et al. 2016, "Improved Techniques for Training GANs", §4. It sees no reference:
for faces, which are no classes of ImageNet, it says little.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from benchmark.evaluation.metrics.frechet import FloatArray, checked_features
from mindiffusion.errors import UserError


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation (ddof=0, as published) of the scores of ``splits`` parts.

    Attributes:
        mean: in 1..K, K being the number of classes; biased downwards by few images a part.
        std: over the parts, each of which is another draw of images.
        standard_error: of ``mean``.
        splits: number of parts.
        n: images in all.
    """

    mean: float
    std: float
    standard_error: float
    splits: int
    n: int


def inception_score(logits: NDArray, splits: int = 10, seed: int = 2020) -> InceptionScore:
    """Inception score from logits (N, K), cut after a seeded shuffle into ``splits`` parts.

    The shuffle is torch-fidelity's, its default seed included, so that the parts are the same.

    Args:
        logits: (N, K) of the images, before the softmax.
        splits: parts of ⌊N/splits⌋ or one more images, 2 ≤ splits ≤ N.
        seed: of the shuffle.

    Raises:
        UserError: non-finite logits, or splits out of range.
    """
    array = checked_features(logits)
    n = len(array)
    if not 2 <= splits <= n:
        raise UserError(f"{splits} splits of {n} images asked for; allowed is 2 to {n} splits.")
    shuffled = array[np.random.RandomState(seed).permutation(n)]
    borders = [part * n // splits for part in range(splits + 1)]
    scores = [_score(shuffled[a:b]) for a, b in pairwise(borders)]
    std = float(np.std(scores))
    return InceptionScore(float(np.mean(scores)), std, std / float(np.sqrt(splits - 1)), splits, n)


def _score(logits: FloatArray) -> float:
    log_p = log_softmax(logits, axis=1)
    # By logsumexp: a class of probability 0 in float64 gives 0 · (−∞ + ∞) otherwise.
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    return float(np.exp((np.exp(log_p) * (log_p - log_mean)).sum(axis=1).mean()))
