"""Curricula of clusters: the noise levels cut into intervals that come in, one after the other.

``clusters`` in a config says how they are cut and in which order they come. A stage table is made
of that once, when a config is built, so whatever reads stages needs to know nothing of clusters.
The idea is that of Kim et al. 2024, "Denoising Task Difficulty-based Curriculum", 2403.10348. A new
way to cut is a class in ``CLUSTERINGS``. Levels are those of a process: counted or continuous.
"""

import itertools
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.curriculum.density import Histogram, TimeDensity, Window
from mindiffusion.curriculum.intervals import Centre, least_cost_starts
from mindiffusion.curriculum.noise_time import NoiseLevels
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import MOST_NAME, Name, read_json, shown_value
from mindiffusion.tagged_union import TaggedUnion

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
FEWEST, MOST = 2, 50
_FINE_GRID = 1000
"""Noise times at which levels are compared that are continuous, or more than ``_MOST_COMPARED``."""
_MOST_COMPARED = 2000
_ROUNDING_GUARD = 1e-9


def _checked_count(count: int) -> int:
    if not FEWEST <= count <= MOST:
        raise ValueError(f"give {FEWEST} to {MOST} clusters")
    return count


_Count = Annotated[int, AfterValidator(_checked_count)]


@dataclass(frozen=True, config=_STRICT)
class Clusters:
    """What all ways to cut have.

    Attributes:
        by: which way; a class of its own has the values by which it is found.
        order: which cluster comes first. "easy_first" needs a way that knows how hard they are.
        cumulative: a stage trains all clusters so far, and the last one all levels. Else it trains
            its own cluster alone, and a stage of all levels comes last.
        last_share: share of the run that the last stage has under fixed pacing, in (0, 1); the
            others share the rest evenly. The usual one is that of the seed's five stages.
    """

    by: str
    order: Literal["high_noise_first", "low_noise_first", "easy_first"] = "high_noise_first"
    cumulative: bool = True
    last_share: float = Field(default=0.375, gt=0, lt=1)

    def edges(self, levels: NoiseLevels) -> tuple[float, ...]:
        """Noise times from 0 to 1 between which the clusters lie, rising.

        Raises:
            UserError: they cannot be cut so.
        """
        raise NotImplementedError

    def difficulty(self, levels: NoiseLevels) -> tuple[float, ...]:
        """How hard each cluster is, that of the lowest noise first.

        Raises:
            UserError: this way to cut does not know it.
        """
        raise UserError(
            f"clusters.order is easy_first, but clusters by {self.by} do not say which are easy; "
            "give clusters.by=measured with a file, or another order."
        )

    @property
    def label(self) -> str:
        """How stages are called after it: which convention their clusters follow."""
        return self.by

    def stages(self, levels: NoiseLevels) -> tuple[StageConfig, ...]:
        """The stage table: densities are uniform over the clusters that a stage trains.

        Raises:
            UserError: they cannot be cut so, or not in this order.
        """
        places = _Places(self.edges(levels), levels.num_levels)
        order = self._order(levels, places.count)
        sets = [
            order[:i] if self.cumulative else order[i - 1 : i] for i in range(1, len(order) + 1)
        ]
        if not self.cumulative:
            sets.append(order)
        weight = self.last_share / (1.0 - self.last_share) * (len(sets) - 1)
        return tuple(
            StageConfig(
                name=f"{self.label}_{i}_of_{len(sets)}",
                weight=weight if i == len(sets) else 1.0,
                density=places.density(frozenset(chosen)),
            )
            for i, chosen in enumerate(sets, 1)
        )

    def _order(self, levels: NoiseLevels, count: int) -> list[int]:
        if self.order == "easy_first":
            difficulty = self.difficulty(levels)
            # Of equally hard ones the one of higher noise comes first.
            return sorted(range(count), key=lambda i: (difficulty[i], -i))
        return list(range(count))[:: -1 if self.order == "high_noise_first" else 1]


class _Places:
    """Densities over sets of clusters.

    Args:
        edges: noise times from 0 to 1, rising.
        num_levels: of the process; None: its levels are continuous.

    Raises:
        UserError: a cluster without a counted level, or one level alone at the top.
    """

    def __init__(self, edges: tuple[float, ...], num_levels: int | None) -> None:
        self.count = len(edges) - 1
        if num_levels is None:
            self._lows = self._tops = list(edges)
            self._sizes = np.diff(edges)
        else:
            last = [math.floor(edge * num_levels + _ROUNDING_GUARD) for edge in edges]
            self._sizes = np.diff(last)
            if self._sizes.min() < 1 or self._sizes[-1] < 2:
                raise UserError(
                    f"{self.count} clusters of {num_levels} noise levels: each needs a level, and "
                    "that of the highest noise two; give fewer clusters."
                )
            # A window and a bin begin at their first level: see ``density.py``.
            self._lows = [0.0, *((level + 1) / num_levels for level in last[1:-1]), 1.0]
            self._tops = [level / num_levels for level in last]

    def density(self, chosen: frozenset[int]) -> TimeDensity:
        """Uniform over the levels of some clusters, counted from that of the lowest noise."""
        first, after = min(chosen), max(chosen) + 1
        if len(chosen) == after - first and after == self.count:
            return Window(self._lows[first], 1.0)
        if len(chosen) == after - first and first == 0:
            return Window(0.0, self._tops[after])
        runs = [
            (is_in, list(run))
            for is_in, run in itertools.groupby(range(first, self.count), chosen.__contains__)
        ]
        sizes = [float(self._sizes[run].sum()) * is_in for is_in, run in runs]
        edges = [self._lows[run[0]] for _, run in runs]
        masses = tuple(size / math.fsum(sizes) for size in sizes)
        return Histogram((*edges, 1.0), masses)


