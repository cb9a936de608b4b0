"""Linear CKA: how alike two layers' features of the same images are, whatever their axes.

Source: Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", eq. 4, with
the unbiased HSIC of Song et al. 2012, "Feature Selection via Dependence Maximization", eq. 5, as
Nguyen, Raghu and Kornblith 2021 combine them. So few images of wide features do not look alike by
chance. It is 1 for features that differ by a rotation and a factor, about 0 for independent ones,
and may be below 0 by chance.
"""

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.features_of.grouped import Estimate, groups_of, leaving_groups_out
from benchmark.evaluation.features_of.layers import FloatArray
from mindiffusion.errors import UserError

FEWEST = 20
"""Images: with each group left out, more than three must stay."""


def unbiased_hsic(a: FloatArray, b: FloatArray) -> float:
    """The unbiased HSIC of two Gram matrices (n, n), n ≥ 4, whose diagonals are 0."""
    n = len(a)
    trace = float(np.vdot(a, b))
    sums_a, sums_b = a.sum(0), b.sum(0)
    both = float(sums_a.sum() * sums_b.sum()) / ((n - 1) * (n - 2))
    cross = 2.0 / (n - 2) * float(sums_a @ sums_b)
    return (trace + both - cross) / (n * (n - 3))


def linear_cka(a: NDArray[np.floating], b: NDArray[np.floating]) -> Estimate:
    """CKA of features (n, D) and (n, D′) of the same images, with its error over groups of them.

    It is NaN where one of the two does not vary.

    Raises:
        UserError: another number of images, or fewer than 20.
    """
    if len(a) != len(b) or len(a) < FEWEST:
        raise UserError(
            f"CKA of {len(a)} and {len(b)} images; give features of the same images, {FEWEST} or "
            "more."
        )
    first, second = _gram(a), _gram(b)

    def measure(kept: NDArray[np.bool_]) -> float:
        part = np.ix_(kept, kept)
        x, y = first[part], second[part]
        scale = unbiased_hsic(x, x) * unbiased_hsic(y, y)
        return unbiased_hsic(x, y) / float(np.sqrt(scale)) if scale > 0 else float("nan")

    return leaving_groups_out(measure, groups_of(len(a)))


def _gram(features: NDArray[np.floating]) -> FloatArray:
    """Products of all pairs of centred features, with a diagonal of 0."""
    wide = features.astype(np.float64)
    centred = wide - wide.mean(0)
    gram: FloatArray = centred @ centred.T
    np.fill_diagonal(gram, 0.0)
    return gram
