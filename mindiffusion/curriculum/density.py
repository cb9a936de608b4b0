"""Time densities: from a uniform u in [0, 1) to a noise time t in (0, 1], 1 = pure noise.

A density names its clock. On the ``index`` clock times are multiples of 1/n_T, and it has
``bounds`` (first and last level with mass), ``probabilities`` (of the levels 1 … n_T), ``quantile``
(its inverse CDF) and ``intervals`` (what it covers, free of n_T). One on another clock has
``intervals`` and a ``cdf``, and ``clock.py`` turns it into one on the index clock when a run is
planned. A new density is one class with ``kind``, added to ``SimpleDensity``.
"""

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy import special

from mindiffusion.errors import UserError
from mindiffusion.tagged_union import TaggedUnion

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_ROUNDING_GUARD = 1e-9
_TIE_GUARD = 1e-12
"""Uniforms have 24 bits: below 4,000 levels they miss a level's end by 1e-11 or hit it exactly."""
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_MOST_BINS = 100_001
_Exponent = Annotated[float, Field(gt=0, ge=1e-3, le=1e4)]
_Masses = Annotated[tuple[float, ...], Field(max_length=_MOST_BINS)]


Intervals = tuple[tuple[float, float], ...]


@dataclass(frozen=True, config=_STRICT)
class Window:
    """Uniform over the integers max(1, ⌊t_min·n_T⌋) … ⌊t_max·n_T⌋, both ends included.

    Source: docs/methods.md, Time windows. (0, 1) is ordinary training.

    Attributes:
        t_min: lower end in [0, 1).
        t_max: upper end in (t_min, 1].
    """

    t_min: float = 0.0
    t_max: float = 1.0
    kind: Literal["window"] = "window"
    clock: ClassVar[str] = "index"

    def __post_init__(self) -> None:
        if not 0.0 <= self.t_min < self.t_max <= 1.0:
            raise UserError(
                f"time window [{self.t_min}, {self.t_max}]: need 0 <= t_min < t_max <= 1."
            )

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        return ((self.t_min, self.t_max),)

    def bounds(self, n_T: int) -> tuple[int, int]:
        """First and last integer level; ⌊.29·100⌋ is 29 here, not 28."""
        low = max(1, _floor(self.t_min * n_T))
        high = _floor(self.t_max * n_T)
        if high < low:
            raise UserError(
                f"time window [{self.t_min}, {self.t_max}] holds none of the levels 1 to {n_T}; "
                "raise t_max."
            )
        return low, high

    def probabilities(self, n_T: int) -> NDArray[np.float64]:
        """Probability of each level 1 … n_T, (n_T,)."""
        low, high = self.bounds(n_T)
        mass = np.zeros(n_T)
        mass[low - 1 : high] = 1.0 / (high - low + 1)
        return mass

    def quantile(self, u: "Tensor", n_T: int) -> "Tensor":
        """Noise time of each uniform: (B,) in [0, 1) → (B,) float64 in (0, 1].

        t = lo + ⌊u·(hi − lo + 1)⌋, over n_T.
        """
        low, high = self.bounds(n_T)
        level = low + (u.double() * (high - low + 1)).floor()
        return level.clamp(max=high) / n_T


@dataclass(frozen=True, config=_STRICT)
class Histogram:
    """Uniform within bins of [0, 1], each with a mass of its own.

    Bin [a, b] holds the integers max(1, ⌊a·n_T⌋) … ⌊b·n_T⌋ − 1, and the last one ⌊b·n_T⌋ too: a
    histogram of one bin is the ``Window`` with these ends.

    Attributes:
        edges: rising, in [0, 1]; one more than masses.
        masses: ≥ 0, of sum 1.
    """

    edges: Annotated[tuple[float, ...], Field(max_length=_MOST_BINS)]
    masses: _Masses
    kind: Literal["histogram"] = "histogram"
    clock: ClassVar[str] = "index"

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

    def bounds(self, n_T: int) -> tuple[int, int]:
        """First and last integer level with mass."""
        return _bounds(self.probabilities(n_T))

    def probabilities(self, n_T: int) -> NDArray[np.float64]:
        """Probability of each level 1 … n_T, (n_T,)."""
        levels = [max(1, _floor(edge * n_T)) for edge in self.edges]
        levels[-1] = _floor(self.edges[-1] * n_T) + 1
        mass = np.zeros(n_T)
        for (low, after), share in zip(itertools.pairwise(levels), self.masses, strict=True):
            if share > 0 and after <= low:
                raise UserError(
                    f"time histogram with edges {list(self.edges)} has a bin that holds none of "
                    f"the levels 1 to {n_T}; make its bins wider."
                )
            mass[low - 1 : max(low, after) - 1] = share / max(1, after - low)
        return mass

    def quantile(self, u: "Tensor", n_T: int) -> "Tensor":
        """Noise time of each uniform: (B,) in [0, 1) → (B,) float64 in (0, 1]."""
        return table_quantile(self, u, n_T)