@dataclass(frozen=True, config=_STRICT)
class EvenClusters(Clusters):
    """Intervals of equal width in noise time.

    Noise time counts the draws of plain training, so these are at once the intervals that plain
    training draws equally often: quantiles of its noise.

    Attributes:
        count: number of clusters, 2 to 50.
    """

    by: Literal["uniform", "quantile"] = "uniform"
    count: _Count = 20

    def edges(self, levels: NoiseLevels) -> tuple[float, ...]:
        """Multiples of 1/count."""
        _check_enough(self.count, levels)
        return tuple((np.arange(self.count + 1) / self.count).tolist())


@dataclass(frozen=True, config=_STRICT)
class SNRClusters(Clusters):
    """Intervals in which the signal-to-noise ratios, or their logarithms, are most alike.

    Continuous levels, and more than 2,000 counted ones, are compared at 1,000 even noise times.

    Attributes:
        count: number of clusters, 2 to 50.
        centre: which level of an interval the others are compared with.
    """

    by: Literal["log_snr", "snr"] = "log_snr"
    count: _Count = 20
    centre: Centre = "floor"

    @property
    def label(self) -> str:
        """With the centre, which moves the edges."""
        return f"{self.by}_{self.centre}"

    def edges(self, levels: NoiseLevels) -> tuple[float, ...]:
        """Those of least cost."""
        _check_enough(self.count, levels)
        n = levels.num_levels
        points = n if n is not None and n <= _MOST_COMPARED else _FINE_GRID
        log_snr = -2.0 * levels.log_sigma(np.arange(1, points + 1) / points)
        values = np.exp(log_snr) if self.by == "snr" else log_snr
        starts = least_cost_starts(tuple(values.tolist()), self.count, self.centre)
        return (*(start / points for start in starts), 1.0)


def _check_enough(count: int, levels: NoiseLevels) -> None:
    if levels.num_levels is not None and count > levels.num_levels:
        raise UserError(
            f"clusters.count is {count}, but the process has {levels.num_levels} noise levels; "
            "give at most that many."
        )


class Difficulty(BaseModel):
    """A document of measured difficulty.

    Attributes:
        process: ``kind`` of the process whose levels were measured.
        noise: its settings, as the text of ``ProcessConfig.noise``: they say which noise a noise
            time has.
        edges: noise times t_0 = 0 … t_N = 1, rising.
        difficulty: of each interval between them; larger is harder.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    process: Name
    noise: Name
    edges: Annotated[list[float], Field(max_length=MOST + 1)]
    difficulty: Annotated[list[float], Field(max_length=MOST)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class MeasuredClusters(Clusters):
    """The intervals of a document of measured difficulty, and its order.

    Attributes:
        file: the document, see ``Difficulty``.
    """

    file: Annotated[str, Field(min_length=1, max_length=4096)]
    by: Literal["measured"] = "measured"
    order: Literal["high_noise_first", "low_noise_first", "easy_first"] = "easy_first"

    def edges(self, levels: NoiseLevels) -> tuple[float, ...]:
        """Those of the document."""
        return tuple(self._read(levels).edges)

    def difficulty(self, levels: NoiseLevels) -> tuple[float, ...]:
        """That of the document."""
        return tuple(self._read(levels).difficulty)

    def _read(self, levels: NoiseLevels) -> Difficulty:
        advice = "measure it anew with: benchmark difficulty."
        try:
            found = read_json(Path(self.file), Difficulty, advice, follow=True)
        except OSError as error:
            raise UserError(
                f"clusters.file is {shown_value(self.file, MOST_NAME)}: {error.strerror}; give "
                "a document of measured difficulty."
            ) from None
        source = f"clusters.file {shown_value(self.file, MOST_NAME)}"
        if found.process != levels.kind:
            raise UserError(
                f"{source} is of process {found.process!r}, but process.kind is {levels.kind}; "
                f"{advice}"
            )
        if found.noise != str(levels.noise):
            raise UserError(
                f"{source} is of {found.noise}, but the process has {levels.noise}; {advice}"
            )
        edges, count = found.edges, len(found.difficulty)
        is_rising = all(a < b for a, b in itertools.pairwise(edges))
        if not FEWEST <= count <= MOST or len(edges) != count + 1 or not is_rising:
            raise UserError(
                f"{source} has {len(edges)} edges and {count} difficulties; give rising edges, one "
                f"more than difficulties, and {FEWEST} to {MOST} of these."
            )
        if (edges[0], edges[-1]) != (0.0, 1.0):
            raise UserError(
                f"{source} has edges from {edges[0]:g} to {edges[-1]:g}; give those from 0 to 1."
            )
        return found


CLUSTERINGS: dict[str, type[Any]] = {
    "log_snr": SNRClusters,
    "snr": SNRClusters,
    "uniform": EvenClusters,
    "quantile": EvenClusters,
    "measured": MeasuredClusters,
}
"""All ways to cut by ``by``."""
AnyClusters = Annotated[Clusters, TaggedUnion("by", CLUSTERINGS, "log_snr")]
"""The settings of any of them, read by their ``by``."""
