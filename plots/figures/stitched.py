"""Stitched distance against the noise level τ at which one network hands over to the other.

Each arm's network works on one side of τ, one common frozen finisher on the other: what differs
shows at which noise levels an arm's quality arises.
"""

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import CONDITION, arm_order, split_conditions
from benchmark.rows.metric_names import is_smoke
from plots.arm_groups import main_arms, selection_note
from plots.end_points import end_points, row_inches
from plots.figures.denoising_profile import LOG_SPAN
from plots.figures.fid_vs_steps import LABEL_WIDTH
from plots.level_lines import lines_by_level, step_note
from plots.style import (
    COLUMN_INCHES,
    MOST_PANELS,
    PAGE_INCHES,
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
_BESIDE = 2
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
    distance, side = _distance_and_side(rows)
    ax.set_ylabel(f"{textwrap.fill(distance, LABEL_WIDTH)}\n{side}")
    return ax


def _distance_and_side(rows: pd.DataFrame) -> tuple[str, str]:
    """What rows of one metric measure, and which network draws where."""
    kind, _, distance = str(rows["metric"].iloc[0]).partition("/")
    return distance, _SIDES[f"{kind}/"]


def figure(frame: pd.DataFrame) -> Figure:
    """The arm above τ, and the arm below: lines over several τ, points an arm at a single one."""
    rows = stitched_rows(frame)
    is_curve = rows["level"].nunique() > 1
    result, shown, notes = _over_levels(rows) if is_curve else _at_one_level(rows)
    first = shown.iloc[0]
    notes.append(f"{first['weights']} weights")
    notes.append(f"{first['sampler']}, {first['sampler_steps']} steps")
    if not shown["full_range"].all():
        notes.append("hollow: not all noise levels trained yet")
    if is_smoke(int(shown["n_generated"].min())):
        notes.append("smoke: n < 2048 images")
    seeds = over_seeds(shown, (*CONDITION, "arm", "step", "level"))["seeds"]
    note_below(
        result, [*notes, seed_note(seeds, "shaded" if is_curve else "bars"), declared_note(rows)]
    )
    return result


def _over_levels(rows: pd.DataFrame) -> tuple[Figure, pd.DataFrame, list[str]]:
    """A panel for each side, the rows that are drawn, and what to note."""
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
    notes = [step_note(rows), *panels_note(count), *selection_note(arm_order(rows), arms)]
    return result, rows, notes


def _at_one_level(rows: pd.DataFrame) -> tuple[Figure, pd.DataFrame, list[str]]:
    """As ``_over_levels``, of each arm's last step; the arms lie along y."""
    rows = rows[rows["step"] == rows.groupby("arm")["step"].transform("max")]
    parts = split_conditions(rows)
    count = len(parts)
    parts = parts[:MOST_PANELS]
    lines = -(-len(parts) // _BESIDE)
    result = new_figure(PAGE_INCHES, lines * (row_inches(rows) + 0.6))
    axes = result.subplots(lines, _BESIDE, squeeze=False).ravel()
    for part, ax in zip(parts, axes, strict=False):
        end_points(part, ax)
        ax.set_xlabel("\n".join(_distance_and_side(part)))
    for ax in axes[len(parts) :]:
        ax.set_axis_off()
    notes = [f"τ = {rows['level'].iloc[0]:g}, noise time", "each arm's last step"]
    return result, rows, [*notes, *panels_note(count)]
