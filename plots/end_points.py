"""A distance at the end: a place an arm, every seed as a point, the mean and its interval."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from benchmark.analysis.over_seeds import over_seeds
from benchmark.study.arm_names import BASELINE
from plots.style import arm_styles

ROW_INCHES = 0.17
# So high are all arms' places at most; text of 7 pt needs a tenth of an inch.
MOST_INCHES = 2.9


def row_inches(rows: pd.DataFrame) -> float:
    """Height of the places of all arms of some rows."""
    return min(ROW_INCHES * rows["arm"].nunique(), MOST_INCHES)


def end_points(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw one condition at each arm's last milestone; arms lie along y.

    Args:
        rows: rows of one condition.
        ax: axes to draw on.
    """
    rows = rows[rows["step"] == rows.groupby("arm")["step"].transform("max")]
    looks, summary = arm_styles(rows), over_seeds(rows, ("arm",)).set_index("arm")
    if BASELINE in looks:
        ax.axvline(float(summary["mean"][BASELINE]), color="0.8", linewidth=0.8, zorder=0)
    seeds = rows.groupby(["arm", "seed"])["value"].mean()
    for place, (arm, look) in enumerate(looks.items()):
        own, mean = seeds[arm], summary.loc[arm]
        if len(own) > 1:
            light = {"s": 8, "color": look["color"], "alpha": 0.4, "linewidths": 0}
            ax.scatter(own, np.full(len(own), place - 0.25), **light)
        face = {} if mean["full_range"] else {"markerfacecolor": "white"}
        face |= {} if mean["full_range"] else {"markeredgecolor": look["color"]}
        half = 0.0 if np.isnan(mean["half_width"]) else mean["half_width"]
        points = look | face | {"linestyle": "none", "elinewidth": 1.2}
        ax.errorbar(mean["mean"], place + 0.12, xerr=half, **points)
    ax.set_yticks(range(len(looks)), list(looks))
    ax.set_ylim(len(looks) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"{rows['metric'].iloc[0]} at each arm's last step")
    ax.grid(axis="x")
    return ax
