"""From a density's own clock to noise time, once, when a run is planned."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mindiffusion.curriculum.density import (
    Average,
    Histogram,
    Levels,
    SimpleDensity,
    TimeDensity,
)
from mindiffusion.curriculum.log_sigma import OnLogSigma
from mindiffusion.curriculum.noise_time import fine_knots

LogSigma = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""(N,) noise times in (0, 1], of counted levels theirs → (N,) ln σ of a process, rising with t."""


def to_noise_time(density: TimeDensity, log_sigma: LogSigma, num_levels: int | None) -> TimeDensity:
    """The density over a process's noise times; one on the noise-time clock stays as it is.

    Of counted levels a draw of ln σ trains the one whose ln σ is nearest: a level takes what lies
    between the midpoints to its neighbours, and the first and the last take their tails too.

    Of continuous levels a draw trains the level of its ln σ, and the tails the levels at the ends.
    It becomes a histogram with the errors that ``fine_knots`` states.

    Args:
        density: on any clock.
        log_sigma: the process's ln σ by noise time.
        num_levels: number of its levels; None: they are continuous.
    """
    if isinstance(density, Average):
        shares = density.shares
        return Average(
            tuple(replace(s, density=_simple(s.density, log_sigma, num_levels)) for s in shares)
        )
    return _simple(density, log_sigma, num_levels)


def _simple(density: SimpleDensity, log_sigma: LogSigma, num_levels: int | None) -> SimpleDensity:
    if not isinstance(density, OnLogSigma):
        return density
    if num_levels is None:
        return _histogram(density, log_sigma)
    of_levels = log_sigma(np.arange(1, num_levels + 1) / num_levels)
    below = density.cdf((of_levels[1:] + of_levels[:-1]) / 2)
    return Levels(tuple(np.diff(below, prepend=0.0, append=1.0).tolist()))


def _histogram(density: OnLogSigma, log_sigma: LogSigma) -> Histogram:
    def cdf(t: NDArray[np.float64]) -> NDArray[np.float64]:
        below = density.cdf(log_sigma(t[1:-1]))
        return np.concatenate([[0.0], np.maximum.accumulate(below), [1.0]])

    knots = fine_knots(cdf)
    masses = np.diff(cdf(knots))
    (inside,) = np.nonzero(masses)
    first, after = int(inside[0]), int(inside[-1]) + 1
    edges, masses = knots[first : after + 1], masses[first:after]
    return Histogram(tuple(edges.tolist()), tuple(masses.tolist()))
