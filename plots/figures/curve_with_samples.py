"""The distance by training step of the arms that answer the question, with samples below it."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import arm_order, distance_rows, split_conditions
from benchmark.study.arm_catalogue import by_importance
from plots.figures import samples
from plots.figures.fid_vs_steps import fid_vs_steps
from plots.style import (
    PAGE_INCHES,
    arm_styles,
    declared_note,
    legend_over,
    new_figure,
    note_below,
    seed_note,
    step_axis,
)

MOST_ARMS = 3
CURVE_INCHES = 2.0
_LEGEND_CHARACTERS = 80


def curve_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells whose samples are shown; none where no distance was measured at two milestones."""
    cells = samples.page_cells(frame)
    shown = by_importance(arm_order(cells))[:MOST_ARMS]
    is_shown = cells["arm"].isin(shown)
    return cells[is_shown & (not _curve(frame, shown).empty)]


def _curve(frame: pd.DataFrame, arms: list[str]) -> pd.DataFrame:
    """Distances of some arms in one condition: the first that has two milestones of an arm."""
    rows = distance_rows(frame)
    rows = rows[rows["arm"].isin(arms)]
    parts = split_conditions(rows) if not rows.empty else []
    curves = [part for part in parts if (part.groupby("arm")["step"].nunique() > 1).any()]
    return curves[0] if curves else rows.iloc[:0]


def figure(frame: pd.DataFrame, study_dir: Path) -> Figure:
    """The curve above, the samples of the same arms below; pictures lie in the study's folder."""
    cells = curve_cells(frame)
    arms = arm_order(cells)
    rows = _curve(frame, arms)
    below = samples.sheet_inches(len(arms), cells["step"].nunique())
    result = new_figure(PAGE_INCHES, CURVE_INCHES + below)
    top, bottom = result.subplots(2, 1, height_ratios=[CURVE_INCHES, below])
    looks = arm_styles(frame)
    fid_vs_steps(rows, {arm: looks[arm] for arm in arms}, top)
    step_axis(top, int(rows["total_steps"].max()))
    # The steps of the pictures below.
    steps = sorted(set(cells["step"]))
    top.set_xticks(steps, [f"{step:,}" for step in steps])
    top.set_ylabel(f"{rows['metric'].iloc[0]}\n{rows['weights'].iloc[0]} weights")
    legend_over(top, _LEGEND_CHARACTERS)
    samples.samples(cells, study_dir, bottom)
    first = cells.iloc[0]
    notes = [
        seed_note(over_seeds(rows, ("arm", "step"))["seeds"]),
        f"{rows['direction'].iloc[0]} is better",
        f"samples: seed {first['seed']}, {first['weights']}, same noise in each column",
        *([] if rows["full_range"].all() else ["hollow: not all noise levels trained yet"]),
        declared_note(rows),
    ]
    note_below(result, notes)
    return result
