"""How an error scales with a setting that a study sweeps: exponents with their intervals.

Of each seed the exponent is the least-squares slope of ln(error) over ln(setting), at the arms'
last steps. Seeds are blocks as everywhere: the interval is that of the paired t test over their
slopes, and what two arms' exponents differ by is taken within the seeds that both have. A power
law is a description here, not a claim: the table says how far the points lie from their line.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.analysis.endpoint import at_last_step
from benchmark.analysis.statistics import Contrast, equivalence, paired
from benchmark.study.arm_names import BASELINE
from benchmark.study.hypotheses import MINUS

Floats = NDArray[np.float64]
SMALLEST_EXPONENT = 0.1
"""Exponents between ± this count as 0: over a factor of ten the error changes by a quarter."""
FEWEST_POINTS = 3
Growth = Literal["constant", "falls", "rises", "undecided"]


@dataclass(frozen=True)
class Exponent:
    """The exponent of one arm, or the difference of two, in one setting.

    Attributes:
        setting: what is swept, as a study's file names it.
        arm: the arm in the middle, or the contrast such as "C − B".
        estimate: mean of the seeds' slopes.
        low, high: its 95 % interval; NaN with one seed.
        seeds: that have all points.
        points: values of the setting.
        residual: root mean square distance of ln(error), a mean over seeds, from its line; NaN of a
            difference.
        growth: what the error does as the setting grows; of a difference, on which side of 0 it is.
    """

    setting: str
    arm: str
    estimate: float
    low: float
    high: float
    seeds: int
    points: int
    residual: float
    growth: Growth


@dataclass(frozen=True)
class SweptValues:
    """An arm's endpoint over one sweep.

    Attributes:
        setting: what is swept.
        arm: in the middle.
        seeds: (S,) those that have all points, rising.
        x: (P,) values of the setting, rising.
        y: (S, P) the metric, seed by seed.
    """

    setting: str
    arm: str
    seeds: tuple[int, ...]
    x: Floats
    y: Floats


def swept_values(
    frame: pd.DataFrame, sweeps: Sequence[Mapping[str, Any]], metric: str
) -> list[SweptValues]:
    """What was measured at the points of each sweep, arm by arm; values must be above 0.

    Args:
        frame: rows of all arms, those of the sweeps too.
        sweeps: of the study's index.
        metric: its endpoint's.
    """
    rows = at_last_step(frame[(frame["metric"] == metric) & (frame["value"] > 0)])
    values = rows.pivot_table(index="seed", columns="arm", values="value")
    found = []
    for sweep in sweeps:
        arms = dict.fromkeys(arm for point in sweep["points"] for arm in point["arms"])
        for arm in arms:
            places = [(point["value"], point["arms"].get(arm)) for point in sweep["points"]]
            there = [(x, name) for x, name in places if name in values.columns]
            whole = values[[name for _, name in there]].dropna()
            if len(there) >= FEWEST_POINTS and len(whole):
                x = np.array([x for x, _ in there], dtype=np.float64)
                seeds = tuple(map(int, whole.index))
                found.append(SweptValues(sweep["setting"], arm, seeds, x, whole.to_numpy()))
    return found


def slopes(x: Floats, y: Floats) -> Floats:
    """Least-squares slopes of ln y over ln x: (P,) and (S, P) numbers above 0 → (S,)."""
    centred = np.log(x) - np.log(x).mean()
    return np.asarray(np.log(y) @ centred / (centred @ centred))


def exponents(found: Sequence[SweptValues]) -> list[Exponent]:
    """The exponent of every arm, and its difference from B's over the seeds that both have.

    There is no difference where the two have other points, or no seed in common.
    """
    listed: list[Exponent] = []
    for setting in dict.fromkeys(one.setting for one in found):
        of_setting = [one for one in found if one.setting == setting]
        listed += [_of_arm(one) for one in of_setting]
        listed += _differences(of_setting)
    return listed


def _of_arm(one: SweptValues) -> Exponent:
    logs = np.log(one.y).mean(axis=0)
    line = np.polyval(np.polyfit(np.log(one.x), logs, 1), np.log(one.x))
    residual = float(np.sqrt(np.mean((logs - line) ** 2)))
    return _exponent(one.setting, one.arm, slopes(one.x, one.y), len(one.x), residual)


def _differences(found: Sequence[SweptValues]) -> Iterator[Exponent]:
    baseline = next((one for one in found if one.arm == BASELINE), None)
    for one in found:
        if baseline is None or one is baseline or not np.array_equal(one.x, baseline.x):
            continue
        own, others = (dict(zip(arm.seeds, slopes(arm.x, arm.y), strict=True))
                       for arm in (one, baseline))  # fmt: skip
        differences = np.array([own[seed] - others[seed] for seed in own if seed in others])
        if len(differences):
            name = f"{one.arm} {MINUS} {BASELINE}"
            yield _exponent(one.setting, name, differences, len(one.x), math.nan)


def _exponent(setting: str, arm: str, values: Floats, points: int, residual: float) -> Exponent:
    found = paired(values)
    return Exponent(
        setting, arm, found.estimate, found.low, found.high, len(values), points, residual,
        _growth(found),
    )  # fmt: skip


def _growth(found: Contrast) -> Growth:
    """By the whole 95 % interval beyond the smallest exponent; constant by equivalence."""
    if equivalence(found, SMALLEST_EXPONENT) < 0.05:
        return "constant"
    if found.high < -SMALLEST_EXPONENT:
        return "falls"
    return "rises" if found.low > SMALLEST_EXPONENT else "undecided"
