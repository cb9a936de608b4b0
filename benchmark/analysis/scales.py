"""On which scale values of a metric are compared, and how what they differ by is written.

The analysis knows one direction alone: on every scale lower is better. A scale turns values of
which more is better round when it takes them, and turns what they differ by back when it writes
it. So people read each metric in its own direction and unit, and the statistics know of neither.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from benchmark.analysis.log_ratios import (
    MOST_TICKS,
    digits_for,
    labelled_ticks,
    log_quotient,
    percent,
    percent_change,
)
from benchmark.rows.metric_names import base_name
from benchmark.study.hypotheses import MINUS
from benchmark.study.measure import SMALLEST_EFFECT, ScaleName, allowed_scales
from benchmark.study.terms import Terms
from mindiffusion.errors import UserError

Numbers = Any
"""A number, or an array or series of them; results are of the same kind."""
Interval = tuple[float, float, float]
"""Estimate, low and high end, of a change on a scale."""
_NOTHING = "–"
# Labels in a metric's own unit are long.
_TICKS = 4
# Numbers of more digits than these are written with their exponent.
_MOST_DIGITS, _MOST_DECIMALS = 9, 14


@dataclass(frozen=True)
class Scale(ABC):
    """How values of a metric are compared. A *change* is a difference of two values on the scale.

    Attributes:
        smallest_effect: as the study declares it; 0 where none is declared.
        more_is_better: whether more of the metric is better; a change below 0 always is.
    """

    smallest_effect: float = 0.0
    more_is_better: bool = False

    is_share: ClassVar[bool]
    """Whether the smallest effect is a share, which can be asked of any distance too."""
    floor: ClassVar[float]
    """No value is below it."""
    difference: ClassVar[str]
    """What a change is called."""
    unit: ClassVar[str]
    """In what a change is written, after "in"."""

    @property
    @abstractmethod
    def margin(self) -> float:
        """The smallest effect of interest as a change, ≥ 0."""

    @abstractmethod
    def sized(self, size: float, direction: int) -> float:
        """A change of a size on the side of a sign: of a share of the metric, or in its unit."""

    @abstractmethod
    def takes(self, values: Numbers) -> Numbers:
        """Which values it has a place for."""

    @abstractmethod
    def on(self, values: Numbers) -> Numbers:
        """Values of the metric on the scale."""

    @abstractmethod
    def off(self, places: Numbers) -> Numbers:
        """Values of the metric at places on the scale."""

    @abstractmethod
    def between(self, values: pd.Series, by: pd.Series) -> pd.Series:
        """Changes from others to values, row by row; NaN where either has no place on the scale."""

    @abstractmethod
    def change(self, change: float, as_percent: Callable[[float], str] = percent) -> str:
        """A change with its sign: ``+3.0 %``, ``−0.020``; a dash where there is none.

        Args:
            change: a change.
            as_percent: how a page writes a log ratio.
        """

    @abstractmethod
    def span(self, low: float, high: float) -> str:
        """An interval of changes: ``−10.2 % to −4.0 %``, ``−0.031 to −0.012``."""

    @abstractmethod
    def estimate(self, interval: Interval) -> str:
        """An interval's estimate, with as many decimals as its ends have in ``span``."""

    @property
    @abstractmethod
    def smallest(self) -> str:
        """The smallest effect of interest: ``3 %``, ``0.02``."""

    @property
    @abstractmethod
    def decimals(self) -> int:
        """Decimals of a change that is written as a number, never in percent."""

    @property
    @abstractmethod
    def widest(self) -> float:
        """The largest change, up or down, that an axis makes room for."""

    @property
    @abstractmethod
    def reach(self) -> tuple[float, float]:
        """How far a drawing beside a text reaches to each side of 0, at least and at most."""

    @abstractmethod
    def ticks(self, low: float, high: float, most: int = MOST_TICKS) -> dict[float, str]:
        """A few changes between two, about ``most`` of them, with what an axis calls them."""

    def turned(self, numbers: Numbers) -> Numbers:
        """From the metric's own direction to that of the analysis, or back."""
        # Not -numbers, which makes -0 of 0.
        return 0 - numbers if self.more_is_better else numbers

    def ends(self, low: float, high: float) -> tuple[float, float]:
        """The ends of an interval in the order in which they are shown, the lesser first."""
        return (high, low) if self.more_is_better else (low, high)

    def shown(self, interval: Interval) -> dict[str, float]:
        """An interval as people read it: in the metric's own direction, the lesser end first."""
        low, high = self.ends(*interval[1:])
        changes = {"estimate": interval[0], "low": low, "high": high}
        return {name: self.turned(change) for name, change in changes.items()}

    def interval(self, interval: Interval) -> str:
        """``+15.5 % (+6.7 % to +25.0 %)``; without ends the estimate alone."""
        estimate, low, high = self.estimate(interval), *interval[1:]
        return estimate if math.isnan(low) else f"{estimate} ({self.span(low, high)})"

    def size(self, change: float) -> str:
        """A change without its sign: ``3.0 %``, ``0.020``."""
        return self.change(change).lstrip(f"+{MINUS}")

    def side(self, change: float) -> str:
        """On which side of 0 a change is shown: "above" or "below"."""
        return "above" if self.turned(change) > 0 else "below"

    @property
    def better_side(self) -> Literal["above", "below"]:
        """On which side of 0 better changes are shown."""
        return "above" if self.more_is_better else "below"

    @property
    def better_end(self) -> Literal["left", "right"]:
        """At which end of an axis better changes are drawn."""
        return "right" if self.more_is_better else "left"

    @property
    def better(self) -> Literal["higher", "lower"]:
        """What the better of two values is."""
        return "higher" if self.more_is_better else "lower"


