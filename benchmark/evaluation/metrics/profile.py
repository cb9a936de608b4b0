"""Denoising profiles as numbers: differences, log-ratios and three named summaries, with errors.

A profile keeps every image's error at every level. Two profiles of the same images and noise can
so be compared image by image, and what they share drops out of the comparison's standard error.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindiffusion.errors import UserError

FloatArray = NDArray[np.float64]
SIGMA_WINDOW = (0.1, 3.0)
"""Noise over signal, σ/α, of the third summary."""


@dataclass(frozen=True)
class ProfileResult:
    """ε-MSE by noise level and image, or the difference of two such profiles.

    Attributes:
        levels: integer levels t.
        errors: (L, N), mean squared ε-error of each image at each level.
    """

    levels: tuple[int, ...]
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
class LevelCurve:
    """A number by noise level: integer levels, value (L,) and its standard error (L,)."""

    levels: tuple[int, ...]
    value: FloatArray
    standard_error: FloatArray


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


def log_ratio(mse: ArrayLike, baseline_mse: ArrayLike) -> FloatArray:
    """ln(mse / baseline_mse), element by element; below 0 is better than the baseline.

    Raises:
        UserError: shapes differ, or a value is not a positive number.
    """
    ours, theirs = np.asarray(mse, np.float64), np.asarray(baseline_mse, np.float64)
    if ours.shape != theirs.shape:
        raise UserError(
            f"Log-ratio of {ours.shape} to {theirs.shape} values; give as many of each."
        )
    if not (np.isfinite([ours, theirs]).all() and (ours > 0).all() and (theirs > 0).all()):
        raise UserError("Log-ratio of values that are not positive numbers; give finite ε-MSEs.")
    return np.log(ours) - np.log(theirs)


def paired_log_ratio(profile: ProfileResult, baseline: ProfileResult) -> LevelCurve:
    """Natural logarithm of the ratio of two profiles of the same images and noise.

    The standard error is that of a ratio of paired means, to first order (delta method).

    Raises:
        UserError: the profiles are not of one kind, or a mean is not positive.
    """
    _check_pair(profile, baseline)
    value = log_ratio(profile.mse, baseline.mse)
    relative = profile.errors / profile.mse[:, None] - baseline.errors / baseline.mse[:, None]
    return LevelCurve(profile.levels, value, _standard_error(relative))


def simple_weights(alpha_bar: FloatArray, beta: FloatArray) -> FloatArray:
    """L_simple: all t alike (Ho et al. 2020, eq. 14). Arguments as for ``summaries``."""
    return np.ones(len(beta) - 1)


def elbo_weights(alpha_bar: FloatArray, beta: FloatArray) -> FloatArray:
    """Weight of the squared ε-error in the variational bound, β_t² / (2 σ_t² α_t (1 − ᾱ_t)).

    With α_t = 1 − β_t and σ_t² = β_t, the variance that ancestral sampling adds here. At t = 1,
    where the bound has a discrete decoder, the same formula stands. Source: Ho et al. 2020,
    eq. 12. Arguments as for ``summaries``.
    """
    return beta[1:] / (2 * (1 - beta[1:]) * (1 - alpha_bar[1:]))


def sigma_window_weights(alpha_bar: FloatArray, beta: FloatArray) -> FloatArray:
    """Uniform in ln(σ/α) over the levels with σ/α in .1–3, nothing elsewhere.

    Level t has the length of its step, ln(σ_t/α_t) − ln(σ_{t−1}/α_{t−1}).
    Arguments as for ``summaries``.

    Raises:
        UserError: the chain has no such level.
    """
    ratio = np.sqrt((1 - alpha_bar) / alpha_bar)
    low, high = SIGMA_WINDOW
    inside = (ratio[1:] >= low) & (ratio[1:] <= high)
    if not inside.any():
        raise UserError(
            f"None of the {len(inside)} noise levels has σ/α in {low:g}–{high:g}; use a longer "
            "chain (process.n_T), or read the profile by level."
        )
    return np.diff(np.log(ratio)) * inside


SUMMARIES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "L_simple": simple_weights,
    "ELBO": elbo_weights,
    "sigma-0.1-3": sigma_window_weights,
}
"""Name of a summary → its weights of t = 1 … n_T, (n_T,), not normalised."""


def summaries(
    profile: ProfileResult, alpha_bar: FloatArray, beta: FloatArray
) -> dict[str, Estimate]:
    """The profile's weighted means over t, one for each of ``SUMMARIES``.

    Quadrature: each t of the chain takes the error of the profile's nearest level (of two as near,
    the lower), so a level at the middle of its share stands for that share, with the sum of the
    share's exact weights. Weights are normalised: a summary has the unit of an ε-MSE. Standard
    errors are over images, of each image's own weighted mean, so they hold for differences too.

    Args:
        profile: a profile, or a difference of two.
        alpha_bar: ᾱ_0..ᾱ_{n_T}, (n_T + 1,).
        beta: β_0..β_{n_T}, (n_T + 1,).
    """
    return {
        name: _weighted_mean(profile, weights(alpha_bar, beta))
        for name, weights in SUMMARIES.items()
    }


def _weighted_mean(profile: ProfileResult, weights: FloatArray) -> Estimate:
    """Mean of a profile with a weight for each t = 1 … n_T."""
    chain = np.arange(1, len(weights) + 1)
    nearest = np.abs(chain[:, None] - np.array(profile.levels)).argmin(axis=1)
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
