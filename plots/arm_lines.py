"""Means over seeds, a line or points an arm; the intervals are our analysis'."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

FEW = 8
"""Levels up to which every point has its marker."""
DODGE = 0.6
"""Width of the points of all arms at one place, in places."""


def by_arm(looks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What tells seaborn's line plots to draw each arm in its look."""
    return {
        "hue": "arm", "hue_order": list(looks), "style": "arm", "style_order": list(looks),
        "palette": {arm: look["color"] for arm, look in looks.items()},
        "markers": {arm: look["marker"] for arm, look in looks.items()},
        "dashes": {
            arm: "" if look["linestyle"] == "-" else look["linestyle"][1]
            for arm, look in looks.items()
        },
        # Nothing is estimated here.
        "estimator": None, "errorbar": None,
    }  # fmt: skip


def arm_lines(
    summary: pd.DataFrame,
    x: str,
    looks: dict[str, dict[str, Any]],
    ax: Axes,
    *,
    hollow: bool = False,
    floor: float = -np.inf,
    **line: Any,
) -> None:
    """Draw the means of a summary, with their intervals as shades where there are any.

    Args:
        summary: of ``over_seeds``, one mean for each arm and place.
        x: its column along x.
        looks: style by arm; arms without a mean are in the legend alone.
        ax: axes to draw on.
        hollow: whether points that lack training on some noise levels are hollow, without shade.
        floor: where shades end.
        line: what seaborn's line plot is to know besides.
    """
    summary = summary[np.isfinite(summary["mean"])]
    before = len(ax.lines)
    if not summary.empty:
        # It warns of a palette that it has no arms for.
        sns.lineplot(summary, x=x, y="mean", legend=False, ax=ax, **by_arm(looks) | line)
    ax.set(xlabel="", ylabel="")
    curves = iter(ax.lines[before:])
    for index, (arm, look) in enumerate(looks.items()):
        own = summary[summary["arm"] == arm]
        curve = ax.plot([], [], **look)[0] if own.empty else next(curves)
        # Markers stand on different levels where there are many, for the lines are close together.
        is_crowded = x == "level" and len(own) > FEW and len(looks) > 1
        first, every = (index % 4, 4) if is_crowded else (0, 1)
        curve.set(label=arm, markevery=(first, every), markeredgewidth=0.5)
        if hollow:
            points_above(own.iloc[first::every], x, look, ax)
            own = own[own["full_range"]]
        low, high = own["mean"] - own["half_width"], own["mean"] + own["half_width"]
        shade = {"color": look["color"], "alpha": 0.15, "linewidth": 0}
        ax.fill_between(own[x], low.clip(lower=floor), high, **shade)


def points_above(points: pd.DataFrame, x: str, look: dict[str, Any], ax: Axes) -> None:
    """Markers above the lines of all arms, hollow where training on some noise levels lacks."""
    for is_full, shape in ((True, {}), (False, hollow_look(look))):
        part = points[points["full_range"] == is_full]
        ax.plot(part[x], part["mean"], **look | shape | {"linestyle": "none", "zorder": 3})


def arm_points(
    summary: pd.DataFrame,
    x: str,
    places: list[str],
    looks: dict[str, dict[str, Any]],
    ax: Axes,
) -> None:
    """Draw a point for each arm at each place, with its interval as a bar where there is one.

    Args:
        summary: of ``over_seeds``, one mean for each arm and place.
        x: its column of places; means of other places are left out.
        places: from left to right, at 0, 1, ….
        looks: style by arm, from left to right at a place.
        ax: axes to draw on.
    """
    summary = summary[summary[x].isin(places)]
    for index, (arm, look) in enumerate(looks.items()):
        shift = DODGE * ((index + 0.5) / len(looks) - 0.5)
        points = look | {"linestyle": "none", "markersize": 4, "elinewidth": 0.8}
        for is_full, part in summary[summary["arm"] == arm].groupby("full_range"):
            place = part[x].map(places.index) + shift
            shape = {} if is_full else hollow_look(look)
            ax.errorbar(place, part["mean"], yerr=part["half_width"].fillna(0.0), **points | shape)
    ax.set_xlim(-0.5, max(len(places), 1) - 0.5)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")


def hollow_look(look: dict[str, Any]) -> dict[str, Any]:
    """What makes a marker of this look hollow."""
    return {"markerfacecolor": "white", "markeredgecolor": look["color"]}
