"""Distance to the reference against training steps, a line per arm."""

import textwrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogLocator, NullFormatter

from benchmark.results import (
    CONDITION,
    arm_order,
    curriculum_frame,
    distance_rows,
    is_smoke,
    over_seeds,
    split_conditions,
)
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

LOG_SPAN = 10
# Characters that fit beside one panel.
LABEL_WIDTH = 30
PANEL_INCHES = 2.0


def stage_boundaries(frame: pd.DataFrame) -> tuple[str, list[int]]:
    """The first staged arm (C, where there is one) and the steps at which it changes stage."""
    stages = curriculum_frame(frame)
    for arm in arm_order(frame):
        own = stages[stages["arm"] == arm]
        starts = sorted(set(own[own["seed"] == own["seed"].min()]["from_step"]))
        if len(starts) > 1:
            return arm, [int(step) for step in starts[1:]]
    return "", []


def fid_vs_steps(rows: pd.DataFrame, boundaries: list[int], ax: Axes) -> Axes:
    """Draw the rows of one condition; hollow points lack training on some noise levels.

    Args:
        rows: result rows of one metric, weights and sampler.
        boundaries: steps at which a curriculum changes stage.
        ax: axes to draw on.
    """
    summary = over_seeds(rows)
    for step in boundaries:
        ax.axvline(step, color="0.82", linewidth=0.6, zorder=0)
    lowest, highest = float(summary["mean"].min()), float(summary["mean"].max())
    is_log = lowest > 0 and highest / lowest > LOG_SPAN
    # An interval may reach below zero; a distance and a log axis cannot.
    floor = lowest / 2 if is_log else min(0.0, lowest)
    for arm, look in arm_styles(rows).items():
        _draw_arm(summary[summary["arm"] == arm], arm, look, floor, ax)
    if is_log:
        _log_axis(floor, ax)
    ax.grid(axis="y")
    step_axis(ax, int(rows["total_steps"].max()))
    metric = textwrap.fill(str(rows["metric"].iloc[0]), LABEL_WIDTH)
    ax.set_ylabel(f"{metric}\n{rows['weights'].iloc[0]} weights")
    return ax


def _draw_arm(points: pd.DataFrame, arm: str, look: dict[str, Any], floor: float, ax: Axes) -> None:
    ax.plot(points["step"], points["mean"], label=arm, **look)
    hollow = points[~points["full_range"]]
    unfilled = look | {"linestyle": "none", "markerfacecolor": "white"}
    unfilled["markeredgecolor"] = look["color"]
    ax.plot(hollow["step"], hollow["mean"], zorder=3, **unfilled)
    sure = points[points["full_range"]]
    low, high = sure["mean"] - sure["half_width"], sure["mean"] + sure["half_width"]
    low = low.clip(lower=floor)
    ax.fill_between(sure["step"], low, high, color=look["color"], alpha=0.15, linewidth=0)


def _log_axis(floor: float, ax: Axes) -> None:
    ax.set_yscale("log")
    ax.set_ylim(bottom=max(ax.get_ylim()[0], floor))
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(9, 9)))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _sampler(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    return f"{first['sampler']}, {first['sampler_steps']} steps"


def _notes(rows: pd.DataFrame, staged_arm: str) -> list[str]:
    notes = [seed_note(over_seeds(rows, (*CONDITION, "arm", "step"))["seeds"])]
    if not rows["full_range"].all():
        notes.append("hollow: not all noise levels trained yet")
    if staged_arm:
        notes.append(f"vertical lines: stages of {staged_arm}")
    if is_smoke(int(rows["n_generated"].min())):
        notes.append("smoke: n < 2048 images")
    return [*notes, declared_note(rows)]


def figure(frame: pd.DataFrame) -> Figure:
    """A panel per primary metric and condition, one above the other."""
    parts = split_conditions(distance_rows(frame))
    result = new_figure(COLUMN_INCHES, PANEL_INCHES * len(parts))
    axes = result.subplots(len(parts), 1, squeeze=False).ravel()
    arm, boundaries = stage_boundaries(frame)
    samplers = sorted({_sampler(rows) for rows in parts})
    for rows, ax in zip(parts, axes, strict=True):
        fid_vs_steps(rows, boundaries, ax)
        if len(samplers) > 1:
            ax.set_ylabel(f"{ax.get_ylabel()}\n{_sampler(rows)}")
    for ax in axes[:-1]:
        ax.set_xlabel("")
    legend_above(axes[0])
    notes = _notes(pd.concat(parts), arm)
    note_below(result, [*notes, *samplers] if len(samplers) == 1 else notes)
    return result
