"""Axes of log ratios that read in percent, and the zone of effects too small to matter.

An axis ends where no effect is worth a closer look. Values beyond it, and intervals that reach
beyond it, end in an arrow at its border; their numbers stand in the text or in the tables.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from benchmark.analysis.log_ratios import BEYOND, is_beyond, percent_change
from benchmark.analysis.verdict_words import margin_text

ZONE_COLOUR = "0.9"
ZERO_COLOUR = "0.45"
MOST = math.log(20)
"""The largest log ratio, up or down, that an axis makes room for."""
BEYOND_NOTE = "arrows: beyond the axis"
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_TICKS = 6
_FACTORS_FROM = math.log(8)
_DECADES_OF_125 = 2.2
_MINUS = "\N{MINUS SIGN}"
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

Axis = Literal["x", "y"]


def percent_text(log_ratio: float, digits: int = 1) -> str:
    """A log ratio as "+3.0 %", with a minus sign that is as long as the plus sign."""
    if is_beyond(log_ratio):
        return BEYOND
    change = percent_change(log_ratio)
    return f"{change:+.{digits if change < 1000 else 0}f} %".replace("-", _MINUS)


def percent_ticks(low: float, high: float) -> list[float]:
    """Log ratios between two at which a round percentage stands: 0 and multiples of one step.

    Where the two are far apart, those of a round factor. Never more than a handful.
    """
    step = _percent_step(low, high)
    if step is None:
        return _factor_ticks(low, high)
    first, last = (percent_change(end) / step for end in (low, high))
    places = range(math.ceil(first), math.floor(last) + 1)
    return [math.log1p(step * k / 100) for k in places if step * k > -100]


def _percent_step(low: float, high: float) -> int | None:
    """Percents between two ticks; None where percents below zero would crowd at −100."""
    if high - low > _FACTORS_FROM:
        return None
    span = percent_change(high) - percent_change(low)
    return next((step for step in _STEPS if span / step <= _TICKS), None)


def _factor_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten; further apart, powers of ten at equal distances."""
    decades = (high - low) / math.log(10)
    if decades <= _DECADES_OF_125:
        powers = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
        ticks = [k * math.log(10) + math.log(digit) for k in powers for digit in (1, 2, 5)]
        return [tick for tick in ticks if low <= tick <= high]
    scale = 10 ** math.floor(math.log10(max(decades / _TICKS, 1)))
    every = next(scale * k for k in (1, 2, 5, 10) if decades / (scale * k) <= _TICKS)
    step = every * math.log(10)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def percent_axis(ax: Axes, axis: Axis, low: float, high: float) -> None:
    """An axis of log ratios from ``low`` to ``high`` that is labelled in percent."""
    (ax.set_xlim if axis == "x" else ax.set_ylim)(low, high)
    target = ax.xaxis if axis == "x" else ax.yaxis
    text = _factor if _percent_step(low, high) is None else _tick
    target.set_major_locator(FixedLocator(percent_ticks(low, high)))
    target.set_minor_locator(NullLocator())
    target.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def margin_zone(ax: Axes, axis: Axis, margin: float) -> None:
    """The zone of ± the smallest effect of interest, and the line of no effect in it."""
    span, line = (ax.axvspan, ax.axvline) if axis == "x" else (ax.axhspan, ax.axhline)
    span(-margin, margin, color=ZONE_COLOUR, linewidth=0, zorder=0)
    line(0, color=ZERO_COLOUR, linewidth=0.8, zorder=1)


def _tick(log_ratio: float) -> str:
    value = round(percent_change(log_ratio))
    return "0" if value == 0 else f"{value:+d} %".replace("-", _MINUS)


def _factor(log_ratio: float) -> str:
    power = round(log_ratio / math.log(10))
    if abs(power) >= 4:
        return f"×10{str(power).translate(_SUPERSCRIPTS)}"
    return f"×{math.exp(log_ratio):.3g}"


def zone_note(margin: float) -> str:
    """What the zone is, for a note below."""
    return f"grey zone: ±{margin_text(margin)}, too small to matter"


def covering(values: ArrayLike, margin: float, room: float = 0.1) -> tuple[float, float]:
    """Limits that hold all finite values up to ``MOST`` and the zone of ± the margin, with room."""
    array = np.asarray(values, dtype=np.float64)
    array = np.append(array[np.isfinite(array)], (-1.5 * margin, 1.5 * margin)).clip(-MOST, MOST)
    low, high = float(array.min()), float(array.max())
    return low - room * (high - low), high + room * (high - low)


def is_wide(ends: ArrayLike) -> bool:
    """Whether one of some log ratios lies beyond what ``covering`` makes room for."""
    return bool((np.abs(np.nan_to_num(np.asarray(ends, dtype=np.float64))) > MOST).any())


def cut(ax: Axes, axis: Axis, place: float, ends: Sequence[float], colour: str) -> NDArray:
    """The ends of a bar as they are to be drawn; where the axis ends before, an arrow says so.

    Args:
        ax: axes whose limits along the bar are set.
        axis: along which the bar lies.
        place: on the other axis, within its limits.
        ends: of the bar.
        colour: of the arrow.

    Returns:
        ``ends`` within the limits.
    """
    limits = ax.get_xlim() if axis == "x" else ax.get_ylim()
    markers = "<>" if axis == "x" else "v^"
    for border, marker, is_past in zip(
        limits, markers, (min(ends) < limits[0], max(ends) > limits[1]), strict=True
    ):
        if is_past:
            at = (border, place) if axis == "x" else (place, border)
            look: dict[str, Any] = {"color": colour, "markersize": 5, "markeredgewidth": 0}
            ax.plot(*at, marker=marker, linestyle="none", clip_on=False, zorder=4, **look)
    return np.clip(np.asarray(ends, dtype=np.float64), *limits)
