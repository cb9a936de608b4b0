"""Spectra: of the denoiser's Jacobian by noise level, and of the samples; effective ranks by step.

The grey line is the best linear denoiser's Jacobian, or as many training images.
"""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import arm_order, rows_named
from benchmark.rows.metric_names import (
    JACOBIAN,
    JACOBIAN_LINEAR,
    SPECTRUM,
    SPECTRUM_DATA,
)
from plots.arm_groups import main_arms, selection_note
from plots.arm_lines import arm_lines
from plots.level_lines import spread
from plots.style import (
    GREY,
    LINE_INCHES,
    PAGE_CHARACTERS,
    PAGE_INCHES,
    arm_styles,
    declared_note,
    legend_lines,
    log_scale,
    new_figure,
    note_below,
    per_row,
    seed_note,
    step_axis,
)

EFFECTIVE = "effective-rank"
MOST_LEVELS = 4
PANEL_INCHES = 1.5
_LOG_SPAN = 4


def spectra_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of Jacobians and samples, with columns ``of`` and ``rank`` (0: the effective rank)."""
    kinds = "|".join((JACOBIAN, JACOBIAN_LINEAR, SPECTRUM, SPECTRUM_DATA))
    rows = rows_named(frame, f"(?P<of>{kinds})/(?P<rank>[0-9]{{1,9}}|{EFFECTIVE})(?:@.*)?")
    return rows.assign(rank=rows["rank"].where(rows["rank"] != EFFECTIVE, "0").astype("int64"))


def has_rows(frame: pd.DataFrame) -> bool:
    """Whether a network's Jacobian or samples have a spectrum."""
    return bool(spectra_rows(frame)["of"].isin((JACOBIAN, SPECTRUM)).any())


def values_by_rank(
    rows: pd.DataFrame, beside: pd.DataFrame, looks: dict[str, Any], ax: Axes
) -> Axes:
    """Singular values by rank, a line an arm; both axes are logarithmic where they can be.

    Args:
        rows: of one step, and of one noise level where there are several.
        beside: what they are held against, likewise.
        looks: style by arm.
        ax: axes to draw on.
    """
    known = beside[beside["rank"] > 0].groupby("rank")["value"].mean()
    ax.plot(known.index, known, color=GREY, linewidth=1.6, alpha=0.6, zorder=1)
    own = rows[rows["rank"] > 0]
    arm_lines(over_seeds(own, ("arm", "rank")), "rank", looks, ax, markersize=4)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    log_scale(ax, pd.concat([own["value"], known]), _LOG_SPAN)
    ax.set_xlabel("rank")
    return ax


def effective_by_step(
    rows: pd.DataFrame, beside: pd.DataFrame, looks: dict[str, Any], ax: Axes
) -> Axes:
    """The effective rank by training step, a line an arm; arguments as ``values_by_rank``."""
    known = beside[beside["rank"] == 0]["value"]
    if not known.empty:
        ax.axhline(known.mean(), color=GREY, linewidth=1.6, alpha=0.6, zorder=1)
    own = rows[rows["rank"] == 0]
    arm_lines(over_seeds(own), "step", looks, ax, hollow=True)
    step_axis(ax, int(rows["total_steps"].max()))
    ax.grid(axis="y")
    return ax


Pair = tuple[str, pd.DataFrame, pd.DataFrame]
"""A column of panels: its title, rows of the networks, what they are held against."""


def columns_of(rows: pd.DataFrame) -> list[Pair]:
    """Jacobians at some noise levels, then the samples."""
    found: list[Pair] = []
    own, linear = (rows[rows["of"] == kind] for kind in (JACOBIAN, JACOBIAN_LINEAR))
    levels = sorted(set(own["level"].dropna()))
    for number in spread(range(len(levels)), MOST_LEVELS):
        level = levels[number]
        title = f"Jacobian, $t$ = {level:.3g}"
        found.append((title, own[own["level"] == level], linear[linear["level"] == level]))
    samples, data = (rows[rows["of"] == kind] for kind in (SPECTRUM, SPECTRUM_DATA))
    if not samples.empty:
        # All milestones have the curve's images; the last alone may have more.
        n = int(samples["n_generated"].min())
        title = f"samples, n = {n:,}"
        found.append((title, samples[samples["n_generated"] == n], data[data["n_reference"] == n]))
    return found


def figure(frame: pd.DataFrame) -> Figure:
    """A column for each noise level, and one of the samples: spectra above, ranks below."""
    every = spectra_rows(frame)
    own = every[every["of"].isin((JACOBIAN, SPECTRUM))]
    arms = arm_order(own)
    shown = main_arms(arms)
    columns = columns_of(every[every["arm"].isin(shown)])
    own = own[own["arm"].isin(shown)]
    looks = arm_styles(own)
    lines = legend_lines(list(looks), PAGE_CHARACTERS)
    result = new_figure(PAGE_INCHES, 2 * PANEL_INCHES + LINE_INCHES * (lines + 1))
    grid = result.subplots(2, len(columns), squeeze=False)
    for (title, rows, beside), (upper, lower) in zip(columns, grid.T, strict=True):
        values_by_rank(rows[rows["step"] == rows["step"].max()], beside, looks, upper)
        upper.set_title(title, loc="left", fontsize=7)
        effective_by_step(rows, beside, looks, lower)
    grid[0, 0].set_ylabel("singular value")
    grid[1, 0].set_ylabel("effective rank")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    ncols = per_row(labels, PAGE_CHARACTERS)
    result.legend(handles, labels, loc="outside upper left", ncols=ncols)
    note_below(result, _notes(own, arms))
    return result


def _notes(rows: pd.DataFrame, arms: list[str]) -> list[str]:
    notes = [
        f"above: step {rows['step'].max():,}",
        "grey: the best linear denoiser, or as many training images",
    ]
    jacobians = rows[rows["of"] == JACOBIAN]
    if not jacobians.empty:
        notes.append(f"Jacobians at {jacobians['n_reference'].iloc[0]} held-out images")
    if not rows["full_range"].all():
        notes.append("hollow: not all noise levels trained yet")
    notes.append(seed_note(over_seeds(rows)["seeds"]))
    return [*notes, *selection_note(arm_order(rows), arms), declared_note(rows)]
