"""What a group penalty did: the norm of the filters over training, and the share that vanished."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from plots.arm_lines import arm_lines
from plots.style import (
    COLUMN_INCHES,
    arm_styles,
    declared_note,
    legend_above,
    new_figure,
    note_below,
    seed_note,
    step_axis,
)

# Metric → (label, what its values are multiplied by).
PANELS = {
    "group-norm-mean": ("mean norm\nof a filter", 1),
    "group-norm-share-below-1%": ("filters below 1 %\nof their first norm, %", 100),
}


def norm_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of group norms, of the EMA before raw."""
    rows = frame[frame["metric"].isin(PANELS)]
    return rows[rows["weights"] == rows["weights"].min()]


def group_norms(rows: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """A line an arm over the steps, shaded where there are several seeds.

    Args:
        rows: of one metric.
        looks: style by arm.
        ax: axes to draw on.
    """
    summary = over_seeds(rows)
    arm_lines(summary, "step", looks, ax)
    ax.set_ylim(0, max(1e-9, 1.08 * (summary["mean"] + summary["half_width"].fillna(0.0)).max()))
    ax.grid(axis="y")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """Above the mean norm, below the share of filters that are gone; both from zero."""
    rows = norm_rows(frame)
    looks = arm_styles(rows)
    result = new_figure(COLUMN_INCHES, 2.9)
    axes = result.subplots(len(PANELS), 1, sharex=True)
    for (metric, (label, factor)), ax in zip(PANELS.items(), axes, strict=True):
        own = rows[rows["metric"] == metric]
        group_norms(own.assign(value=factor * own["value"]), looks, ax)
        ax.set_ylabel(label)
        step_axis(ax, int(rows["total_steps"].max()), label=False)
    axes[-1].set_xlabel("training steps")
    legend_above(axes[0])
    seeds = over_seeds(rows, ("metric", "arm", "step"))["seeds"]
    note_below(
        result, [f"{rows['weights'].iloc[0]} weights", seed_note(seeds), declared_note(rows)]
    )
    return result
