"""Axes of changes on a scale, and the zone of effects too small to matter.

An axis ends where no effect is worth a closer look. Values beyond it, and intervals that reach
beyond it, end in an arrow at its border; their numbers stand in the text or in the tables.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from benchmark.analysis.log_ratios import MOST_TICKS
from benchmark.analysis.scales import Scale

ZONE_COLOUR = "0.9"
ZERO_COLOUR = "0.45"
BEYOND_NOTE = "arrows: beyond the axis"

Axis = Literal["x", "y"]


def change_axis(
    ax: Axes, axis: Axis, low: float, high: float, scale: Scale, most_ticks: int = MOST_TICKS
) -> None:
    """An axis of changes from ``low`` to ``high``, in the metric's own direction and unit."""
    (ax.set_xlim if axis == "x" else ax.set_ylim)(scale.ends(low, high))
    target = ax.xaxis if axis == "x" else ax.yaxis
    ticks = scale.ticks(low, high, most_ticks)
    target.set_major_locator(FixedLocator(list(ticks)))
    target.set_minor_locator(NullLocator())
    target.set_major_formatter(FixedFormatter(list(ticks.values())))


def margin_zone(ax: Axes, axis: Axis, scale: Scale) -> None:
    """The zone of ± the smallest effect of interest, and the line of no effect in it."""
    span, line = (ax.axvspan, ax.axvline) if axis == "x" else (ax.axhspan, ax.axhline)
    span(-scale.margin, scale.margin, color=ZONE_COLOUR, linewidth=0, zorder=0)
    line(0, color=ZERO_COLOUR, linewidth=0.8, zorder=1)


def zone_note(*scales: Scale) -> str:
    """What the zone is, for a note below; of several panels from top to bottom."""
    zones = ", ".join(dict.fromkeys(f"±{scale.smallest}" for scale in scales))
    return f"grey zone: {zones}, too small to matter"


def covering(values: ArrayLike, scale: Scale, room: float = 0.1) -> tuple[float, float]:
    """Limits that hold all finite changes up to the widest, and the smallest effect, with room."""
    array, margin = np.asarray(values, dtype=np.float64), scale.margin
    array = np.append(array[np.isfinite(array)], (-1.5 * margin, 1.5 * margin))
    array = array.clip(-scale.widest, scale.widest)
    low, high = float(array.min()), float(array.max())
    return low - room * (high - low), high + room * (high - low)


def is_wide(ends: ArrayLike, scale: Scale) -> bool:
    """Whether one of some changes lies beyond what ``covering`` makes room for."""
    array = np.abs(np.nan_to_num(np.asarray(ends, dtype=np.float64)))
    return bool((array > scale.widest).any())


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
    borders = ax.get_xlim() if axis == "x" else ax.get_ylim()
    low, high = sorted(borders)
    for border, marker in zip(borders, "<>" if axis == "x" else "v^", strict=True):
        if (border == low and min(ends) < low) or (border == high and max(ends) > high):
            at = (border, place) if axis == "x" else (place, border)
            look: dict[str, Any] = {"color": colour, "markersize": 5, "markeredgewidth": 0}
            ax.plot(*at, marker=marker, linestyle="none", clip_on=False, zorder=4, **look)
    return np.clip(np.asarray(ends, dtype=np.float64), low, high)
