"""Samples of every arm (rows) by the class that they are to show (columns)."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmark.rows.frames import arm_order
from benchmark.rows.metric_names import CLASS
from plots.figures.samples import PAGE_INCHES, sheet_inches, sheet_of, show_sheet
from plots.style import declared_note, new_figure, note_below

MOST_CLASSES = 6
_NAME_CHARACTERS = 90
"""Of all names of a row of columns together."""


def class_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """One strip per arm and class, of each arm's last milestone and of the first seed.

    Of many classes, those with the most samples are shown.

    Returns:
        Rows with a column ``class``, the classes with the most samples first.
    """
    rows = frame[frame["metric"].str.startswith(CLASS) & frame["samples"].notna()]
    rows = rows[rows["step"] == rows.groupby(["arm", "seed"])["step"].transform("max")]
    order = ["weights", "sampler", "sampler_steps", "seed", "sampling_seed"]
    rows = rows.sort_values([*order, "samples"], kind="stable")
    if not rows.empty:
        rows = rows[(rows[order] == rows.iloc[0][order]).all(axis=1)]
    rows = rows.assign(**{"class": rows["metric"].str.removeprefix(CLASS).str.split("/").str[0]})
    rows = rows.drop_duplicates(["arm", "class"])
    drawn = rows.groupby("class")["n_generated"].max().sort_index()
    shown = list(drawn.sort_values(ascending=False, kind="stable").index[:MOST_CLASSES])
    rows = rows[rows["class"].isin(shown)]
    return rows.iloc[rows["class"].map(shown.index).argsort(kind="stable")]


def figure(frame: pd.DataFrame, study_dir: Path) -> Figure:
    """All arms by class, in the width of a page."""
    cells = class_cells(frame)
    arms, names = arm_order(cells), list(dict.fromkeys(cells["class"]))
    result = new_figure(PAGE_INCHES, sheet_inches(len(arms), len(names)))
    most = _NAME_CHARACTERS // len(names)
    short = [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]
    show_sheet(result.subplots(), sheet_of(cells, "class", study_dir), arms, short)
    first = cells.iloc[0]
    steps = sorted(set(cells["step"]))
    ends = [f"step {steps[0]:,}"] if len(steps) == 1 else ["each arm's last milestone"]
    sampler = f"{first['sampler']} {first['sampler_steps']} steps"
    notes = [*ends, f"seed {first['seed']}, {first['weights']}, {sampler}", declared_note(cells)]
    note_below(result, notes)
    return result
