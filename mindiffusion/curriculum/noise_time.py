"""The noise-time clock: what every density on it offers, and how noise times are drawn.

Draws are an inverse CDF of uniforms, by tables that lie on the uniforms' device. Uniforms have 24
bits (``noise.uniforms``): each is a multiple of 2⁻²⁴ in [0, 1).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Intervals = tuple[tuple[float, float], ...]
_TIE_GUARD = 1e-12
"""Below 4,000 counted levels uniforms miss a level's end by 1e-11 or hit it exactly."""
_HALF_STEP = 2.0**-25
_LEAST_TIME = 2.0**-126
"""The smallest normal number of float32: the log keeps noise times so."""
_BINS = 1000
_MOST_MASS = 2.0 / _BINS
_FINEST = 2.0**-24


class NoiseLevels(Protocol):
    """What is asked of a process's config."""

    @property
    def kind(self) -> str:
        """Which process."""

    @property
    def num_levels(self) -> int | None:
        """Number of its levels; None: they are continuous."""

    @property
    def lowest_time(self) -> float:
        """Noise time of the lowest level that a sampler asks for."""

    @property
    def noise(self) -> object:
        """Its settings that make the levels, as text."""

    def log_sigma(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ln σ at noise times (N,), rising."""


class NoiseTimeDensity(ABC):
    """A density on the noise-time clock.

    It says twice where its mass is. ``probabilities`` is for a process of n counted levels, whose
    noise times are 1/n … 1; how a density treats a level at its edge is a rule of its own.
    ``cdf`` and ``knots`` are for a process of continuous levels. What is drawn and what is reported
    follows from these here. ``num_levels`` is that of a process: None where levels are continuous.
    """

    clock: ClassVar[str] = "noise time"

    @property
    @abstractmethod
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""

    @abstractmethod
    def probabilities(self, n: int) -> NDArray[np.float64]:
        """Probability of each of n counted levels, (n,); the first is that of t = 1/n.

        Raises:
            UserError: part of the mass is at none of them.
        """

    @abstractmethod
    def cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of continuous levels' draws that are at most each noise time t in [0, 1], (N,)."""

    @property
    @abstractmethod
    def knots(self) -> NDArray[np.float64]:
        """Rising noise times, first without and last with all mass; the CDF is straight between.

        Of a smooth density it is nearly so: see ``fine_knots``.
        """

    def bounds(self, n: int) -> tuple[int, int]:
        """First and last of n counted levels with mass, from 1."""
        (inside,) = np.nonzero(self.probabilities(n))
        return int(inside[0]) + 1, int(inside[-1]) + 1

    def quantile(self, u: "Tensor", num_levels: int | None) -> "Tensor":
        """The inverse CDF: uniforms (B,) in [0, 1) → noise times (B,) float64 in (0, 1].

        They rise with u, and are on the uniforms' device.
        """
        if num_levels is None:
            return _continuous_quantile(self, u)
        return _counted_quantile(self, u, num_levels)

    def ends(self, num_levels: int | None) -> tuple[float, float]:
        """The lowest and the highest noise time that are drawn; of continuous levels, their bounds.

        Raises:
            UserError: part of the mass is at none of the counted levels.
        """
        if num_levels is None:
            lows, highs = zip(*self.intervals, strict=True)
            return min(lows), max(highs)
        low, high = self.bounds(num_levels)
        return low / num_levels, high / num_levels

    def share_up_to(self, t: NDArray[np.float64], num_levels: int | None) -> NDArray[np.float64]:
        """Share of the draws up to each noise time t in [0, 1], (N,) → (N,).

        Counted level k of n stands for the noise times ((k − 1)/n, k/n], evenly.
        """
        if num_levels is None:
            return self.cdf(t)
        cumulative = np.concatenate([[0.0], np.cumsum(self.probabilities(num_levels))])
        return np.interp(t, np.linspace(0.0, 1.0, len(cumulative)), cumulative)


def _counted_quantile(density: NoiseTimeDensity, u: "Tensor", n: int) -> "Tensor":
    """The first of n counted levels whose cumulative probability is above u.

    Args:
        density: any density.
        u: (B,) uniforms in [0, 1).
        n: number of levels.

    Returns:
        (B,) float64 noise times, multiples of 1/n in (0, 1].
    """
    import torch

    table = _cumulative(density, n, u.device)
    level = torch.searchsorted(table, u.double() + _TIE_GUARD, right=True) + 1
    return level.double() / n


@lru_cache(maxsize=64)
def _cumulative(density: NoiseTimeDensity, n: int, device: "torch.device") -> "Tensor":
    """Cumulative probabilities of n counted levels: copied to a device once, not at every step."""
    import torch

    table = np.cumsum(density.probabilities(n))
    # No uniform passes the last level with mass, however the sum was rounded.
    table[density.bounds(n)[1] - 1 :] = np.inf
    return torch.from_numpy(table).to(device)


def _continuous_quantile(density: NoiseTimeDensity, u: "Tensor") -> "Tensor":
    """The inverse of a CDF that is straight between a density's knots; for continuous levels.

    A uniform stands for the middle of its share of [0, 1), u + 2⁻²⁵. So no draw is at the lower end
    of all mass, which may be t = 0, where nothing can be trained.

    Args:
        density: any density.
        u: (B,) uniforms in [0, 1).

    Returns:
        (B,) float64 noise times in (0, 1], inside the density's intervals.
    """
    import torch

    knots, cumulative = _corners(density, u.device)
    share = (u.double() + _HALF_STEP).clamp(max=1.0)
    # The first knot with so much mass: before it is a bin with mass, never a gap.
    after = torch.searchsorted(cumulative, share)
    low, high = cumulative[after - 1], cumulative[after]
    start, end = knots[after - 1], knots[after]
    t = start + (share - low) / (high - low) * (end - start)
    return torch.minimum(t, end).clamp(min=_LEAST_TIME)


@lru_cache(maxsize=64)
def _corners(density: NoiseTimeDensity, device: "torch.device") -> tuple["Tensor", "Tensor"]:
    """A density's knots and its CDF there, (K,) each, on a device."""
    import torch

    knots = density.knots
    cumulative = density.cdf(knots)
    # Where the CDF was rounded below 1, a uniform could be above all of it.
    cumulative[cumulative >= cumulative[-1]] = 1.0
    return torch.from_numpy(knots).to(device), torch.from_numpy(cumulative).to(device)


def relative_density(density: NoiseTimeDensity, t: "Tensor", num_levels: int | None) -> "Tensor":
    """How much more often than by plain training noise times are drawn.

    Args:
        density: any density that is piecewise even where levels are continuous.
        t: (B,) noise times with mass, in (0, 1].
        num_levels: of the process; None: its levels are continuous.

    Returns:
        (B,) float64, > 0; its mean over draws of 1 divided by it is 1.
    """
    import torch

    if num_levels is None:
        knots, cumulative = _corners(density, t.device)
        after = torch.searchsorted(knots, t.double()).clamp(1, len(knots) - 1)
        rise = cumulative[after] - cumulative[after - 1]
        return rise / (knots[after] - knots[after - 1])
    table = _relative(density, num_levels, t.device)
    return table[torch.round(t.double() * num_levels).long() - 1]


@lru_cache(maxsize=64)
def _relative(density: NoiseTimeDensity, n: int, device: "torch.device") -> "Tensor":
    """Of n counted levels, how much more often they are drawn: copied to a device once."""
    import torch

    return torch.from_numpy(density.probabilities(n) * n).to(device)


def fine_knots(cdf: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Noise times from 0 to 1 between which a smooth CDF may be taken as straight.

    Of the bins between them none is wider than 1/1000. None has more than 2/1000 of the mass, but
    for bins at most 2⁻²⁴ wide. The straight CDF is exact at the knots and rises as the true one
    does. So no noise time moves by more than 1/1000, and outside of these narrow bins no share of
    draws is off by more than 2/1000. All multiples of 1/1000 are knots.

    Args:
        cdf: (N,) noise times in [0, 1], rising → (N,) shares, 0 at 0 and 1 at 1.

    Returns:
        (K,) float64, rising.
    """
    knots = np.arange(_BINS + 1) / _BINS
    while True:
        heavy = (np.diff(cdf(knots)) > _MOST_MASS) & (np.diff(knots) > _FINEST)
        if not heavy.any():
            return knots
        middles = (knots[:-1] + knots[1:])[heavy] / 2
        knots = np.sort(np.concatenate([knots, middles]))
