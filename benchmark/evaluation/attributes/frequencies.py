"""Do generated images show each attribute, and each pair, as often as the training images?

Generated and training images are read by the same classifier, so its own errors are in both.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.attributes.classifier import Attribute, Readings
from benchmark.evaluation.metrics.frechet import FloatArray
from mindiffusion.errors import UserError


@dataclass(frozen=True)
class TotalVariation:
    """½ Σ_k |p_k − q_k| between generated and training images, in [0, 1].

    Attributes:
        names: the attribute, or the two of a pair.
        value: of the observed shares. Chance differences add up in it, so it is never 0.
        standard_error: over both sets of images, by the delta method; too wide near ``floor``.
        floor: what two sets of these sizes from one distribution would give on average.
        generated: (K,) or (K, K') shares among the generated images that are not rejected.
        training: the same of the training images.
    """

    names: tuple[str, ...]
    value: float
    standard_error: float
    floor: float
    generated: FloatArray
    training: FloatArray


@dataclass(frozen=True)
class AttributeFrequencies:
    """Frequencies of attributes and pairs in generated images.

    Attributes:
        single: an entry an attribute; none if fewer than two generated images are left.
        pairs: an entry a pair of different attributes; none in that case.
        rejected: share of generated images rejected as blurred or noisy.
        rejected_error: its standard error.
        rejected_training: share of training images rejected.
        n: generated images, rejected ones included; below ``benchmark.rows.frames.SMOKE_BELOW`` the
            numbers are smoke.
        n_training: training images.
    """

    single: tuple[TotalVariation, ...]
    pairs: tuple[TotalVariation, ...]
    rejected: float
    rejected_error: float
    rejected_training: float
    n: int
    n_training: int


def attribute_frequencies(
    generated: Readings, training: Readings, attributes: Sequence[Attribute]
) -> AttributeFrequencies:
    """Compare the most probable classes of generated and of training images.

    Args:
        generated: readings of generated images.
        training: readings of training images by the same classifier.
        attributes: what to compare.

    Raises:
        UserError: fewer than two training images that are not rejected.
    """
    kept = int((~training.rejected).sum())
    if kept < 2:
        raise UserError(
            f"{kept} of {len(training.rejected)} training images are not rejected as blurred or "
            "noisy; frequencies need 2 or more: give more of them."
        )
    # A young network's images may all be rejected: that share is then all there is to say.
    compared = list(attributes) if (~generated.rejected).sum() >= 2 else []
    single = [_compare((attribute,), generated, training) for attribute in compared]
    pairs = [_compare(pair, generated, training) for pair in itertools.combinations(compared, 2)]
    share, n = float(generated.rejected.mean()), len(generated.rejected)
    return AttributeFrequencies(
        single=tuple(single),
        pairs=tuple(pairs),
        rejected=share,
        rejected_error=math.sqrt(share * (1 - share) / n),
        rejected_training=float(training.rejected.mean()),
        n=n,
        n_training=len(training.rejected),
    )


def _compare(
    attributes: tuple[Attribute, ...], generated: Readings, training: Readings
) -> TotalVariation:
    names = tuple(attribute.name for attribute in attributes)
    shape = tuple(len(attribute.classes) for attribute in attributes)
    counts = [_counts(names, shape, readings) for readings in (generated, training)]
    value, error, floor = total_variation(counts[0].ravel(), counts[1].ravel())
    shares = [count / count.sum() for count in counts]
    return TotalVariation(names, value, error, floor, shares[0], shares[1])


def _counts(names: tuple[str, ...], shape: tuple[int, ...], readings: Readings) -> NDArray:
    kept = ~readings.rejected
    chosen = [readings.probabilities[name][kept].argmax(axis=1) for name in names]
    cells = np.ravel_multi_index(chosen, shape)
    return np.bincount(cells, minlength=math.prod(shape)).reshape(shape)


def total_variation(first: NDArray, second: NDArray) -> tuple[float, float, float]:
    """Total variation of two sets of counts (K,), its standard error, and its floor.

    The error is the delta method's: with s_k = sign(p_k − q_k), half the standard deviation of
    the mean of s over each set, both added in squares. The floor is the mean of the value if both
    sets came from the pooled shares r: ½ Σ_k √(2/π) √(r_k (1 − r_k)(1/n + 1/m)), each difference
    being normal.
    """
    n, m = int(first.sum()), int(second.sum())
    p, q = first / n, second / m
    sign = np.sign(p - q)
    variance = sum(
        ((shares * sign**2).sum() - (shares * sign).sum() ** 2) / count
        for shares, count in ((p, n), (q, m))
    )
    pooled = (first + second) / (n + m)
    spread = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    floor = 0.5 * math.sqrt(2 / math.pi) * spread.sum()
    return float(0.5 * np.abs(p - q).sum()), float(0.5 * math.sqrt(variance)), float(floor)
