"""Fréchet distance between Gaussians fitted to two sets of features.

Source: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", eq. 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import svdvals
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpstrf

from mindiffusion.errors import UserError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sample moments of ``n`` features: mean (D,) and covariance (D, D) with ddof=1."""

    mean: FloatArray
    covariance: FloatArray
    n: int


def checked_features(features: NDArray) -> FloatArray:
    """``features`` as float64, after checking that they can be scored at all.

    Args:
        features: (N, D), any real dtype.

    Raises:
        UserError: not two-dimensional, or any entry is NaN or infinite.
    """
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2:
        raise UserError(f"Features have shape {array.shape}; allowed is (N, D): one row an image.")
    bad_rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad_rows.size:
        raise UserError(
            f"Features of {bad_rows.size} of {len(array)} images are not finite (first: image "
            f"{bad_rows[0]}); only finite features can be scored: check those images."
        )
    return array


def check_widths(generated: int, reference: int) -> None:
    """Refuse sets of features of different nets.

    Raises:
        UserError: their widths differ.
    """
    if generated != reference:
        raise UserError(
            f"Generated features are {generated} wide, reference features {reference}; "
            "compute both with one feature net."
        )


class MomentAccumulator:
    """Moments of features that arrive in batches, so that they need not be kept.

    Centred sums are merged: raw sums of squares would cancel where the mean is large beside the
    spread.
    """

    def __init__(self) -> None:
        self._n = 0
        self._mean: FloatArray = np.zeros(0)
        # Upper triangle of the sum of centred products, in Fortran order for BLAS.
        self._scatter: FloatArray = np.zeros((0, 0), order="F")

    def add(self, batch: NDArray) -> None:
        """Take in a batch (B, D).

        Raises:
            UserError: non-finite features, or another D than before.
        """
        features = checked_features(batch)
        if len(features) == 0:
            return
        mean = features.mean(axis=0)
        rows = features - mean
        if self._n == 0:
            self._mean, self._scatter = mean, np.zeros((mean.size, mean.size), order="F")
        else:
            _check_one_width([self._mean, mean])
            self._mean, between = _pooled_mean([self._n, len(features)], [self._mean, mean])
            rows = np.concatenate([rows, between])
        self._n += len(features)
        # In place and one triangle only: half the work, and no (D, D) temporary a batch.
        self._scatter = dsyrk(1.0, rows.T, beta=1.0, c=self._scatter, overwrite_c=True)

    def result(self) -> Moments:
        """Moments of everything added.

        Raises:
            UserError: fewer than two features were added.
        """
        if self._n < 2:
            raise UserError(f"Moments of {self._n} images asked for; a covariance needs 2 or more.")
        upper = np.triu(self._scatter / (self._n - 1))
        return Moments(self._mean.copy(), upper + np.triu(upper, 1).T, self._n)


def moments(features: NDArray) -> Moments:
    """Mean and covariance (ddof=1, as ``np.cov`` and clean-fid) of features (N, D), N ≥ 2.

    Raises:
        UserError: non-finite features, or N < 2.
    """
    accumulator = MomentAccumulator()
    accumulator.add(features)
    return accumulator.result()


def merge_moments(parts: Sequence[Moments]) -> Moments:
    """Moments of the union of disjoint sets: equal to those of all features to rounding.

    Sums run in the order given, so the same parts give the same bits.

    Raises:
        UserError: no part, or parts of unequal width.
    """
    if not parts:
        raise UserError("Moments of no part asked for; give one or more.")
    means = [part.mean for part in parts]
    _check_one_width(means)
    mean, between = _pooled_mean([part.n for part in parts], means)
    scatter = between.T @ between
    for part in parts:
        scatter += (part.n - 1) * part.covariance
    total = sum(part.n for part in parts)
    return Moments(mean, scatter / (total - 1), total)


