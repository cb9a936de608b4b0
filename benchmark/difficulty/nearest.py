"""Relative entropy of two distributions from samples of them, by nearest neighbours.

Source: Wang, Kulkarni & Verdú 2009, "Divergence Estimation for Multidimensional Densities Via
k-Nearest-Neighbor Distances", IEEE Transactions on Information Theory 55(5), eq. 5 with equal k.
Where P has mass in Q's tails, few points of Q stand for these and the estimate falls short.
"""

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.metrics.neighbours import MeanEstimate, nearest_neighbours
from mindiffusion.errors import UserError

NEIGHBOURS = 5
"""k: more neighbours blur, fewer scatter."""


def knn_relative_entropy(p: NDArray, q: NDArray, k: int = NEIGHBOURS) -> MeanEstimate:
    """KL(P ‖ Q) in nats from points of P and of Q: d/n·Σ ln(ν_i/ρ_i) + ln(m/(n − 1)).

    ρ_i is the distance of point i of P to its k-th neighbour among the other points of P, and ν_i
    that to its k-th neighbour in Q. The estimate can be below 0.

    Args:
        p: (n, d), n > k.
        q: (m, d), m ≥ k.
        k: which neighbour, ≥ 1.

    Returns:
        The estimate, and the standard error of the mean as if its terms were independent; terms of
        points that are neighbours are not.

    Raises:
        UserError: too few points, another d, values that are not finite, or k + 1 equal points.
    """
    if k < 1 or len(p) <= k or len(q) < k:
        raise UserError(
            f"relative entropy by neighbour {k} of {len(p)} and {len(q)} points; give k >= 1, "
            f"more than k points of the first kind and k or more of the second."
        )
    # Every point is the nearest one to itself.
    own = nearest_neighbours(p, p, k + 1)[0][:, k]
    other = nearest_neighbours(p, q, k)[0][:, k - 1]
    if not (own.all() and other.all()):
        raise UserError(
            f"relative entropy by neighbour {k}: more than {k} points are equal; take points "
            "without copies, or a larger k."
        )
    n, dim = p.shape
    terms = dim * np.log(other / own)
    value = float(terms.mean() + np.log(len(q) / (n - 1)))
    return MeanEstimate(value, float(terms.std(ddof=1) / np.sqrt(n)))


def standardised_scores(p: NDArray, q: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Both sets along the first principal components of their union, each with variance 1.

    One linear map is used for both, so the relative entropy can only fall by it.

    Args:
        p: (n, D).
        q: (m, D).
        count: components wanted; of fewer dimensions with variance, those there are.

    Returns:
        (n, d) and (m, d), d ≤ ``count``.

    Raises:
        UserError: all points are equal.
    """
    both = np.concatenate([p, q]).astype(np.float64)
    centred = both - both.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    kept = min(count, int((sizes > 1e-9 * sizes[0]).sum()) if sizes[0] > 0 else 0)
    if kept == 0:
        raise UserError(f"the features of {len(both)} pictures are all equal; give other pictures.")
    scores = centred @ directions[:kept].T * (np.sqrt(len(both)) / sizes[:kept])
    return scores[: len(p)], scores[len(p) :]
