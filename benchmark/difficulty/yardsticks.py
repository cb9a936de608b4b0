"""Yardsticks of difficulty by interval, from rows, and what each says of "low noise is harder".

Values are such that more is harder. An order is compared with that of the intervals from high noise
to low by Spearman's rank correlation: 1 means that difficulty rises all the way to low noise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmark.analysis.statistics import mean_and_interval
from benchmark.difficulty.convergence import (
    UNITS,
    in_unit,
    relative_excess,
    shares_above,
    steps_to_half,
)
from benchmark.difficulty.data_rows import (
    DATA,
    ENTROPY_RATE,
    KL_LOG_SNR,
    KL_NEIGHBOURS,
    KL_OF_RATIO,
    KL_STEP,
    points_of,
)
from benchmark.difficulty.setting import HELD_OUT, JOINT, LEVELS, Setting
from benchmark.rows.metric_names import EPS_MSE, EPS_MSE_LINEAR, EPS_MSE_MEAN
from benchmark.rows.row import Row
from mindiffusion.data.prepared import PreparedData

Floats = NDArray[np.float64]
_FEWEST = 3
"""Intervals with a value below which an order says nothing."""
_NEARLY, _CLEARLY = 0.9, 0.5
"""Rank correlations from which difficulty rises nearly all the way, and by and large."""


@dataclass(frozen=True, eq=False)
class Correlation:
    """A rank correlation over seeds.

    Attributes:
        value: mean over seeds, in [-1, 1]; NaN if no order is known.
        interval: 95 % t interval of the mean, cut to [-1, 1]; None without two seeds to compare.
        unknown: seeds without a correlation, which are in neither.
    """

    value: float
    interval: tuple[float, float] | None
    unknown: int


@dataclass(frozen=True, eq=False)
class Yardstick:
    """One way to say how hard an interval is.

    Attributes:
        name: in files.
        title: in tables and figures.
        values: (S, N) by seed and interval from low noise to high; S = 1 where no seed matters.
            Infinite: harder than was measured; NaN: not known.
        is_closed_form: of the Gaussian fit of the training images, where it is exact.
        shares_images: whether an image is in the values of two seeds, which are then no
            independent draws: they have no interval.
    """

    name: str
    title: str
    values: Floats
    is_closed_form: bool = False
    shares_images: bool = False

    @property
    def middle(self) -> Floats:
        """Medians over the seeds that have a value, (N,)."""
        return median_of_known(self.values)

    @property
    def with_low_noise(self) -> Correlation:
        """Correlation of difficulty with low noise."""
        order = -np.arange(self.values.shape[1], dtype=np.float64)
        found = _over_seeds([rank_correlation(one, order) for one in self.values])
        return replace(found, interval=None) if self.shares_images else found


def median_of_known(values: Floats) -> Floats:
    """Medians over seeds without those that are not known.

    Args:
        values: (S, …) by seed. Infinite: not reached; NaN: not known.

    Returns:
        (…): infinite if half of the known ones are, or more; NaN where none is known.
    """
    # NaN comes last. Halfway between a number and infinity is infinity.
    ranked, known = np.sort(values, axis=0), (~np.isnan(values)).sum(axis=0)
    ends = (np.maximum(known - 1, 0) // 2, known // 2)
    low, high = (np.take_along_axis(ranked, end[np.newaxis], axis=0)[0] for end in ends)
    return np.asarray((low + high) / 2)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation over what both have, equal ranks for equal values.

    Args:
        a: (N,); NaN where there is no value, infinity is above all numbers.
        b: (N,), likewise.

    Returns:
        In [-1, 1]; NaN with fewer than three pairs or without any spread.
    """
    from scipy.stats import rankdata

    known = ~(np.isnan(a) | np.isnan(b))
    if known.sum() < _FEWEST:
        return float("nan")
    ranks = [rankdata(one[known]) for one in (a, b)]
    if any(np.ptp(one) == 0 for one in ranks):
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def _over_seeds(values: Sequence[float]) -> Correlation:
    known = [value for value in values if not np.isnan(value)]
    unknown = len(values) - len(known)
    if not known:
        return Correlation(float("nan"), None, unknown)
    found = mean_and_interval(known)
    if found.half_width is None:
        return Correlation(found.mean, None, unknown)
    low, high = found.mean - found.half_width, found.mean + found.half_width
    return Correlation(found.mean, (max(-1.0, low), min(1.0, high)), unknown)