@dataclass(frozen=True)
class RatioScale(Scale):
    """Logarithms of values above 0: a change is a log ratio and reads in percent."""

    is_share = True
    floor = 0.0
    difference = "log ratio"
    unit = "percent"
    decimals = 3
    widest = math.log(20)
    reach = (math.log(1.06), math.log(1.5))

    @property
    def margin(self) -> float:
        """The log of 1 plus the share."""
        return math.log1p(self.smallest_effect)

    def sized(self, size: float, direction: int) -> float:
        """Better by 22 % is log .78, worse by 22 % is log 1.22."""
        return math.log1p(direction * size) if direction * size > -1 else -math.inf

    def takes(self, values: Numbers) -> Numbers:
        """Those above 0."""
        return values > 0

    def on(self, values: Numbers) -> Numbers:
        """Logarithms."""
        return np.log(values)

    def off(self, places: Numbers) -> Numbers:
        """Exponentials."""
        return np.exp(places)

    def between(self, values: pd.Series, by: pd.Series) -> pd.Series:
        """Logarithms of ratios."""
        return log_quotient(values, by)

    def change(self, change: float, as_percent: Callable[[float], str] = percent) -> str:
        """In percent, as the page writes it."""
        return as_percent(change)

    def span(self, low: float, high: float) -> str:
        """In percent, with two figures of its width."""
        digits = digits_for(high - low)
        return f"{percent(low, digits)} to {percent(high, digits)}"

    def estimate(self, interval: Interval) -> str:
        """In percent, with two figures of the interval's width."""
        return percent(interval[0], digits_for(interval[2] - interval[1]))

    @property
    def smallest(self) -> str:
        """``3 %``."""
        return f"{percent_change(self.margin):.3g} %"

    def ticks(self, low: float, high: float, most: int = MOST_TICKS) -> dict[float, str]:
        """Round percentages; of a wide range, round factors."""
        return labelled_ticks(low, high, most)


