"""Errors that need no network: of the best linear denoiser, and of always answering the mean.

The data are x = Σ_g α_g M_g z_g with orthonormal M. The entries of z_g are Bernoulli of probability
p, given that not all are 0. So with r = 1 − (1 − p)^d each has mean m = p/r and variance
v = m(1 − m), and two of one group have the covariance c = p²/r − m². The covariance of a group's
coordinates is α²((v − c)·1 + c·11ᵀ): its eigenvalues are α²(v − c), d − 1 times, and
α²(v − c + d·c), once. Under y = x + σε the error of the best affine denoiser is the sum of
λσ²/(λ + σ²) over all eigenvalues (Wiener), and that of the mean the sum of all λ.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mindiffusion.theory.setting import TwoFeatureConfig

Floats = NDArray[np.float64]


def spread(data: TwoFeatureConfig) -> Floats:
    """Eigenvalues of the data's covariance, (2, d): those of M₁'s group, then of M₂'s."""
    d, p = data.num_features, data.share
    # 1 − (1 − p)^d without cancellation; of p = 1 it is 1.
    some = 1.0 if p == 1 else -math.expm1(d * math.log1p(-p))
    mean, both = p / some, p * p / some
    variance, covariance = mean * (1.0 - mean), both - mean * mean
    own = np.full(d, variance - covariance)
    own[-1] = variance + (d - 1) * covariance
    # Of p = 1, or of one feature, nothing varies: rounding must not make it less than nothing.
    return np.outer([data.alpha1**2, data.alpha2**2], own.clip(min=0.0))


def mean_error(data: TwoFeatureConfig) -> float:
    """E‖E[x] − x‖², whatever the noise."""
    return float(spread(data).sum())


def linear_error(data: TwoFeatureConfig, sigma: Floats) -> Floats:
    """E‖x̂ − x‖² of the best affine denoiser at noise levels σ > 0, (L,) → (L,)."""
    eigenvalues, variance = spread(data).ravel(), np.square(sigma)[:, None]
    return np.asarray((eigenvalues * variance / (eigenvalues + variance)).sum(axis=1))


def weak_energy(data: TwoFeatureConfig) -> float:
    """What the weak features M₂ vary by: the error without noise of whoever sees M₁ alone.

    0 where they do not vary (p = 1, or one feature).
    """
    return float(spread(data)[1].sum())
