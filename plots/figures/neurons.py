"""What hidden neurons read over training: shares by kind, and which features are covered."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import arm_order
from benchmark.rows.metric_names import NEURONS
from plots.arm_groups import main_arms, selection_note
from plots.arm_lines import arm_lines
from plots.style import (
    PAGE_INCHES,
    arm_styles,
    declared_note,
    legend_above,
    new_figure,
    note_below,
    seed_note,
    step_axis,
)

MOST_ARMS = 6
"""Lines with bands that a panel has room for."""
PANELS = {
    f"{NEURONS}pure-M1-share": "pure, of M₁",
    f"{NEURONS}pure-M2-share": "pure, of M₂",
    f"{NEURONS}across-groups-share": "mixed, M₁ with M₂",
    f"{NEURONS}within-group-share": "mixed within a group",
    f"{NEURONS}outside-share": "outside",
    f"{NEURONS}dead-share": "dead",
    f"{NEURONS}M1-covered-share": "M₁ covered",
    f"{NEURONS}M2-covered-share": "M₂ covered",
}


def neuron_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the shares that are drawn."""
    return frame[frame["metric"].isin(PANELS)]


def share_over_steps(rows: pd.DataFrame, looks: dict[str, dict[str, Any]], ax: Axes) -> Axes:
    """A line an arm over the steps, with bands over seeds.

    Args:
        rows: of one share.
        looks: style by arm.
        ax: axes to draw on.
    """
    arm_lines(over_seeds(rows.assign(value=100 * rows["value"])), "step", looks, ax)
    ax.set_ylim(-3, 103)
    ax.grid(axis="y")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """Six shares of the hidden neurons over training, and two of the features."""
    rows = neuron_rows(frame)
    arms = arm_order(rows)
    shown = main_arms(arms, MOST_ARMS)
    rows = rows[rows["arm"].isin(shown)]
    looks = {arm: look for arm, look in arm_styles(frame).items() if arm in shown}
    result = new_figure(PAGE_INCHES, 7.2)
    axes = result.subplots(4, 2, sharex=True, sharey=True)
    for (metric, label), ax in zip(PANELS.items(), axes.flat, strict=True):
        share_over_steps(rows[rows["metric"] == metric], looks, ax)
        step_axis(ax, int(rows["total_steps"].max()), label=ax in axes[-1])
        ax.text(0.03, 0.95, label, transform=ax.transAxes, va="top")
    for ax in axes[:-1, 0]:
        ax.set_ylabel("neurons, %")
    axes[-1, 0].set_ylabel("features, %")
    legend_above(axes[0, 0])
    notes = [seed_note(over_seeds(rows, ("metric", "arm", "step"))["seeds"]), declared_note(rows)]
    note_below(result, [*notes, *selection_note(shown, arms)])
    return result