class Measured:
    """The rows of a difficulty run as arrays.

    Args:
        setting: the run.
        rows: all of its rows.
        times: (N · LEVELS,) noise times of the grid.
        ratio: (N · LEVELS,) σ = sigma/alpha there.
        data: the prepared data.

    Attributes:
        code: the revisions that measured.
    """

    def __init__(
        self,
        setting: Setting,
        rows: Iterable[Row],
        times: Floats,
        ratio: Floats,
        data: PreparedData,
    ) -> None:
        self.setting = setting
        self.num_train, self.num_held_out = len(data.train), len(data.held_out)
        self._dim = data.train[0].size
        self._place = {time: number for number, time in enumerate(times.tolist())}
        self._ratio = ratio.reshape(setting.num_intervals, LEVELS)
        self._rows: dict[tuple[str, int, int, str], dict[float, float]] = {}
        revisions = set()
        for row in rows:
            revisions.add(row.git)
            if row.level is not None:
                of = self._rows.setdefault((row.arm, row.seed, row.step, row.metric), {})
                of[row.level] = row.value
        self.code = ", ".join(sorted(revisions))

    @cached_property
    def steps(self) -> Floats:
        """(K,) milestones, rising, without step 0."""
        return np.array(sorted({step for arm, _, step, _ in self._rows if arm == JOINT and step}))

    def _grid(self, arm: str, seed: int, step: int, metric: str) -> Floats:
        """(N, LEVELS) ε-errors at all noise levels."""
        found = self._rows[arm, seed, step, metric]
        values = np.array([found[time] for time in self._place])
        return values.reshape(self._ratio.shape)

    def _intervals(self, seed: int, step: int) -> Floats:
        """(N, LEVELS) ε-errors of the intervals' own nets."""
        times = np.array(list(self._place)).reshape(self._ratio.shape)
        return np.array(
            [
                [self._rows[self.setting.arm(i), seed, step, EPS_MSE][time] for time in own]
                for i, own in enumerate(times.tolist())
            ]
        )

    @property
    def shares_held_out(self) -> bool:
        """Whether seeds have held-out images in common."""
        return HELD_OUT * len(self.setting.seeds) > self.num_held_out

    @property
    def shares_neighbours(self) -> bool:
        """Whether the estimates by neighbours of two seeds have training images in common."""
        return 2 * points_of(self.num_train) * len(self.setting.seeds) > self.num_train

    def _limit(self, seed: int, metric: str, unit: str) -> Floats:
        return in_unit(self._grid(DATA, seed, 0, metric), self._ratio, unit)

    def excess(self, unit: str) -> Floats:
        """(S, N, K) of the intervals' nets: 1 untrained, 0 like the linear denoiser, < 0 better."""
        found = np.empty((len(self.setting.seeds), len(self._ratio), len(self.steps)))
        for seed in self.setting.seeds:
            floor = self._limit(seed, EPS_MSE_LINEAR, unit)
            start = in_unit(self._grid(JOINT, seed, 0, EPS_MSE), self._ratio, unit)
            losses = np.stack(
                [
                    in_unit(self._intervals(seed, int(step)), self._ratio, unit)
                    for step in self.steps
                ],
                axis=1,
            )
            for i, curve in enumerate(losses):
                found[seed, i] = relative_excess(curve, float(start[i]), float(floor[i]))
        return found

    def mean_picture(self, unit: str) -> Floats:
        """(S, N) where the mean picture lies on the scale of ``excess``."""
        found = np.empty((len(self.setting.seeds), len(self._ratio)))
        for seed in self.setting.seeds:
            start = in_unit(self._grid(JOINT, seed, 0, EPS_MSE), self._ratio, unit)
            floor, mean = (self._limit(seed, name, unit) for name in (EPS_MSE_LINEAR, EPS_MSE_MEAN))
            for i, ends in enumerate(zip(start.tolist(), floor.tolist(), strict=True)):
                found[seed, i] = relative_excess(mean[i : i + 1], *ends)[0]
        return found

    def half(self, unit: str) -> Floats:
        """(S, N) steps to half."""
        return np.array(
            [[steps_to_half(self.steps, curve) for curve in of] for of in self.excess(unit)]
        )

    def joint_excess(self, unit: str) -> Floats:
        """(S, N) of the jointly trained nets at their last step: errors above the linear one."""
        last = int(self.steps[-1])
        return np.array(
            [
                in_unit(self._grid(JOINT, seed, last, EPS_MSE), self._ratio, unit)
                - self._limit(seed, EPS_MSE_LINEAR, unit)
                for seed in self.setting.seeds
            ]
        )

    def joint_shares(self, unit: str) -> Floats:
        """(S, N) each interval's share of the joint nets' excess."""
        return shares_above(self.joint_excess(unit))

    def joint_entropy_rate(self) -> Floats:
        """(S, N) total ε-errors of the joint nets: upper bounds of the entropy rate per ln σ."""
        last = int(self.steps[-1])
        grids = [self._grid(JOINT, seed, last, EPS_MSE) for seed in self.setting.seeds]
        return self._dim * np.array(grids).mean(axis=-1)

    def by_interval(self, metric: str, seeds: Iterable[int]) -> Floats:
        """(S, N) of rows that have a value for each interval."""
        edges = self.setting.edges[1:]
        return np.array([[self._rows[DATA, s, 0, metric][t] for t in edges] for s in seeds])


