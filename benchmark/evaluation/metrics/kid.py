"""Kernel distance (KID): unbiased squared MMD with the cubic polynomial kernel.

Source: Bińkowski et al. 2018, "Demystifying MMD GANs", §4 and eq. 4 (kernel (x·y/D + 1)³).

The headline number is :func:`kid_full`: one estimate from all images, with a jackknife standard
error. The published form, a mean over random subsets (:func:`kid`), is kept for comparison: with
a few hundred images its subsets are nearly the whole set, so its spread says nothing of the error.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.metrics.frechet import FloatArray, check_widths, checked_features
from mindiffusion.errors import UserError

# Rows of the kernel matrix held at once: 50k reference images make 400 MB, not 20 GB.
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class KidResult:
    """Subset KID: mean and standard deviation (ddof=0) of MMD² over ``num_subsets`` subsets."""

    mean: float
    std: float
    num_subsets: int
    subset_size: int


@dataclass(frozen=True)
class KidEstimate:
    """Unbiased MMD² of the full sets and its standard error over both sets of images."""

    value: float
    standard_error: float
    n_generated: int
    n_reference: int


@dataclass(frozen=True)
class _KernelSums:
    """Sums of kernel values each image takes part in; its pair with itself is left out."""

    xx: FloatArray  # (M,)
    yy: FloatArray  # (N,)
    xy: FloatArray  # (M,) over y
    yx: FloatArray  # (N,) over x


def polynomial_kernel(x: FloatArray, y: FloatArray) -> FloatArray:
    """(x·y/D + 1)³ for all pairs of rows of x (M, D) and y (N, D): (M, N)."""
    base = x @ y.T / x.shape[1] + 1.0
    # NumPy's general power takes many times as long.
    return base * base * base


def mmd2_unbiased(x: NDArray, y: NDArray) -> float:
    """Unbiased estimate of MMD² from features x (M, D) and y (N, D); below 0 by chance.

    Raises:
        UserError: non-finite features, unequal D, or fewer than 2 images in a set.
    """
    return _mmd2(_kernel_sums(*_checked_pair(x, y, smallest=2)))


def kid_full(
    generated: NDArray, reference: NDArray, reference_sums: FloatArray | None = None
) -> KidEstimate:
    """The headline KID: unbiased MMD² of all images ± its delete-one jackknife standard error.

    Each image of either set is left out once, in closed form from the kernel sums; the two
    sets' jackknife variances add (Arvesen 1969). The error thus covers the draw of generated and
    of reference images, not the training seed. Where the two distributions agree the jackknife
    is too wide rather than too narrow: the estimate is then degenerate.

    Args:
        generated: features (M, D), M ≥ 3.
        reference: features (N, D), N ≥ 3.
        reference_sums: ``sums_over_others(reference)`` if it is known: with a large reference it
            is nearly all of the work.

    Raises:
        UserError: non-finite features, unequal D, or fewer than 3 images in a set.
    """
    x, y = _checked_pair(generated, reference, smallest=3)
    sums = _kernel_sums(x, y, reference_sums)
    swapped = _KernelSums(xx=sums.yy, yy=sums.xx, xy=sums.yx, yx=sums.xy)
    variance = _jackknife_variance(sums) + _jackknife_variance(swapped)
    return KidEstimate(_mmd2(sums), float(np.sqrt(variance)), len(x), len(y))


def kid(
    generated: NDArray,
    reference: NDArray,
    num_subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> KidResult:
    """Subset KID as published: MMD² averaged over seeded random subsets of both sets.

    Args:
        generated: features (M, D).
        reference: features (N, D).
        num_subsets: number of pairs of subsets.
        subset_size: images a subset; by default min(1000, M, N).
        seed: of the choice of subsets.

    Raises:
        UserError: as :func:`mmd2_unbiased`, or a subset size outside 2 ≤ size ≤ min(M, N).
    """
    x, y = _checked_pair(generated, reference, smallest=2)
    smaller = min(len(x), len(y))
    size = min(1000, smaller) if subset_size is None else subset_size
    if not 2 <= size <= smaller:
        raise UserError(f"KID subset size is {size}; allowed is 2 to {smaller}, the smaller set.")
    pairs = draw_subsets(len(x), len(y), num_subsets, size, seed)
    values = [mmd2_unbiased(x[rows], y[columns]) for rows, columns in pairs]
    return KidResult(float(np.mean(values)), float(np.std(values)), num_subsets, size)


def draw_subsets(
    n_x: int, n_y: int, num_subsets: int, size: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Index pairs of ``num_subsets`` subsets of ``size`` images, each without replacement."""
    rng = np.random.default_rng(seed)
    return [
        (rng.choice(n_x, size, replace=False), rng.choice(n_y, size, replace=False))
        for _ in range(num_subsets)
    ]


def _checked_pair(x: NDArray, y: NDArray, smallest: int) -> tuple[FloatArray, FloatArray]:
    first, second = checked_features(x), checked_features(y)
    check_widths(first.shape[1], second.shape[1])
    if min(len(first), len(second)) < smallest:
        raise UserError(
            f"KID of {len(first)} generated and {len(second)} reference images asked for; "
            f"give {smallest} or more of each."
        )
    return first, second


def _kernel_sums(x: FloatArray, y: FloatArray, yy: FloatArray | None = None) -> _KernelSums:
    xy, yx = _row_and_column_sums(x, y)
    yy = sums_over_others(y) if yy is None else yy
    return _KernelSums(xx=sums_over_others(x), yy=yy, xy=xy, yx=yx)


def _row_and_column_sums(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    rows, columns = np.empty(len(x)), np.zeros(len(y))
    for start in range(0, len(x), _BLOCK_ROWS):
        block = polynomial_kernel(x[start : start + _BLOCK_ROWS], y)
        rows[start : start + _BLOCK_ROWS] = block.sum(axis=1)
        columns += block.sum(axis=0)
    return rows, columns


def sums_over_others(features: NDArray) -> FloatArray:
    """Sum of each image's kernel values with all others of its set: (N, D) → (N,)."""
    x = checked_features(features)
    with_itself = (np.einsum("nd,nd->n", x, x) / x.shape[1] + 1.0) ** 3
    return _row_and_column_sums(x, x)[0] - with_itself


def _mmd2(sums: _KernelSums) -> float:
    m, n = len(sums.xx), len(sums.yy)
    within = sums.xx.sum() / (m * (m - 1)) + sums.yy.sum() / (n * (n - 1))
    return float(within - 2 * sums.xy.sum() / (m * n))


def _jackknife_variance(sums: _KernelSums) -> float:
    """Variance of MMD² by leaving out each x in turn; y stays whole."""
    m, n = len(sums.xx), len(sums.yy)
    # An image stands in two entries of the symmetric xx sum, in one of the xy sum.
    xx = (sums.xx.sum() - 2 * sums.xx) / ((m - 1) * (m - 2))
    xy = (sums.xy.sum() - sums.xy) / ((m - 1) * n)
    left_out = xx - 2 * xy  # the yy term is the same in all
    return float((m - 1) * left_out.var())
