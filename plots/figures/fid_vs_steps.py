"""Distance to the reference against training steps, and its change from the baseline's.

A study that compares its primary metric on a scale of its own has that metric here instead. Few
arms share a panel, many are shown by family, each beside the baseline. What is measured at one
milestone alone (the last, with more images) is no curve: it becomes a row of points an arm.
"""

import textwrap
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from benchmark.analysis.answer import reservations
from benchmark.analysis.over_seeds import over_seeds
from benchmark.analysis.scales import Scale
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.analysis.to_baseline import change_from_baseline
from benchmark.rows.frames import (
    CONDITION,
    arm_order,
    curriculum_frame,
    split_conditions,
)
from benchmark.rows.metric_names import is_smoke
from benchmark.study.arm_catalogue import by_importance
from benchmark.study.arm_names import BASELINE
from plots.arm_groups import Family, families
from plots.arm_lines import arm_lines
from plots.change_axis import change_axis, covering, is_wide, margin_zone
from plots.end_points import end_points, row_inches
from plots.style import (
    COLUMN_CHARACTERS,
    COLUMN_INCHES,
    LINE_INCHES,
    MOST_PANELS,
    PAGE_INCHES,
    arm_styles,
    declared_note,
    label_powers,
    legend_lines,
    legend_over,
    new_figure,
    note_below,
    panels_note,
    seed_note,
    step_axis,
)

LOG_SPAN = 4
# Characters that fit beside one panel, alone and in a page of them.
LABEL_WIDTH, PAGE_LABEL_WIDTH = 30, 18
# Heights of the panels; of two and more bands of them all the less.
PANEL_INCHES, CHANGE_INCHES, COMPACT = 2.0, 1.3, 0.7
# Families side by side, and the characters that fit above one.
PER_BAND = 3
LEGEND_CHARACTERS = 34
# Distances at the end alone, side by side.
MOST_BESIDE = 3


def stage_boundaries(frame: pd.DataFrame) -> tuple[str, list[int]]:
    """The most important arm with stages, and the steps at which it changes stage."""
    stages = curriculum_frame(frame)
    for arm in by_importance(arm_order(frame)):
        own = stages[stages["arm"] == arm]
        starts = sorted(set(own[own["seed"] == own["seed"].min()]["from_step"]))
        if len(starts) > 1:
            return arm, [int(step) for step in starts[1:]]
    return "", []


def fid_vs_steps(rows: pd.DataFrame, looks: dict[str, Any], ax: Axes, floor: float = 0.0) -> Axes:
    """Draw the rows of one condition; hollow points lack training on some noise levels.

    Args:
        rows: result rows of one metric, weights and sampler.
        looks: the style of the arms to draw.
        ax: axes to draw on.
        floor: where shades end at the latest: no value of the metric is below.
    """
    summary = over_seeds(rows)
    lowest, highest = float(summary["mean"].min()), float(summary["mean"].max())
    is_log = lowest > 0 and highest / lowest > LOG_SPAN
    # An interval may reach below zero; a distance and a log axis cannot.
    floor = lowest / 2 if is_log else min(floor, lowest)
    arm_lines(summary, "step", looks, ax, hollow=True, floor=floor)
    if is_log:
        log_axis(floor, ax)
    ax.grid(axis="y")
    return ax


def log_axis(floor: float, ax: Axes) -> None:
    """A logarithmic y axis not below ``floor``, labelled at 1, 2 and 5."""
    ax.set_yscale("log")
    ax.set_ylim(bottom=max(ax.get_ylim()[0], floor))
    label_powers(ax.yaxis)