@dataclass(frozen=True, config=_STRICT)
class Beta:
    """Level ⌈x·n_T⌉ of x ~ Beta(a, b): the timestep density of B-TTDM (ECCV 2024).

    Attributes:
        a: exponent at low noise, > 0; below 1 draws it more often.
        b: exponent at high noise, > 0; likewise.
    """

    a: _Exponent
    b: _Exponent
    kind: Literal["beta"] = "beta"
    clock: ClassVar[str] = "index"

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        return ((0.0, 1.0),)

    def bounds(self, n_T: int) -> tuple[int, int]:
        """First and last integer level with mass."""
        return 1, n_T

    def probabilities(self, n_T: int) -> NDArray[np.float64]:
        """Probability of each level 1 … n_T, (n_T,)."""
        cumulative = special.betainc(self.a, self.b, np.arange(n_T + 1) / n_T)
        return np.asarray(np.diff(cumulative), dtype=np.float64)

    def quantile(self, u: "Tensor", n_T: int) -> "Tensor":
        """Noise time of each uniform: (B,) in [0, 1) → (B,) float64 in (0, 1]."""
        return table_quantile(self, u, n_T)


@dataclass(frozen=True, config=_STRICT)
class LogSigmaNormal:
    """ln σ ~ N(mean, std²), with σ = √(1 − ᾱ)/√ᾱ of the process.

    EDM draws noise so, with (−1.2, 1.2) (Karras et al. 2022, 2206.00364, table 1); logit-normal
    times of a rectified flow, σ = t/(1 − t), are the same with (m, s) (Esser et al. 2024,
    2403.03206, section 3.1).

    Attributes:
        mean: of ln σ.
        std: of ln σ, > 0.
    """

    mean: Annotated[float, Field(ge=-100, le=100)]
    std: Annotated[float, Field(gt=0, ge=1e-3, le=1e3)]
    kind: Literal["log_sigma_normal"] = "log_sigma_normal"
    clock: ClassVar[str] = "log_sigma"

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        return ((0.0, 1.0),)

    def cdf(self, log_sigma: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the draws with ln σ up to each value."""
        return np.asarray(special.ndtr((log_sigma - self.mean) / self.std))


@dataclass(frozen=True, config=_STRICT)
class Levels:
    """A probability for each level: what a density on another clock becomes.

    Attributes:
        masses: (n_T,) ≥ 0 of sum 1; the first is level 1's.
    """

    masses: _Masses
    kind: Literal["levels"] = "levels"
    clock: ClassVar[str] = "index"

    def __post_init__(self) -> None:
        if not _is_distribution(self.masses):
            raise UserError(
                f"time levels have {len(self.masses)} masses; give numbers >= 0 of sum 1, one for "
                "each level."
            )

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass, from the first level to the last."""
        n_T = len(self.masses)
        low, high = self.bounds(n_T)
        return (((low - 1) / n_T, high / n_T),)

    def bounds(self, n_T: int) -> tuple[int, int]:
        """First and last integer level with mass."""
        return _bounds(self.probabilities(n_T))

    def probabilities(self, n_T: int) -> NDArray[np.float64]:
        """Probability of each level 1 … n_T, (n_T,)."""
        if n_T != len(self.masses):
            raise UserError(f"time density has {len(self.masses)} masses for {n_T} levels.")
        return np.array(self.masses)

    def quantile(self, u: "Tensor", n_T: int) -> "Tensor":
        """Noise time of each uniform: (B,) in [0, 1) → (B,) float64 in (0, 1]."""
        return table_quantile(self, u, n_T)


_SIMPLE: dict[str, type[Any]] = {
    cls.kind: cls for cls in (Window, Histogram, Beta, LogSigmaNormal, Levels)
}
_USUAL = "window"
SimpleDensity = Annotated[
    Window | Histogram | Beta | LogSigmaNormal | Levels, TaggedUnion("kind", _SIMPLE, _USUAL)
]
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
class Average:
    """The time-average of the densities of several stages: their exact level histogram, mixed.

    Attributes:
        shares: densities with their weights, at least one.
    """

    shares: Annotated[tuple[Share, ...], Field(min_length=1, max_length=256)]
    kind: Literal["average"] = "average"
    clock: ClassVar[str] = "index"

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        return tuple(part for share in self.shares for part in share.density.intervals)

    def bounds(self, n_T: int) -> tuple[int, int]:
        """First and last integer level with mass."""
        return _bounds(self.probabilities(n_T))

    def probabilities(self, n_T: int) -> NDArray[np.float64]:
        """Probability of each level 1 … n_T, (n_T,)."""
        weights = np.array([share.weight for share in self.shares])
        parts = np.stack([on_index(share.density).probabilities(n_T) for share in self.shares])
        return (weights / weights.sum()) @ parts

    def quantile(self, u: "Tensor", n_T: int) -> "Tensor":
        """Noise time of each uniform: (B,) in [0, 1) → (B,) float64 in (0, 1]."""
        return table_quantile(self, u, n_T)


IndexDensity = Window | Histogram | Beta | Levels | Average
TimeDensity = Annotated[
    Window | Histogram | Beta | LogSigmaNormal | Levels | Average,
    TaggedUnion("kind", _SIMPLE | {Average.kind: Average}, _USUAL),
]
"""All densities a stage may hold, told apart by ``kind``."""


def on_index(density: TimeDensity) -> IndexDensity:
    """The density itself, which must be on the index clock.

    Raises:
        ValueError: it is on another clock, so that the run was not planned yet.
    """
    if isinstance(density, LogSigmaNormal):
        raise ValueError(f"{density} is on the clock {density.clock}; use a planned stage's.")
    return density


def table_quantile(density: IndexDensity, u: "Tensor", n_T: int) -> "Tensor":
    """Inverse CDF by looking up the levels' cumulative probabilities.

    Args:
        density: any density.
        u: (B,) uniforms in [0, 1).
        n_T: number of levels.

    Returns:
        (B,) float64 in (0, 1]: the first level whose cumulative probability is above u, over n_T.
    """
    import torch

    table = _cumulative(density, n_T, u.device)
    level = torch.searchsorted(table, u.double() + _TIE_GUARD, right=True) + 1
    return level.double() / n_T


@lru_cache(maxsize=64)
def _cumulative(density: IndexDensity, n_T: int, device: "torch.device") -> "Tensor":
    """Cumulative probabilities of levels 1 … n_T: copied to a device once, not at every step."""
    import torch

    table = np.cumsum(density.probabilities(n_T))
    # No uniform passes the last level with mass, however the sum was rounded.
    table[density.bounds(n_T)[1] - 1 :] = np.inf
    return torch.from_numpy(table).to(device)


def _is_distribution(masses: tuple[float, ...]) -> bool:
    if min(masses, default=-1.0) < 0 or max(masses) > 1 + _ROUNDING_GUARD:
        return False
    return abs(math.fsum(masses) - 1) <= _ROUNDING_GUARD


def _floor(value: float) -> int:
    return math.floor(value + _ROUNDING_GUARD)


def _bounds(probabilities: NDArray[np.float64]) -> tuple[int, int]:
    (inside,) = np.nonzero(probabilities)
    return int(inside[0]) + 1, int(inside[-1]) + 1