def _pooled_mean(counts: Sequence[int], means: Sequence[FloatArray]) -> tuple[FloatArray, NDArray]:
    """Mean (D,) of the union, and rows (P, D) whose products are its scatter between the parts.

    Source: Chan, Golub and LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances", eq. 2.1, for P parts at once.
    """
    weights = np.asarray(counts, dtype=np.float64)
    # From the first mean on: differences of means keep their digits where means are large.
    offsets = np.stack(means) - means[0]
    offset = weights @ offsets / weights.sum()
    return means[0] + offset, np.sqrt(weights)[:, None] * (offsets - offset)


def _check_one_width(means: Sequence[FloatArray]) -> None:
    widths = [mean.size for mean in means]
    if len(set(widths)) > 1:
        raise UserError(
            f"A batch has {widths[-1]} features, those before had {widths[0]}; "
            "give all batches from one feature net."
        )


def covariance_root(gaussian: Moments) -> FloatArray:
    """L (D, k) with L Lᵀ = Σ, where k is the numerical rank of Σ; longest column first.

    Directions whose variance is rounding noise are dropped, negative ones included: the root
    of 1e-16 is 1e-8, and with N < D there are many such directions.
    """
    variances, directions = np.linalg.eigh(gaussian.covariance)
    noise_floor = variances.size * np.finfo(np.float64).eps * max(variances[-1], 0.0)
    kept = np.flatnonzero(variances > noise_floor)[::-1]
    return directions[:, kept] * np.sqrt(variances[kept])


def frechet_distance(a: Moments, b: Moments, reference_root: FloatArray | None = None) -> float:
    """‖μ₁−μ₂‖² + Tr Σ₁ + Tr Σ₂ − 2 Tr (Σ₁^½ Σ₂ Σ₁^½)^½, in the features' squared unit, ≥ 0.

    Args:
        a: generated set.
        b: reference set.
        reference_root: ``covariance_root(b)``, where one reference serves many calls.

    Raises:
        UserError: the two sets come from nets of different width.
    """
    check_widths(a.mean.size, b.mean.size)
    root = covariance_root(b) if reference_root is None else reference_root
    shift = a.mean - b.mean
    distance = shift @ shift + np.trace(a.covariance) + np.trace(b.covariance)
    is_low_rank = 2 * a.n <= a.mean.size
    cross = _low_rank_cross_trace(a, root) if is_low_rank else _cross_trace(a.covariance, root)
    # Rounding can leave -1e-13 for equal sets; a distance is never negative.
    return max(float(distance - 2 * cross), 0.0)


def _cross_trace(covariance: FloatArray, root: FloatArray) -> float:
    """Tr (Σ₁^½ Σ₂ Σ₁^½)^½ as Σ √λᵢ(Lᵀ Σ₁ L) with L Lᵀ = Σ₂: one symmetric eigenvalue problem.

    A root of a computed eigenvalue usually loses half the digits: an error of ε λ_max becomes
    √ε. Not here, because L's columns fall in length: then Lᵀ Σ₁ L is graded from its first row
    to its last, the products keep that grading to rounding, and LAPACK's reduction of the lower
    triangle starts at the large end, so small eigenvalues are found to the precision of their
    own size. By the same grading, rounding adds to the i-th one no more than the floor below.
    """
    values = np.linalg.eigvalsh(root.T @ covariance @ root, UPLO="L")[::-1]
    scale = len(covariance) * np.finfo(np.float64).eps * np.linalg.norm(covariance)
    floor = scale * np.einsum("dk,dk->k", root, root)
    return float(np.sqrt(values[values > floor]).sum())


def _low_rank_cross_trace(a: Moments, root: FloatArray) -> float:
    """The same for few images: with Σ₁ = F Fᵀ, F (D, r), r < n, the sum of Lᵀ F's singular values.

    F comes from a Cholesky factorisation with pivots, which ends where rounding noise begins. It
    takes D · n² operations instead of D³.
    """
    factor, order, rank, _ = dpstrf(a.covariance, lower=1)
    rank = min(rank, a.n - 1)
    rows = np.empty((a.mean.size, rank))
    rows[order - 1] = np.tril(factor)[:, :rank]
    return float(svdvals(root.T @ rows).sum()) if rank else 0.0
