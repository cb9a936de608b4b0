"""Lines over noise levels, one an arm, of the last milestone; earlier milestones stay visible."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from benchmark.analysis.over_seeds import over_seeds

_FEW = 8
"""Levels up to which every point has its marker."""


def lines_by_level(rows: pd.DataFrame, looks: dict[str, dict[str, Any]], ax: Axes) -> Axes:
    """The last milestone in full, those before it as light lines without markers.

    Shaded where there are several seeds; hollow where an arm lacks training on some noise levels.

    Args:
        rows: of one condition, with a level each.
        looks: style by arm.
        ax: axes to draw on.
    """
    summary = over_seeds(rows, ("arm", "step", "level"))
    last = summary["step"].max()
    for index, (arm, look) in enumerate(looks.items()):
        own = summary[summary["arm"] == arm]
        for _, points in own[own["step"] < last].groupby("step"):
            light = {"color": look["color"], "linestyle": look["linestyle"]}
            ax.plot(points["level"], points["mean"], linewidth=0.6, alpha=0.4, zorder=1, **light)
            if len(points) <= _FEW:
                hollow = _hollow(look) | {"markersize": 3, "alpha": 0.4}
                part = points[~points["full_range"]]
                ax.plot(part["level"], part["mean"], zorder=1, **hollow)
        _last_line(own[own["step"] == last], arm, index, look, ax)
    ax.set_xlim(0, 1)
    ax.grid(axis="y")
    return ax


def spread(steps: Iterable[int], most: int) -> list[int]:
    """At most so many of the steps: the first, the last, and those evenly between."""
    known = sorted(set(steps))
    chosen = np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(int)
    return [int(known[index]) for index in chosen]


def step_note(rows: pd.DataFrame) -> str:
    """Which milestone is drawn in full."""
    note = f"step {rows['step'].max()}"
    return f"{note}, light: earlier ones" if rows["step"].nunique() > 1 else note


def _last_line(points: pd.DataFrame, arm: str, index: int, look: dict[str, Any], ax: Axes) -> None:
    # Markers stand on different levels where there are many, for the lines are close together.
    shown = points.iloc[index % 4 :: 4] if len(points) > _FEW else points
    ax.plot(points["level"], points["mean"], **look | {"marker": ""})
    ax.plot([], [], label=arm, **look)
    for is_full, dots in ((True, look | {"linestyle": "none"}), (False, _hollow(look))):
        part = shown[shown["full_range"] == is_full]
        ax.plot(part["level"], part["mean"], zorder=3, **dots)
    sure = points[points["full_range"]]
    low, high = sure["mean"] - sure["half_width"], sure["mean"] + sure["half_width"]
    ax.fill_between(sure["level"], low, high, color=look["color"], alpha=0.15, linewidth=0)


def _hollow(look: dict[str, Any]) -> dict[str, Any]:
    return look | {
        "linestyle": "none",
        "markerfacecolor": "white",
        "markeredgecolor": look["color"],
    }
