"""A distance at the end: a place an arm, every seed as a point, the mean and its interval."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from benchmark.analysis.over_seeds import over_seeds
from benchmark.study.arm_names import BASELINE
from plots.arm_lines import hollow_look
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
    seeds = rows.groupby(["arm", "seed"], as_index=False)["value"].mean()
    several = seeds.groupby("arm")["seed"].transform("size") > 1
    # Means stand below the points of their seeds.
    below = 0.37 if several.any() else 0.0
    if several.any():
        colours = {arm: look["color"] for arm, look in looks.items()}
        light = {"size": 2.8, "alpha": 0.4, "linewidth": 0, "legend": False, "jitter": False}
        own = {"x": "value", "y": "arm", "order": list(looks), "hue": "arm", "palette": colours}
        sns.stripplot(seeds[several], ax=ax, **own, **light)
    for place, (arm, look) in enumerate(looks.items()):
        mean = summary.loc[arm]
        face = {} if mean["full_range"] else hollow_look(look)
        half = 0.0 if np.isnan(mean["half_width"]) else mean["half_width"]
        points = look | face | {"linestyle": "none", "elinewidth": 1.2}
        ax.errorbar(mean["mean"], place + below, xerr=half, **points)
    ax.set_yticks(np.arange(len(looks)) + below / 2, list(looks))
    ax.set_ylim(len(looks) - 0.5 + below / 2, -0.5)
    ax.set_ylabel("")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"{rows['metric'].iloc[0]} at each arm's last step")
    ax.grid(axis="x")
    return ax
