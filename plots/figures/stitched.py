"""Stitched distance against the noise level τ at which one network hands over to the other.

Each arm's network works on one side of τ, one common frozen finisher on the other: the curves
show at which noise levels an arm's quality arises.
"""

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import CONDITION, arm_order, split_conditions
from benchmark.rows.metric_names import is_smoke
from plots.arm_groups import main_arms, selection_note
from plots.figures.denoising_profile import LOG_SPAN
from plots.figures.fid_vs_steps import LABEL_WIDTH
from plots.level_lines import lines_by_level, step_note
from plots.style import (
    COLUMN_INCHES,
    MOST_PANELS,
    arm_styles,
    declared_note,
    legend_above,
    log_scale,
    new_figure,
    note_below,
    panels_note,
    seed_note,
)

ABOVE = "stitched-above/"
BELOW = "stitched-below/"
_SIDES = {ABOVE: "arm above τ, finisher below", BELOW: "finisher above τ, arm below"}


def stitched_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the primary stitched distance: FID where there is one, else FD by another net."""
    rows = frame[frame["metric"].str.startswith((ABOVE, BELOW))]
    distance = rows["metric"].str.split("/", n=1).str[-1]
    is_fid = distance.str.startswith("FID@")
    return rows[is_fid] if is_fid.any() else rows[distance.str.startswith("FD-")]


def stitched(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the rows of one condition.

    Args:
        rows: of one metric, with τ as their level.
        ax: axes to draw on.
    """
    lines_by_level(rows, arm_styles(rows), ax)
    log_scale(ax, rows["value"], LOG_SPAN)
    kind, _, distance = str(rows["metric"].iloc[0]).partition("/")
    ax.set_ylabel(f"{textwrap.fill(distance, LABEL_WIDTH)}\n{_SIDES[f'{kind}/']}")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """A panel for the arm above τ, one for the arm below."""
    rows = stitched_rows(frame)
    arms = arm_order(rows)
    rows = rows[rows["arm"].isin(main_arms(arms))]
    parts = split_conditions(rows)
    count = len(parts)
    parts = parts[:MOST_PANELS]
    result = new_figure(COLUMN_INCHES, 2.2 * len(parts))
    axes = result.subplots(len(parts), 1, sharex=True, squeeze=False).ravel()
    for part, ax in zip(parts, axes, strict=True):
        stitched(part, ax)
    axes[-1].set_xlabel("noise time τ (1 = pure noise)")
    legend_above(axes[0])
    first = rows.iloc[0]
    notes = [step_note(rows), f"{first['weights']} weights", *panels_note(count)]
    notes.append(f"{first['sampler']}, {first['sampler_steps']} steps")
    if not rows["full_range"].all():
        notes.append("hollow: not all noise levels trained yet")
    if is_smoke(int(rows["n_generated"].min())):
        notes.append("smoke: n < 2048 images")
    seeds = over_seeds(rows, (*CONDITION, "arm", "step", "level"))["seeds"]
    notes += [seed_note(seeds), *selection_note(arm_order(rows), arms)]
    note_below(result, [*notes, declared_note(rows)])
    return result
