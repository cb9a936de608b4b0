"""Fréchet distance with its error over sampling, and extrapolated to infinitely many images.

Sources: the delete-one-group jackknife, with groups of unequal size, Busing, Meijer and van der
Leeden 1999, "Delete-m Jackknife for Unequal m", eq. 6-8; the extrapolation in 1/n, Chong and
Forsyth 2020, "Effectively Unbiased FID and Inception Score and Where to Find Them", §4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.evaluation.metrics.frechet import (
    FloatArray,
    Moments,
    frechet_distance,
    merge_moments,
)
from mindiffusion.errors import UserError

MIN_GROUPS = 4
# With fewer images a feature the distance is not yet a line in 1/n (measured: docs/metrics.md).
_IMAGES_PER_FEATURE = 2


@dataclass(frozen=True)
class FrechetEstimate:
    """A Fréchet distance and what is known of its error.

    Attributes:
        value: distance of all ``n`` generated images, biased upwards by their finite number.
        standard_error: of ``value``, over draws of generated images.
        infinity: ``value`` extrapolated to 1/n → 0; below 0 by chance.
        infinity_error: of ``infinity``: over draws, and for the bend of the line.
        n: generated images.
    """

    value: float
    standard_error: float
    infinity: float
    infinity_error: float
    n: int


def frechet_estimate(
    groups: Sequence[Moments], reference: Moments, reference_root: FloatArray
) -> FrechetEstimate:
    """Distance of the union of ``groups`` to the reference, its error, and its limit in n.

    With f the mean distance at a number of images and G groups, the jackknife's correction of
    bias is the line in 1/n through f(n) and f(n − n/G), taken to 0. The line through f(n) and
    f(n/2) gives a second limit. In 1/n they differ only by the bend of the curve, so their
    difference enters the limit's error, squares added. It costs G + 3 eigenvalue problems.

    Args:
        groups: moments of G ≥ 4 disjoint groups of the generated images, nearly equal in size.
        reference: moments of the reference, taken as given: its own n is no part of the error.
        reference_root: ``covariance_root(reference)``.

    Raises:
        UserError: fewer than 4 groups, or widths that differ.
    """
    if len(groups) < MIN_GROUPS:
        raise UserError(
            f"Error of a Fréchet distance over {len(groups)} groups of images asked for; "
            f"give {MIN_GROUPS} or more disjoint groups."
        )

    def distance(parts: Sequence[Moments]) -> float:
        return frechet_distance(merge_moments(parts), reference, reference_root)

    value = distance(groups)
    left_out = np.array([distance([*groups[:g], *groups[g + 1 :]]) for g in range(len(groups))])
    shares = _shares(groups)
    infinity = len(groups) * value - float((1 - shares) @ left_out)
    pseudo_values = value / shares - (1 / shares - 1) * left_out
    variance = float(np.mean((pseudo_values - infinity) ** 2 / (1 / shares - 1)))
    half = len(groups) // 2
    halves = float(np.mean([distance(groups[:half]), distance(groups[half:])]))
    # 1/n in units of one over all images: 1 for all, 2 for halves, a little more for unequal ones.
    mean_inverse = float(np.mean([1 / shares[:half].sum(), 1 / shares[half:].sum()]))
    bend = infinity - (value - (halves - value) / (mean_inverse - 1))
    return FrechetEstimate(
        value=value,
        standard_error=float(np.sqrt(variance)),
        infinity=infinity,
        infinity_error=float(np.sqrt(variance + bend**2)),
        n=sum(group.n for group in groups),
    )


def _shares(groups: Sequence[Moments]) -> FloatArray:
    sizes = np.array([group.n for group in groups], dtype=np.float64)
    return sizes / sizes.sum()


def can_extrapolate(n: int, dim: int) -> bool:
    """Whether ``n`` images of ``dim`` features suffice for ``infinity_error`` to hold."""
    return n >= _IMAGES_PER_FEATURE * dim
