"""Samples of every arm (rows) by the class that they are to show (columns)."""

import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmark.rows.frames import arm_order
from benchmark.rows.metric_names import CLASS, CLASS_STRIP, MOST_CLASSES
from plots.figures.samples import of_first_condition, sheet_inches, sheet_of, show_sheet
from plots.style import PAGE_INCHES, declared_note, new_figure, note_below

_NAME_CHARACTERS = 90
"""Of all names of a row of columns together."""
_STRIP = rf"(?:^|/){CLASS_STRIP}\d+-(\d+)\.png$"


def class_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """One strip per arm and class, of ends of training in the first condition.

    Of many classes, those with the most samples are shown. A class is told by the number in its
    strip's name, since long names of metrics are shortened before they are drawn.

    Returns:
        Rows with columns ``number`` and ``class`` (its name), the most drawn classes first.
    """
    is_end = (frame["step"] == frame["total_steps"]) & frame["metric"].str.startswith(CLASS)
    rows = frame[is_end & frame["samples"].notna()]
    number = rows["samples"].astype(str).str.extract(_STRIP)[0]
    rows = rows.assign(number=number)[number.notna()]
    # Scored again with more images, a class has the rows of both times.
    rows = of_first_condition(rows).sort_values("n_generated", ascending=False, kind="stable")
    rows = rows.drop_duplicates(["arm", "number"])
    drawn = rows.groupby("number")["n_generated"].max().sort_index()
    shown = list(drawn.sort_values(ascending=False, kind="stable").index[:MOST_CLASSES])
    rows = rows[rows["number"].isin(shown)].assign(**{"class": rows["metric"].map(_class_of)})
    return rows.iloc[rows["number"].map(shown.index).argsort(kind="stable")]


def _class_of(metric: str) -> str:
    """A class's name, of a metric that may have lost its middle."""
    return re.split(r"/|(?<=…)", metric.removeprefix(CLASS))[0]


def figure(frame: pd.DataFrame, study_dir: Path) -> Figure:
    """All arms by class, in the width of a page."""
    cells = class_cells(frame)
    arms, names = arm_order(cells), list(cells.drop_duplicates("number")["class"])
    result = new_figure(PAGE_INCHES, sheet_inches(len(arms), len(names)))
    most = _NAME_CHARACTERS // len(names)
    short = [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]
    show_sheet(result.subplots(), sheet_of(cells, "number", study_dir), arms, short)
    first = cells.iloc[0]
    steps = sorted(set(cells["step"]))
    ends = f"step {steps[0]:,}" if len(steps) == 1 else "each arm's last step"
    sampler = f"{first['sampler']} {first['sampler_steps']} steps"
    notes = [ends, f"seed {first['seed']}, {first['weights']}, {sampler}", declared_note(cells)]
    note_below(result, notes)
    return result
