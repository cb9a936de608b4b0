"""Lines over noise levels, one an arm, of the last milestone; earlier milestones stay visible."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from benchmark.analysis.over_seeds import over_seeds
from plots.arm_lines import FEW, arm_lines, by_arm, points_above


def lines_by_level(rows: pd.DataFrame, looks: dict[str, dict[str, Any]], ax: Axes) -> Axes:
    """The last milestone in full, those before it as light lines without markers.

    Shaded where there are several seeds; hollow where an arm lacks training on some noise levels.

    Args:
        rows: of one condition, with a level each.
        looks: style by arm.
        ax: axes to draw on.
    """
    summary = over_seeds(rows, ("arm", "step", "level"))
    is_last = summary["step"] == summary["step"].max()
    earlier = summary[~is_last & np.isfinite(summary["mean"])]
    light = by_arm(looks) | {"markers": False, "linewidth": 0.6, "alpha": 0.4, "zorder": 1}
    if not earlier.empty:
        sns.lineplot(earlier, x="level", y="mean", units="step", legend=False, ax=ax, **light)
    for (arm, _), points in earlier.groupby(["arm", "step"]):
        if len(points) <= FEW:
            small = looks[str(arm)] | {"markersize": 3, "alpha": 0.4}
            points_above(points[~points["full_range"]], "level", small, ax)
    arm_lines(summary[is_last], "level", looks, ax, hollow=True)
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
