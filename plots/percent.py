"""Axes of log ratios that read in percent, and the zone of effects too small to matter."""

import math
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmark.verdicts import MARGIN

ZONE_COLOUR = "0.9"
ZERO_COLOUR = "0.45"
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_TICKS = 6


def percent(log_ratio: float) -> float:
    """A log ratio as a change in percent: log 1.03 → 3."""
    return 100.0 * math.expm1(log_ratio)


def percent_text(log_ratio: float, digits: int = 1) -> str:
    """A log ratio as "+3.0 %", with a minus sign that is as long as the plus sign."""
    return f"{percent(log_ratio):+.{digits}f} %".replace("-", "\N{MINUS SIGN}")


def percent_ticks(low: float, high: float) -> list[float]:
    """Log ratios between two at which a round percentage stands: 0 and multiples of one step."""
    lower, upper = percent(low), percent(high)
    step = next((s for s in _STEPS if (upper - lower) / s <= _TICKS), _STEPS[-1])
    first, last = math.ceil(lower / step), math.floor(upper / step)
    return [math.log1p(step * k / 100) for k in range(first, last + 1) if step * k > -100]


def percent_axis(ax: Axes, axis: Literal["x", "y"], low: float, high: float) -> None:
    """An axis of log ratios from ``low`` to ``high`` that is labelled in percent."""
    (ax.set_xlim if axis == "x" else ax.set_ylim)(low, high)
    target = ax.xaxis if axis == "x" else ax.yaxis
    target.set_major_locator(FixedLocator(percent_ticks(low, high)))
    target.set_minor_locator(NullLocator())
    target.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def margin_zone(ax: Axes, axis: Literal["x", "y"]) -> None:
    """The zone of ± the smallest effect of interest, and the line of no effect in it."""
    span, line = (ax.axvspan, ax.axvline) if axis == "x" else (ax.axhspan, ax.axhline)
    span(-MARGIN, MARGIN, color=ZONE_COLOUR, linewidth=0, zorder=0)
    line(0, color=ZERO_COLOUR, linewidth=0.8, zorder=1)


def _tick(log_ratio: float) -> str:
    value = round(percent(log_ratio))
    return "0" if value == 0 else f"{value:+d} %".replace("-", "\N{MINUS SIGN}")


def covering(values: "np.typing.ArrayLike", room: float = 0.1) -> tuple[float, float]:
    """Limits that hold all finite values and the zone of ± the margin, with some room."""
    array = np.asarray(values, dtype=np.float64)
    array = np.append(array[np.isfinite(array)], (-1.5 * MARGIN, 1.5 * MARGIN))
    low, high = float(array.min()), float(array.max())
    return low - room * (high - low), high + room * (high - low)