def full_range_changes(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """Changes from the baseline of the same seed; full-range points of the other arms only."""
    changes = change_from_baseline(rows, scale)
    return changes[changes["full_range"] & (changes["arm"] != BASELINE)]


def change_vs_steps(changes: pd.DataFrame, scale: Scale, looks: dict[str, Any], ax: Axes) -> Axes:
    """Draw the arms' changes from the baseline, with the zone of the smallest effect.

    Args:
        changes: of ``full_range_changes``.
        scale: of the changes.
        looks: the style of the arms to draw.
        ax: axes to draw on.
    """
    margin_zone(ax, "y", scale)
    arm_lines(over_seeds(changes), "step", looks, ax)
    return ax


def change_limits(changes: pd.DataFrame, scale: Scale) -> tuple[float, float]:
    """Room for all arms' last intervals; the large changes of early milestones may lie outside."""
    return covering(_last_ends(changes), scale, room=0.3)


def _last_ends(changes: pd.DataFrame) -> pd.Series:
    """The ends of all arms' last intervals."""
    last = changes[changes["step"] == changes.groupby(["arm", "seed"])["step"].transform("max")]
    summary = over_seeds(last, ("arm",))
    half = summary["half_width"].fillna(0.0)
    return pd.concat([summary["mean"] - half, summary["mean"] + half])


def _is_curve(rows: pd.DataFrame) -> bool:
    return bool((rows.groupby("arm")["step"].nunique() > 1).any())


def _sampler(rows: pd.DataFrame) -> str:
    """Empty of a metric that needs no samples."""
    first = rows.iloc[0]
    return f"{first['sampler']}, {first['sampler_steps']} steps" if first["sampler"] else ""


def _label(rows: pd.DataFrame, with_sampler: bool, width: int) -> str:
    metric = textwrap.fill(str(rows["metric"].iloc[0]), width)
    label = f"{metric}\n{rows['weights'].iloc[0]} weights"
    return f"{label}\n{_sampler(rows)}" if with_sampler else label


def _notes(
    curves: list[pd.DataFrame],
    ends: list[pd.DataFrame],
    panels: list["Panel"],
    staged_arm: str,
    scale: Scale,
) -> list[str]:
    parts = [*curves, *ends]
    rows = pd.concat(parts)
    notes = [seed_note(over_seeds(rows, (*CONDITION, "arm", "step"))["seeds"])]
    counts = [{int(part["n_generated"].iloc[0]) for part in some} for some in (curves, ends)]
    if ends and counts[0] != counts[1]:
        curve, end = (" and ".join(f"{n:,}" for n in sorted(some)) for some in counts)
        notes.append(f"curves and changes: {curve} images; lowest panel: {end}")
    if not rows["full_range"].all():
        notes.append("hollow: not all noise levels trained yet")
    if staged_arm:
        notes.append(f"vertical lines: stages of {staged_arm}")
    if any(not panel.changes.empty for panel in panels):
        grey = f"grey: ±{scale.smallest}"
        notes.append(f"change against {BASELINE} of the same seed, {grey}")
    if any(is_wide(_last_ends(panel.changes), scale) for panel in panels):
        notes.append("intervals go on beyond the panel")
    smoke = rows["n_generated"].map(is_smoke) & rows["metric"].str.contains("@")
    if smoke.any():
        named = "" if smoke.all() else f" ({', '.join(sorted(set(rows[smoke]['metric'])))})"
        notes.append(f"smoke: n < 2048 images{named}")
    notes.append(declared_note(rows))
    samplers = sorted({_sampler(part) for part in parts} - {""})
    return [*notes, *samplers] if len(samplers) == 1 else notes


@dataclass(frozen=True)
class Panel:
    """One condition of the metric and, where there is a baseline, the changes from it."""

    rows: pd.DataFrame
    changes: pd.DataFrame
    scale: Scale


def figure(study: StudyAnalysis) -> Figure:
    """For each condition the metric by step, below it the change from the baseline's."""
    frame, measured = study.frame, study.scale
    parts = split_conditions(study.curves)
    curves = [part for part in parts if _is_curve(part)] or parts
    ends = [part for part in parts if _is_curve(part) != _is_curve(curves[0])]
    count = max(len(curves), len(ends))
    curves, ends = curves[:MOST_PANELS], ends[:MOST_BESIDE]
    panels = [Panel(rows, full_range_changes(rows, measured), measured) for rows in curves]
    groups = families(arm_order(pd.concat([*curves, *ends])))
    bands = [groups[i : i + PER_BAND] for i in range(0, len(groups), PER_BAND)]
    scale = COMPACT if len(bands) > 1 else 1.0
    heights = [_band_inches(band, panels, scale) for band in bands]
    heights += [row_inches(pd.concat(ends)) + 0.5] if ends else []
    result = new_figure(COLUMN_INCHES if len(groups) == 1 else PAGE_INCHES, sum(heights))
    shares = result.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    staged_arm, boundaries = stage_boundaries(frame)
    columns = 1 if len(groups) == 1 else PER_BAND
    for band, share in zip(bands, shares, strict=False):
        _draw_band(band, panels, boundaries, share, columns)
    if ends:
        _draw_ends(ends, shares[-1])
    notes = _notes(curves, ends, panels, staged_arm, measured)
    note_below(result, [*notes, *panels_note(count), *reservations(study)])
    return result


def _band_inches(band: list[Family], panels: list[Panel], scale: float) -> float:
    inches = sum(PANEL_INCHES + CHANGE_INCHES * (not panel.changes.empty) for panel in panels)
    lines = max(legend_lines(family.arms, _characters(family)) for family in band)
    return scale * inches + LINE_INCHES * (lines + bool(band[0].title))


def _characters(family: Family) -> int:
    return LEGEND_CHARACTERS if family.title else COLUMN_CHARACTERS


def _draw_band(
    band: list[Family],
    panels: list[Panel],
    boundaries: list[int],
    share: SubFigure,
    columns: int,
) -> None:
    """A column of panels for each family; the panels of a row share their y axis."""
    kinds = [(panel, kind) for panel in panels for kind in (False, True)]
    kinds = [
        (panel, is_change) for panel, is_change in kinds if not (is_change and panel.changes.empty)
    ]
    heights = [CHANGE_INCHES if is_change else PANEL_INCHES for _, is_change in kinds]
    sizes = {"height_ratios": heights}
    grid = share.subplots(
        len(kinds), columns, sharex=True, sharey="row", squeeze=False, gridspec_kw=sizes
    )
    samplers = {_sampler(panel.rows) for panel in panels}
    width = LABEL_WIDTH if columns == 1 else PAGE_LABEL_WIDTH
    for (panel, is_change), row in zip(kinds, grid, strict=True):
        for family, ax in zip(band, row, strict=False):
            _draw_panel(panel, is_change, family, boundaries, ax)
        if is_change:
            limits = change_limits(panel.changes, panel.scale)
            change_axis(row[0], "y", *limits, panel.scale)
        label = f"against {BASELINE}" if is_change else _label(panel.rows, len(samplers) > 1, width)
        row[0].set_ylabel(label)
    for family, column in zip(band, grid.T, strict=False):
        legend_over(column[0], _characters(family), family.title)
        column[-1].set_xlabel("training steps")
    for ax in grid[:, len(band) :].flat:
        ax.set_axis_off()


def _draw_panel(
    panel: Panel, is_change: bool, family: Family, boundaries: list[int], ax: Axes
) -> None:
    """The metric of a family, or its changes from the baseline."""
    styles = arm_styles(panel.rows)
    looks = {arm: styles[arm] for arm in family.arms if arm in styles}
    if is_change:
        change_vs_steps(panel.changes, panel.scale, looks, ax)
    else:
        fid_vs_steps(panel.rows, looks, ax, panel.scale.floor)
    for step in boundaries:
        ax.axvline(step, color="0.82", linewidth=0.6, zorder=0)
    step_axis(ax, int(panel.rows["total_steps"].max()), label=False)


def _draw_ends(ends: list[pd.DataFrame], share: SubFigure) -> None:
    for part, ax in zip(ends, share.subplots(1, len(ends), squeeze=False)[0], strict=True):
        end_points(part, ax)
