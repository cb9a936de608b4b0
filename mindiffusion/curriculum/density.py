"""Time densities: from a uniform u in [0, 1) to a noise time t in (0, 1], 1 = pure noise.

A density names its clock. On the noise-time clock it is a ``NoiseTimeDensity``: it can be drawn
from and measured, for a process of counted levels and for one of continuous levels. A density on
another clock has ``intervals`` and a ``cdf`` only, and ``clock.py`` turns it into one on the
noise-time clock when a run is planned. A new density is one class with ``kind``, added to
``SimpleDensity``.
"""

import itertools
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy import special

from mindiffusion.curriculum.log_sigma import LogSigmaLaplace, LogSigmaNormal, OnLogSigma
from mindiffusion.curriculum.noise_time import Intervals, NoiseTimeDensity, fine_knots
from mindiffusion.errors import UserError
from mindiffusion.tagged_union import TaggedUnion

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDING_GUARD = 1e-9
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_MOST_BINS = 100_001
_Exponent = Annotated[float, Field(gt=0, ge=1e-3, le=1e4)]
_Masses = Annotated[tuple[float, ...], Field(max_length=_MOST_BINS)]


@dataclass(frozen=True, config=_STRICT)
class Window(NoiseTimeDensity):
    """Uniform from t_min to t_max.

    Of n counted levels these are max(1, ⌊t_min·n⌋) … ⌊t_max·n⌋, both ends included.

    Source: docs/methods.md, Time windows. (0, 1) is ordinary training.

    Attributes:
        t_min: lower end in [0, 1).
        t_max: upper end in (t_min, 1].
    """

    t_min: float = 0.0
    t_max: float = 1.0
    kind: Literal["window"] = "window"

    def __post_init__(self) -> None:
        if not 0.0 <= self.t_min < self.t_max <= 1.0:
            raise UserError(
                f"time window [{self.t_min}, {self.t_max}]: need 0 <= t_min < t_max <= 1."
            )

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        return ((self.t_min, self.t_max),)

    def bounds(self, n: int) -> tuple[int, int]:
        """First and last counted level; ⌊.29·100⌋ is 29 here, not 28."""
        low = max(1, _floor(self.t_min * n))
        high = _floor(self.t_max * n)
        if high < low:
            raise UserError(
                f"time window [{self.t_min}, {self.t_max}] holds none of the levels 1 to {n}; "
                "raise t_max."
            )
        return low, high

    def probabilities(self, n: int) -> NDArray[np.float64]:
        """Probability of each counted level, (n,)."""
        low, high = self.bounds(n)
        mass = np.zeros(n)
        mass[low - 1 : high] = 1.0 / (high - low + 1)
        return mass

    def cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Straight from t_min to t_max."""
        inside = np.clip(t, self.t_min, self.t_max)
        return np.asarray((inside - self.t_min) / (self.t_max - self.t_min))

    @property
    def knots(self) -> NDArray[np.float64]:
        """Both ends."""
        return np.array([self.t_min, self.t_max])

    def quantile(self, u: "Tensor", num_levels: int | None) -> "Tensor":
        """Of counted levels: t = lo + ⌊u·(hi − lo + 1)⌋, over n."""
        if num_levels is None:
            return super().quantile(u, num_levels)
        low, high = self.bounds(num_levels)
        level = low + (u.double() * (high - low + 1)).floor()
        return level.clamp(max=high) / num_levels


@dataclass(frozen=True, config=_STRICT)
class Histogram(NoiseTimeDensity):
    """Uniform within bins of [0, 1], each with a mass of its own.

    Of n counted levels bin [a, b] holds max(1, ⌊a·n⌋) … ⌊b·n⌋ − 1, and the last bin ⌊b·n⌋ too: a
    histogram of one bin is the ``Window`` with these ends.

    Attributes:
        edges: rising, in [0, 1]; one more than masses.
        masses: ≥ 0, of sum 1.
    """

    edges: Annotated[tuple[float, ...], Field(max_length=_MOST_BINS)]
    masses: _Masses
    kind: Literal["histogram"] = "histogram"

    def __post_init__(self) -> None:
        ends = (0.0, *self.edges, 1.0)
        is_rising = all(a < b for a, b in itertools.pairwise(self.edges))
        if len(self.edges) != len(self.masses) + 1 or not is_rising or sorted(ends) != [*ends]:
            raise UserError(
                f"time histogram has edges {list(self.edges)} and {len(self.masses)} masses; give "
                "rising edges in [0, 1], one more than masses."
            )
        if not _is_distribution(self.masses):
            raise UserError(
                f"time histogram has masses {list(self.masses)}; give numbers >= 0 of sum 1."
            )

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        bins = zip(itertools.pairwise(self.edges), self.masses, strict=True)
        return tuple(ends for ends, mass in bins if mass > 0)

    def probabilities(self, n: int) -> NDArray[np.float64]:
        """Probability of each counted level, (n,)."""
        levels = [max(1, _floor(edge * n)) for edge in self.edges]
        levels[-1] = _floor(self.edges[-1] * n) + 1
        mass = np.zeros(n)
        for (low, after), share in zip(itertools.pairwise(levels), self.masses, strict=True):
            if share > 0 and after <= low:
                raise UserError(
                    f"time histogram with edges {list(self.edges)} has a bin that holds none of "
                    f"the levels 1 to {n}; make its bins wider."
                )
            mass[low - 1 : max(low, after) - 1] = share / max(1, after - low)
        return mass

    def cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Straight within each bin."""
        return _straight(t, self.knots, self.masses)

    @property
    def knots(self) -> NDArray[np.float64]:
        """The edges."""
        return np.array(self.edges)


