"""Which attributes can be read in x̂₀ beyond the linear oracle, by noise level and by step."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import arm_order, mean_over_levels
from benchmark.study.arm_names import BASELINE
from plots.arm_groups import main_arms, selection_note
from plots.arm_lines import arm_lines, arm_points
from plots.level_lines import spread
from plots.names import shortened
from plots.style import (
    GREY,
    LINE_INCHES,
    PAGE_CHARACTERS,
    PAGE_INCHES,
    arm_styles,
    declared_note,
    legend_lines,
    new_figure,
    note_below,
    per_row,
    seed_note,
)

GAIN = "emergence/"
AMPLITUDE = "amplitude/"
MILESTONES = 4
NAME = 22
"""Characters of an attribute."""
PANEL_INCHES = 1.15
STEP_INCHES = 0.85


def gain_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the gain in balanced accuracy, with a column ``attribute``, of the EMA before raw."""
    rows = frame[frame["metric"].str.startswith(GAIN)]
    rows = rows[rows["weights"] == rows["weights"].min()]
    return rows.assign(attribute=rows["metric"].str.removeprefix(GAIN))


def by_amplitude(frame: pd.DataFrame, names: Iterable[str]) -> dict[str, float]:
    """Attributes, and ‖Δ‖ of each: the largest first, unmeasured ones (NaN) last.

    The order is the data's alone: nothing that an arm has learned enters it.
    """
    rows = frame[frame["metric"].str.startswith(AMPLITUDE)]
    known = rows.groupby(rows["metric"].str.removeprefix(AMPLITUDE))["value"].mean()
    found = {name: float(known.get(name, np.nan)) for name in sorted(names)}
    return dict(sorted(found.items(), key=lambda item: (np.isnan(item[1]), -item[1], item[0])))


def gain_by_level(rows: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """One attribute: a line per arm over the noise levels, shaded where there are several seeds.

    Args:
        rows: gains of one attribute, weights and step.
        looks: style by arm.
        ax: axes to draw on.
    """
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    arm_lines(over_seeds(rows, ("arm", "level")), "level", looks, ax, markersize=4)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    ax.grid(axis="y")
    return ax


def means_over_levels(rows: pd.DataFrame) -> pd.DataFrame:
    """Gains averaged over the noise levels: a row per arm, seed, step and attribute."""
    return pd.concat([mean_over_levels(part) for _, part in rows.groupby("attribute")])


def against_baseline(means: pd.DataFrame) -> pd.DataFrame:
    """Rows of the other arms with value − B's of the same seed; seeds without B drop out."""
    pair = ["attribute", "step", "seed", "sampling_seed"]
    baseline = means[means["arm"] == BASELINE].set_index(pair)["value"].rename("baseline")
    joined = means[means["arm"] != BASELINE].join(baseline, on=pair, how="inner")
    return joined.assign(value=joined["value"] - joined["baseline"]).drop(columns="baseline")


def by_attribute(
    means: pd.DataFrame, attributes: list[str], looks: dict[str, Any], ax: Axes
) -> Axes:
    """One milestone: a point per attribute and arm, with a bar where there are several seeds.

    Args:
        means: rows of one step, a value per attribute, arm and seed.
        attributes: places from left to right.
        looks: style by arm.
        ax: axes to draw on.
    """
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    arm_points(over_seeds(means, ("arm", "attribute")), "attribute", attributes, looks, ax)
    return ax


def _levels(part: SubFigure, rows: pd.DataFrame, amplitudes: dict[str, float]) -> None:
    columns = _columns(len(amplitudes))
    grid = part.subplots(-(-len(amplitudes) // columns), columns, sharey=True, squeeze=False)
    looks = arm_styles(rows)
    for (name, amplitude), ax in zip(amplitudes.items(), grid.flat, strict=False):
        gain_by_level(rows[rows["attribute"] == name], looks, ax)
        size = "" if np.isnan(amplitude) else f" ({amplitude:#.2g})".replace("(0.", "(.")
        ax.set_title(f"{shortened(name, NAME)}{size}", loc="left", fontsize=7)
    for ax in grid.flat[len(amplitudes) :]:
        ax.set_axis_off()
    part.supylabel("accuracy gain\nover the linear oracle", fontsize=7.5)
    part.supxlabel("noise time $t$ (1 = pure noise)", fontsize=7.5)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    columns = per_row(labels, PAGE_CHARACTERS)
    part.legend(handles, labels, loc="outside upper left", ncols=columns)


def _steps(part: SubFigure, rows: pd.DataFrame, attributes: list[str]) -> None:
    steps, looks, means = (
        spread(rows["step"], MILESTONES),
        arm_styles(rows),
        means_over_levels(rows),
    )
    columns = {"mean gain over levels": means}
    if not against_baseline(means).empty:
        columns[f"the same, minus {BASELINE}'s"] = against_baseline(means)
    grid = part.subplots(len(steps), len(columns), sharex=True, sharey="col", squeeze=False)
    for (label, values), column in zip(columns.items(), grid.T, strict=True):
        for step, ax in zip(steps, column, strict=True):
            by_attribute(values[values["step"] == step], attributes, looks, ax)
        column[0].set_title(label)
        small = {"fontsize": 5} if len(attributes) > 20 else {}
        names = [shortened(name, NAME) for name in attributes]
        column[-1].set_xticks(range(len(attributes)), names, rotation=90, **small)
    for step, ax in zip(steps, grid[:, 0], strict=True):
        ax.set_ylabel(f"step {step:,}")


def _columns(count: int) -> int:
    return min(count, 5 if count <= 15 else 6)


def figure(frame: pd.DataFrame) -> Figure:
    """Above: gain by level at the last milestone, a panel an attribute. Below: by milestone."""
    rows = gain_rows(frame)
    amplitudes = by_amplitude(frame, set(rows["attribute"]))
    arms = arm_order(rows)
    rows = rows[rows["arm"].isin(main_arms(arms))]
    last = rows[rows["step"] == rows["step"].max()]
    lines = legend_lines(arm_order(rows), PAGE_CHARACTERS)
    above = PANEL_INCHES * -(-len(amplitudes) // _columns(len(amplitudes)))
    above += (1 + lines) * LINE_INCHES
    below = STEP_INCHES * len(spread(rows["step"], MILESTONES)) + 1.0
    result = new_figure(PAGE_INCHES, above + below)
    parts = result.subfigures(2, 1, squeeze=False, height_ratios=(above, below))
    _levels(parts[0, 0], last, amplitudes)
    _steps(parts[1, 0], rows, list(amplitudes))
    first = rows.iloc[0]
    notes = [
        f"above: step {last['step'].iloc[0]:,}",
        _order_note(list(amplitudes.values())),
        f"{first['weights']} weights",
        f"{first['n_reference']} held-out images",
        _intervals(over_seeds(rows, ("metric", "arm", "step", "level"))["seeds"]),
    ]
    if not rows["full_range"].all():
        notes.append("hollow: not all noise levels trained yet")
    notes += selection_note(arm_order(rows), arms)
    note_below(result, [*notes, declared_note(rows)])
    return result


def _order_note(amplitudes: list[float]) -> str:
    if np.isnan(amplitudes).all():
        return "no ‖Δ‖ measured: attributes by name"
    order = "attributes from large to small ‖Δ‖ (in brackets), the RMS change by one option"
    return f"{order}; last those without" if np.isnan(amplitudes).any() else order


def _intervals(seeds: pd.Series) -> str:
    return seed_note(seeds).replace("shaded", "shaded, bars")
