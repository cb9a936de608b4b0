"""Denoising profiles as numbers: differences and three named summaries, with errors.

A profile keeps every image's error at every level. Two profiles of the same images and noise can
so be compared image by image, and what they share drops out of the comparison's standard error.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindiffusion.errors import UserError

FloatArray = NDArray[np.float64]
SIGMA_WINDOW = (0.1, 3.0)
"""Noise over signal, σ/α, of the third summary."""
_LEAST_RATIO = 1e-300


@dataclass(frozen=True)
class ProfileResult:
    """ε-MSE by noise level and image, or the difference of two such profiles.

    Attributes:
        levels: noise times t in (0, 1].
        errors: (L, N), mean squared ε-error of each image at each level.
    """

    levels: tuple[float, ...]
    errors: FloatArray

    @property
    def mse(self) -> FloatArray:
        """Mean over images, (L,)."""
        return self.errors.mean(axis=1)

    @property
    def standard_error(self) -> FloatArray:
        """Standard error of that mean, (L,)."""
        return _standard_error(self.errors)


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error over images."""

    value: float
    standard_error: float


def paired_difference(a: ProfileResult, b: ProfileResult) -> ProfileResult:
    """``a`` minus ``b``, image by image; its standard error is that of paired values.

    A network minus the linear oracle on the same images is its excess. Training minus held-out
    images is the generalisation gap: there image k shares the noise alone.

    Raises:
        UserError: other levels or another number of images.
    """
    _check_pair(a, b)
    return ProfileResult(a.levels, a.errors - b.errors)


def simple_weights(alpha: FloatArray, sigma: FloatArray) -> FloatArray:
    """L_simple: all t alike (Ho et al. 2020, eq. 14). Arguments as for ``SUMMARIES``."""
    return np.ones(len(alpha) - 1)


def elbo_weights(alpha: FloatArray, sigma: FloatArray) -> FloatArray:
    """Weight of the squared ε-error in the variational bound, ½ ((α_{t−1}/α_t)² − (σ_{t−1}/σ_t)²).

    Where α² + σ² = 1 this is β_t / (2 (1 − β_t) σ_t²) with β_t = 1 − α_t²/α_{t−1}², the variance
    that ancestral sampling adds where none is learned: Ho et al. 2020, eq. 12, where α_t, σ_t² are
    √ᾱ_t and 1 − ᾱ_t. At the first t, where the bound has a discrete decoder, the same formula
    stands. Arguments as for ``SUMMARIES``.
    """
    return 0.5 * ((alpha[:-1] / alpha[1:]) ** 2 - (sigma[:-1] / sigma[1:]) ** 2)


def sigma_window_weights(alpha: FloatArray, sigma: FloatArray) -> FloatArray:
    """Uniform in ln(σ/α) over the levels with σ/α in .1–3, nothing elsewhere.

    Level t has the length of its step, ln(σ_t/α_t) − ln(σ_{t−1}/α_{t−1}).
    Arguments as for ``SUMMARIES``.

    Raises:
        UserError: there is no such level.
    """
    ratio = sigma / alpha
    low, high = SIGMA_WINDOW
    inside = (ratio[1:] >= low) & (ratio[1:] <= high)
    if not inside.any():
        raise UserError(
            f"None of the {len(inside)} noise levels has σ/α in {low:g}–{high:g}; use a process "
            "with more levels, or read the profile by level."
        )
    # A lower end without any noise has no logarithm, and no weight either.
    return np.diff(np.log(np.maximum(ratio, _LEAST_RATIO))) * inside


SUMMARIES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "L_simple": simple_weights,
    "ELBO": elbo_weights,
    "sigma-0.1-3": sigma_window_weights,
}
"""Name of a summary → weights (N,), not normalised, of the levels 1 … N of a fine grid of noise.

They are given alpha and sigma of its levels 0 … N, (N + 1,) each."""


def summaries(
    profile: ProfileResult, t: FloatArray, alpha: FloatArray, sigma: FloatArray
) -> dict[str, Estimate]:
    """The profile's weighted means over t, one for each of ``SUMMARIES``.

    Quadrature: each level of the grid takes the error of the profile's nearest level (of two as
    near, the lower), so a level at the middle of its share stands for that share, with the sum of
    the share's exact weights. Weights are normalised: a summary has the unit of an ε-MSE. Standard
    errors are over images, of each image's own weighted mean, so they hold for differences too.

    Args:
        profile: a profile, or a difference of two.
        t: noise times of a fine grid, rising, (N + 1,).
        alpha: factor of the image there, (N + 1,).
        sigma: factor of the noise there, (N + 1,).
    """
    return {
        name: _weighted_mean(profile, t[1:], weights(alpha, sigma))
        for name, weights in SUMMARIES.items()
    }


def _weighted_mean(profile: ProfileResult, t: FloatArray, weights: FloatArray) -> Estimate:
    """Mean of a profile with a weight for each time of a grid, (N,) each."""
    # Of two levels as near, rounding must not choose.
    distance = np.abs(t[:, None] - np.array(profile.levels)).round(12)
    nearest = distance.argmin(axis=1)
    by_level = np.bincount(nearest, weights, minlength=len(profile.levels))
    by_image = (by_level / by_level.sum()) @ profile.errors
    return Estimate(float(by_image.mean()), float(_standard_error(by_image)))


def _standard_error(values: FloatArray) -> FloatArray:
    """Standard error of the mean over the last axis."""
    return values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])


def _check_pair(a: ProfileResult, b: ProfileResult) -> None:
    if a.levels != b.levels or a.errors.shape != b.errors.shape:
        raise UserError(
            f"Profiles of {len(a.levels)} levels and {a.errors.shape[1]} images, and of "
            f"{len(b.levels)} and {b.errors.shape[1]}, do not pair; take both at the same levels "
            "on as many images."
        )