@dataclass(frozen=True, config=_STRICT)
class Beta(NoiseTimeDensity):
    """t ~ Beta(a, b), or the next of n counted levels, ⌈t·n⌉/n.

    The timestep density of B-TTDM (ECCV 2024).

    Attributes:
        a: exponent at low noise, > 0; below 1 draws it more often.
        b: exponent at high noise, > 0; likewise.
    """

    a: _Exponent
    b: _Exponent
    kind: Literal["beta"] = "beta"

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        return ((0.0, 1.0),)

    def bounds(self, n: int) -> tuple[int, int]:
        """All counted levels."""
        return 1, n

    def probabilities(self, n: int) -> NDArray[np.float64]:
        """Probability of each counted level, (n,)."""
        return np.diff(self.cdf(np.arange(n + 1) / n))

    def cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """The regularised incomplete beta function."""
        return np.asarray(special.betainc(self.a, self.b, t), dtype=np.float64)

    @property
    def knots(self) -> NDArray[np.float64]:
        """Where it bends little between them."""
        return fine_knots(self.cdf)


@dataclass(frozen=True, config=_STRICT)
class SoftTruncation(NoiseTimeDensity):
    """Noise times above a random cut: Kim et al. 2022, "Soft Truncation", 2106.05527.

    There each batch has a cut τ with density 1/(τ ln(1/least)) on [least, 1], and times that are
    uniform on [τ, 1]. Averaged over τ that is the density ln(t (1 − least)/((1 − t) least)) /
    ln(1/least), which is drawn here: the expected loss is the same, its variance is less.

    Attributes:
        least: the lowest cut, in (0, 1); below it nothing is drawn.
    """

    least: Annotated[float, Field(ge=1e-9, le=0.5)] = 1e-5
    kind: Literal["soft_truncation"] = "soft_truncation"

    @property
    def intervals(self) -> Intervals:
        """From the lowest cut on."""
        return ((self.least, 1.0),)

    def bounds(self, n: int) -> tuple[int, int]:
        """All counted levels above the lowest cut."""
        return _floor(self.least * n) + 1, n

    def probabilities(self, n: int) -> NDArray[np.float64]:
        """Probability of each counted level, (n,)."""
        return np.diff(self.cdf(np.arange(n + 1) / n))

    def cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """The integral of the density: t ln t + (1 − t) ln(1 − t) is that of ln(t/(1 − t))."""
        low, inside = self.least, np.maximum(t, self.least)
        rise = special.xlogy(inside, inside) + special.xlog1py(1.0 - inside, -inside)
        at_low = special.xlogy(low, low) + special.xlog1py(1.0 - low, -low)
        area = rise - at_low - (inside - low) * (math.log(low) - math.log1p(-low))
        return np.asarray(np.clip(area / -math.log(low), 0.0, 1.0))

    @property
    def knots(self) -> NDArray[np.float64]:
        """The lowest cut, and above it where it bends little between them."""
        knots = fine_knots(self.cdf)
        return np.concatenate([[self.least], knots[knots > self.least]])


