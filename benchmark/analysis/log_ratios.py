"""Log ratios of measures: how they are made, how they read in percent, and where axes have ticks.

Rows hold any finite number, and an interval of two seeds may be 12 times as wide as what they
differ by: what is made of them here is finite, or NaN where there is none.
"""

import math

import numpy as np
import pandas as pd

from benchmark.study.hypotheses import MINUS

MOST_PERCENT = 9999
BEYOND = f"> {MOST_PERCENT} %"
"""How a change reads that is larger than any that matters; none is below −100 %."""
_MOST = math.log1p(MOST_PERCENT / 100)
# Of these exp is a finite number.
_LARGEST = 700.0
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
MOST_TICKS = 6
"""So many steps between ticks an axis of usual width has room for."""
_FACTORS_FROM = math.log(4)
_DECADES_OF_125 = 2.2 / MOST_TICKS
"""For each of the most ticks."""
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def factor(log_ratio: float) -> float:
    """A log ratio as a ratio; an enormous one as the largest that is a number, NaN as NaN."""
    return math.exp(min(log_ratio, _LARGEST))


def percent_change(log_ratio: float) -> float:
    """A log ratio as a change in percent: log 1.03 → 3; enormous ones as in ``factor``."""
    return 100 * math.expm1(min(log_ratio, _LARGEST))


def is_beyond(log_ratio: float) -> bool:
    """Whether a change is so large that it reads as ``BEYOND``."""
    return log_ratio > _MOST


def quotient(values: pd.Series, by: pd.Series) -> pd.Series:
    """Values over others, row by row; NaN where that is no number."""
    return (values / by).replace([np.inf, -np.inf], np.nan)


def log_quotient(values: pd.Series, by: pd.Series) -> pd.Series:
    """Logs of values over others, row by row; NaN where either is 0 or below."""
    ratios = (values.where(values > 0) / by.where(by > 0)).to_numpy(dtype=np.float64)
    return pd.Series(np.log(ratios), index=values.index)


def percent(log_ratio: float, digits: int = 1) -> str:
    """A log ratio as a signed change in percent: ``+3.0 %``, ``−2.9 %``; or ``> 9999 %``."""
    if is_beyond(log_ratio):
        return BEYOND
    change = percent_change(log_ratio)
    text = f"{change:+.{digits if change < 1000 else 0}f} %"
    # What is rounded to nothing has no sign.
    if not any(character in "123456789" for character in text):
        return text[1:]
    return text.replace("-", MINUS)


def digits_for(width: float) -> int:
    """Decimals (1 to 4) that show two figures of a log ratio's interval of that width."""
    if not width > 0:
        return 1
    return min(4, max(1, 1 - math.floor(math.log10(100 * width / 2))))


def percent_ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Log ratios between two at which a round percentage stands: 0 and multiples of one step.

    Where the two are far apart, those of a round factor.

    Args:
        low: end of an axis.
        high: the other end.
        most: so many steps between ticks, or one more.
    """
    step = _percent_step(low, high, most)
    if step is None:
        return _factor_ticks(low, high, most)
    first, last = (percent_change(end) / step for end in (low, high))
    places = range(math.ceil(first), math.floor(last) + 1)
    return [math.log1p(step * k / 100) for k in places if step * k > -100]


def _percent_step(low: float, high: float, most: int) -> int | None:
    """Percents between two ticks; None where percents below zero would crowd at −100."""
    if high - low > _FACTORS_FROM:
        return None
    span = percent_change(high) - percent_change(low)
    return next((step for step in _STEPS if span / step <= most), None)


def _factor_ticks(low: float, high: float, most: int) -> list[float]:
    """1, 2 and 5 times the powers of ten; further apart, powers of ten at equal distances."""
    decades = (high - low) / math.log(10)
    if decades <= _DECADES_OF_125 * most:
        powers = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
        ticks = [k * math.log(10) + math.log(digit) for k in powers for digit in (1, 2, 5)]
        return [tick for tick in ticks if low <= tick <= high]
    scale = 10 ** math.floor(math.log10(max(decades / most, 1)))
    every = next(scale * k for k in (1, 2, 5, 10) if decades / (scale * k) <= most)
    step = every * math.log(10)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def labelled_ticks(low: float, high: float, most: int = MOST_TICKS) -> dict[float, str]:
    """``percent_ticks`` with their labels: ``+5 %``, or ``×2`` where the two are far apart."""
    label = _factor if _percent_step(low, high, most) is None else _tick
    return {tick: label(tick) for tick in percent_ticks(low, high, most)}


def _tick(log_ratio: float) -> str:
    value = round(percent_change(log_ratio))
    return "0" if value == 0 else f"{value:+d} %".replace("-", MINUS)


def _factor(log_ratio: float) -> str:
    power = round(log_ratio / math.log(10))
    if abs(power) >= 4:
        return f"×10{str(power).translate(_SUPERSCRIPTS)}"
    return f"×{math.exp(log_ratio):.3g}"
