"""Errors that need no network: of the best linear denoiser, and of always answering the mean.

Both follow from the covariance of the data. Under y = x + σε the error of the best affine denoiser
is Σ λσ²/(λ + σ²) over its eigenvalues λ (Wiener's filter), and that of the mean is Σ λ.
"""

import numpy as np
from numpy.typing import NDArray

from mindiffusion.theory.linear import code_moments
from mindiffusion.theory.setting import TwoFeatureConfig

Floats = NDArray[np.float64]


def spread(data: TwoFeatureConfig) -> Floats:
    """Eigenvalues of the data's covariance, (2, d): along M₁'s features, then along M₂'s."""
    d = data.num_features
    moments = np.asarray(code_moments(d, data.share))
    mean = moments.diagonal()
    # An entry is 0 or 1, so its mean is its second moment.
    covariance = (moments - np.outer(mean, mean))[:d, :d]
    own = np.linalg.eigvalsh(covariance)
    # Of codes that never vary rounding must not make less than nothing.
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