@dataclass(frozen=True, config=_STRICT)
class Levels(NoiseTimeDensity):
    """A probability for each counted level: what a density on another clock becomes there.

    For continuous levels it is a histogram: each level k stands for ((k − 1)/n, k/n].

    Attributes:
        masses: (n,) ≥ 0 of sum 1; the first is level 1's.
    """

    masses: _Masses
    kind: Literal["levels"] = "levels"

    def __post_init__(self) -> None:
        if not _is_distribution(self.masses):
            raise UserError(
                f"time levels have {len(self.masses)} masses; give numbers >= 0 of sum 1, one for "
                "each level."
            )

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass, from the first level to the last."""
        n = len(self.masses)
        low, high = self.bounds(n)
        return (((low - 1) / n, high / n),)

    def probabilities(self, n: int) -> NDArray[np.float64]:
        """Probability of each counted level, (n,)."""
        if n != len(self.masses):
            raise UserError(f"time density has {len(self.masses)} masses for {n} levels.")
        return np.array(self.masses)

    def cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Straight within each level's share."""
        return _straight(t, self.knots, self.masses)

    @property
    def knots(self) -> NDArray[np.float64]:
        """The ends of the levels' shares."""
        return np.arange(len(self.masses) + 1) / len(self.masses)


_SIMPLE: dict[str, type[Any]] = {
    cls.kind: cls
    for cls in (Window, Histogram, Beta, LogSigmaNormal, Levels, LogSigmaLaplace, SoftTruncation)
}
_USUAL = "window"
_Simple = Window | Histogram | Beta | OnLogSigma | Levels | SoftTruncation
SimpleDensity = Annotated[_Simple, TaggedUnion("kind", _SIMPLE, _USUAL)]
"""All densities but averages of them."""


@dataclass(frozen=True, config=_STRICT)
class Share:
    """One density of an ``Average``.

    Attributes:
        weight: relative to the other shares, > 0.
        density: what it adds.
    """

    weight: Annotated[float, Field(gt=0, le=1e12)]
    density: SimpleDensity


@dataclass(frozen=True, config=_STRICT)
class Average(NoiseTimeDensity):
    """The time-average of the densities of several stages, exactly.

    Attributes:
        shares: densities with their weights, at least one.
    """

    shares: Annotated[tuple[Share, ...], Field(min_length=1, max_length=256)]
    kind: Literal["average"] = "average"

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        return tuple(part for share in self.shares for part in share.density.intervals)

    def probabilities(self, n: int) -> NDArray[np.float64]:
        """Probability of each counted level, (n,)."""
        return self._weights @ np.stack([part.probabilities(n) for part in self._parts])

    def cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weighted mean of its shares'."""
        # One after the other: the mean of equal numbers is equal, so a gap stays without mass.
        pairs = zip(self._weights.tolist(), self._parts, strict=True)
        return np.asarray(sum(weight * part.cdf(t) for weight, part in pairs))

    @property
    def knots(self) -> NDArray[np.float64]:
        """Those of all shares."""
        return np.unique(np.concatenate([part.knots for part in self._parts]))

    @property
    def _weights(self) -> NDArray[np.float64]:
        weights = np.array([share.weight for share in self.shares])
        return weights / weights.sum()

    @property
    def _parts(self) -> list[NoiseTimeDensity]:
        return [on_noise_time(share.density) for share in self.shares]


TimeDensity = Annotated[
    _Simple | Average,
    TaggedUnion("kind", _SIMPLE | {Average.kind: Average}, _USUAL),
]
"""All densities a stage may hold, told apart by ``kind``."""


def on_noise_time(density: TimeDensity) -> NoiseTimeDensity:
    """The density itself, which must be on the noise-time clock.

    Raises:
        ValueError: it is on another clock, so that the run was not planned yet.
    """
    if isinstance(density, OnLogSigma):
        raise ValueError(f"{density} is on the clock {density.clock}; use a planned stage's.")
    return density


def _is_distribution(masses: tuple[float, ...]) -> bool:
    if min(masses, default=-1.0) < 0 or max(masses) > 1 + _ROUNDING_GUARD:
        return False
    return abs(math.fsum(masses) - 1) <= _ROUNDING_GUARD


def _floor(value: float) -> int:
    return math.floor(value + _ROUNDING_GUARD)


def _straight(
    t: NDArray[np.float64], edges: NDArray[np.float64], masses: tuple[float, ...]
) -> NDArray[np.float64]:
    """CDF at t of masses that are spread evenly between edges."""
    cumulative = np.concatenate([[0.0], np.cumsum(masses)])
    return np.interp(t, edges, cumulative / cumulative[-1])
