"""Fréchet distance between Gaussians fitted to two sets of features.

Source: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", eq. 6.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


class MomentAccumulator:
    """Moments of features that arrive in batches, so that they need not be kept.

    Merges centred sums (Chan, Golub and LeVeque 1979): raw sums of squares would cancel where
    the mean is large beside the spread.
    """

    def __init__(self) -> None:
        self._n = 0
        self._mean: FloatArray = np.zeros(0)
        self._scatter: FloatArray = np.zeros((0, 0))

    def add(self, batch: NDArray) -> None:
        """Take in a batch (B, D).

        Raises:
            UserError: non-finite features, or another D than before.
        """
        features = checked_features(batch)
        if len(features) == 0:
            return
        mean = features.mean(axis=0)
        centred = features - mean
        scatter = centred.T @ centred
        if self._n == 0:
            self._n, self._mean, self._scatter = len(features), mean, scatter
            return
        if mean.shape != self._mean.shape:
            raise UserError(
                f"A batch has {mean.size} features, those before had {self._mean.size}; "
                "give all batches from one feature net."
            )
        total = self._n + len(features)
        shift = mean - self._mean
        self._scatter += scatter + np.outer(shift, shift) * (self._n * len(features) / total)
        self._mean = self._mean + shift * (len(features) / total)
        self._n = total

    def result(self) -> Moments:
        """Moments of everything added.

        Raises:
            UserError: fewer than two features were added.
        """
        if self._n < 2:
            raise UserError(f"Moments of {self._n} images asked for; a covariance needs 2 or more.")
        return Moments(self._mean.copy(), self._scatter / (self._n - 1), self._n)


def moments(features: NDArray) -> Moments:
    """Mean and covariance (ddof=1, as ``np.cov`` and clean-fid) of features (N, D), N ≥ 2.

    Raises:
        UserError: non-finite features, or N < 2.
    """
    accumulator = MomentAccumulator()
    accumulator.add(features)
    return accumulator.result()


def covariance_root(gaussian: Moments) -> FloatArray:
    """L (D, k) with L Lᵀ = Σ, where k is the numerical rank of Σ.

    Directions whose variance is rounding noise are dropped, negative ones included: the root
    of 1e-16 is 1e-8, and with N < D there are many such directions.
    """
    variances, directions = np.linalg.eigh(gaussian.covariance)
    noise_floor = variances.size * np.finfo(np.float64).eps * max(variances[-1], 0.0)
    kept = variances > noise_floor
    return directions[:, kept] * np.sqrt(variances[kept])


def frechet_distance(a: Moments, b: Moments, reference_root: FloatArray | None = None) -> float:
    """‖μ₁−μ₂‖² + Tr Σ₁ + Tr Σ₂ − 2 Tr (Σ₁^½ Σ₂ Σ₁^½)^½, in the features' squared unit, ≥ 0.

    The last trace is the sum of the singular values of L₁ᵀL₂ with Lᵢ Lᵢᵀ = Σᵢ. That is the
    same number, but no square root is taken of a rounded product, so equal sets score 0 to
    rounding at any rank.

    Args:
        a: generated set.
        b: reference set.
        reference_root: ``covariance_root(b)``, where one reference serves many calls.

    Raises:
        UserError: the two sets come from nets of different width.
    """
    if a.mean.shape != b.mean.shape:
        raise UserError(
            f"Generated features are {a.mean.size} wide, reference features {b.mean.size}; "
            "compute both with one feature net."
        )
    root = covariance_root(b) if reference_root is None else reference_root
    cross_trace = np.linalg.svd(covariance_root(a).T @ root, compute_uv=False).sum()
    shift = a.mean - b.mean
    distance = shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross_trace
    # Rounding can leave -1e-13 for equal sets; a distance is never negative.
    return max(float(distance), 0.0)