_UNIT_WORDS = {"eps": "ε", "x0": "x₀", "v": "v"}


def yardsticks(measured: Measured) -> tuple[Yardstick, ...]:
    """All yardsticks of a run, in the order of tables and figures."""
    seeds = measured.setting.seeds
    of_nets: tuple[tuple[str, str, Callable[[str], Floats]], ...] = (
        ("steps-to-half", "steps to half", measured.half),
        ("joint-excess", "joint net's excess", measured.joint_excess),
    )
    closed_forms = (
        (KL_STEP, "relative entropy per step"),
        (KL_LOG_SNR, "relative entropy per log-SNR²"),
        (KL_OF_RATIO, "the same of x_t/α"),
    )

    def closed_form(name: str, title: str) -> Yardstick:
        return Yardstick(name, title, measured.by_interval(name, range(1)), is_closed_form=True)

    neighbours = Yardstick(
        KL_NEIGHBOURS,
        "relative entropy by neighbours",
        measured.by_interval(KL_NEIGHBOURS, seeds),
        shares_images=len(seeds) > 1 and measured.shares_neighbours,
    )
    return (
        *(
            Yardstick(f"{name}/{unit}", f"{title}, {_UNIT_WORDS[unit]}", values(unit))
            for name, title, values in of_nets
            for unit in UNITS
        ),
        *(closed_form(*one) for one in closed_forms),
        neighbours,
        closed_form(ENTROPY_RATE, "entropy rate, Gaussian"),
        Yardstick("entropy-rate/joint", "entropy rate, joint net", measured.joint_entropy_rate()),
    )


def verdict(yardstick: Yardstick, labels: Sequence[str]) -> str:
    """What a yardstick says of the sentence "low noise is harder", in plain words.

    Args:
        yardstick: with values for each interval.
        labels: names of the intervals.
    """
    found, seeds = yardstick.with_low_noise, len(yardstick.values)
    if np.isnan(found.value):
        return "No order: too few intervals have a value, or all have the same."
    left_out = f" Seeds without an order: {found.unknown} of {seeds}." if found.unknown else ""
    return f"{_said(yardstick, found)}.{left_out} {_ends(yardstick.middle, labels)}"


def _said(yardstick: Yardstick, found: Correlation) -> str:
    """Yes or no only where an interval over seeds says so."""
    order = _order_words(found.value)
    if yardstick.is_closed_form:
        return f"Exact for the Gaussian fit, so without a test: {order}"
    if found.interval is None:
        why = "its seeds share images" if yardstick.shares_images else "one seed has no interval"
        return f"Not tested, for {why}: {order}"
    low, high = found.interval
    if max(-low, high) < _CLEARLY:
        return f"No: {order}"
    if low <= 0 <= high or abs(found.value) < _CLEARLY:
        return f"Undecided: the rank correlation's interval is {low:.2f} to {high:.2f}"
    return f"Yes: {order}" if found.value > 0 else f"No, the reverse: {order}"


def _order_words(correlation: float) -> str:
    if abs(correlation) < _CLEARLY:
        return "difficulty neither rises nor falls by and large"
    amount = "nearly all the way" if abs(correlation) >= _NEARLY else "by and large"
    return f"difficulty rises {amount} towards {'low' if correlation > 0 else 'high'} noise"


def _ends(values: Floats, labels: Sequence[str]) -> str:
    """Which intervals are hardest and easiest."""
    known = np.flatnonzero(~np.isnan(values)).tolist()
    hardest = [labels[i] for i in known if values[i] == values[known].max()]
    easiest = [labels[i] for i in known if values[i] == values[known].min()]
    unknown = len(values) - len(known)
    rest = f" {unknown} without a value." if unknown else ""
    return f"Hardest: {', '.join(hardest)}; easiest: {', '.join(easiest)}.{rest}"