@dataclass(frozen=True)
class PlainScale(Scale):
    """The values themselves: a change is a difference and reads in the metric's own unit."""

    is_share = False
    floor = -math.inf
    difference = "difference"
    unit = "its own unit"

    @property
    def margin(self) -> float:
        """The smallest effect itself."""
        return self.smallest_effect

    def sized(self, size: float, direction: int) -> float:
        """The size itself."""
        return direction * size

    def takes(self, values: Numbers) -> Numbers:
        """All numbers."""
        return np.isfinite(values)

    def on(self, values: Numbers) -> Numbers:
        """The values; turned round where more is better."""
        return self.turned(values)

    def off(self, places: Numbers) -> Numbers:
        """The same back."""
        return self.turned(places)

    def between(self, values: pd.Series, by: pd.Series) -> pd.Series:
        """Differences."""
        return self.turned(values - by)

    def change(self, change: float, as_percent: Callable[[float], str] = percent) -> str:
        """In the metric's own unit, with two digits of the smallest effect."""
        return _NOTHING if math.isnan(change) else _signed(self.turned(change), self.decimals)

    def span(self, low: float, high: float) -> str:
        """The lesser end first."""
        first, last = self.ends(low, high)
        return f"{self.change(first)} to {self.change(last)}"

    def estimate(self, interval: Interval) -> str:
        """As every change is written."""
        return self.change(interval[0])

    @property
    def smallest(self) -> str:
        """``0.02``."""
        return f"{self.smallest_effect:g}"

    @property
    def decimals(self) -> int:
        """As many as give the smallest effect two digits."""
        return min(_MOST_DECIMALS, max(0, 1 - math.floor(math.log10(self.smallest_effect))))

    @property
    def widest(self) -> float:
        """An effect a hundred times as large as the smallest is worth no closer look."""
        return 100 * self.smallest_effect

    @property
    def reach(self) -> tuple[float, float]:
        """As many smallest effects as the ratio scale has with its usual one."""
        return 2 * self.smallest_effect, 14 * self.smallest_effect

    def ticks(self, low: float, high: float, most: int = MOST_TICKS) -> dict[float, str]:
        """0 and multiples of 1, 2 or 5 times a power of ten."""
        most = min(most, _TICKS)
        power = math.floor(math.log10((high - low) / most))
        digit = next(one for one in (1, 2, 5, 10) if (high - low) / (one * 10.0**power) <= most)
        step, decimals = digit * 10.0**power, max(0, -power - (digit == 10))
        places = range(math.ceil(low / step), math.floor(high / step) + 1)
        labels = {k * step: _signed(self.turned(k * step), decimals) for k in places}
        return labels | ({0.0: "0"} if 0 in places else {})


def _signed(number: float, decimals: int) -> str:
    """``+0.020``, ``−3.1``; what is rounded to nothing has no sign."""
    form = f"+.{decimals}f" if abs(number) < 10**_MOST_DIGITS else "+.2e"
    text = f"{number:{form}}"
    if not any(character in "123456789" for character in text):
        return text[1:]
    return text.replace("-", MINUS)


USUAL_SCALE = RatioScale(SMALLEST_EFFECT)
"""That of a study which declares nothing."""
SIGN_ALONE = RatioScale()
"""That of errors beside the primary metric: no smallest effect is declared for them."""
_SCALES: dict[ScaleName, type[Scale]] = {"ratio": RatioScale, "plain": PlainScale}


def scale_of(terms: Terms, rows: pd.DataFrame) -> Scale:
    """The scale on which a study compares its primary metric.

    Args:
        terms: what the study's file fixed beforehand.
        rows: of the metric; without any, less is taken to be better.

    Raises:
        UserError: neither more nor less of it is better, or more is and the scale takes ratios, or
            rows disagree about it.
    """
    endpoint, found = terms.endpoint, sorted(set(rows["direction"]))
    metric = endpoint.metric or ", ".join(sorted({base_name(name) for name in rows["metric"]}))
    if len(found) > 1:
        raise UserError(
            f"Rows of {metric} have several directions in which it is better "
            f"({', '.join(found)}); keep rows of one, and measure the others again."
        )
    direction = found[0] if found else "lower"
    allowed = allowed_scales(direction, is_positive=True)
    if endpoint.scale not in allowed:
        scales = " or ".join(allowed)
        what = {"higher": "more", "none": "neither more nor less"}[direction]
        advice = f"write endpoint.scale: {scales}" if scales else "name another metric"
        raise UserError(
            f"endpoint.metric is {metric}, of which {what} is better, and endpoint.scale is "
            f"{endpoint.scale}; {advice} in the study's file."
        )
    return _SCALES[endpoint.scale](terms.smallest_effect, direction == "higher")
