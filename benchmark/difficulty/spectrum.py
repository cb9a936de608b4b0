"""Difficulty in closed form, for a Gaussian with the data's mean and covariance.

In the eigenbasis of the covariance a noisy image is d independent normals with the variances
alpha²·λ + sigma² and the means alpha·μ.
Formulas and their sources: docs/difficulty.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.metrics.linear_oracle import LinearOracle

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A Gaussian in the eigenbasis of its covariance.

    Attributes:
        eigenvalues: (d,), ≥ 0: variances λ along the directions.
        mean_squares: (d,), ≥ 0: squares of the mean's coordinates there.
    """

    eigenvalues: Floats
    mean_squares: Floats


def spectrum_of(oracle: LinearOracle) -> Spectrum:
    """The Gaussian that a linear oracle stands for, with all d directions of its images.

    The data do not vary along the directions that the oracle leaves out. These are alike for every
    noise level, so the mean's length along all of them may stand at one.
    """
    mean, vectors = oracle.mean.numpy(), oracle.eigenvectors.numpy()
    inside = (mean @ vectors) ** 2
    rank, dim = len(inside), len(mean)
    eigenvalues, squares = np.zeros((2, dim))
    eigenvalues[:rank], squares[:rank] = oracle.eigenvalues.numpy(), inside
    if rank < dim:
        squares[rank] = max(0.0, float(mean @ mean - inside.sum()))
    return Spectrum(eigenvalues, squares)


def relative_entropy(spectrum: Spectrum, alpha: Floats, sigma: Floats) -> Floats:
    """KL(p_k ‖ p_{k+1}) in nats of neighbouring noise levels, for Gaussian data.

    Args:
        spectrum: the data.
        alpha: (L,) factors of the image, from low noise to high.
        sigma: (L,) factors of the noise, > 0.

    Returns:
        (L − 1,), ≥ 0.
    """
    variances = alpha[:, None] ** 2 * spectrum.eigenvalues + sigma[:, None] ** 2
    # x − ln(1 + x) with x = r − 1: the difference itself keeps the digits that 1 would take.
    change = (variances[:-1] - variances[1:]) / variances[1:]
    shift = (alpha[:-1] - alpha[1:])[:, None] ** 2 * spectrum.mean_squares / variances[1:]
    return np.asarray(0.5 * (change - np.log1p(change) + shift).sum(axis=1))


def entropy_rate(spectrum: Spectrum, ratio: Floats) -> Floats:
    """How fast the conditional entropy of the image rises with ln σ, in nats, for Gaussian data.

    Args:
        spectrum: the data.
        ratio: (L,) σ = sigma/alpha > 0.

    Returns:
        (L,): Σ λ/(λ + σ²), the least total ε-error there.
    """
    return np.asarray(
        (spectrum.eigenvalues / (spectrum.eigenvalues + ratio[:, None] ** 2)).sum(axis=1)
    )
