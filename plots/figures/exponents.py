"""How the endpoint scales with each setting that a study sweeps, on logarithmic axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.exponents import SweptValues
from benchmark.analysis.statistics import mean_and_interval
from benchmark.analysis.study_analysis import StudyAnalysis
from plots.style import (
    PAGE_INCHES,
    arm_styles,
    declared_note,
    label_powers,
    legend_above,
    new_figure,
    note_below,
)

_COLUMNS, _ROW_INCHES = 3, 2.0


def scaling(found: Sequence[SweptValues], looks: dict[str, dict[str, Any]], ax: Axes) -> Axes:
    """A line an arm: geometric means over seeds with their intervals.

    Args:
        found: of one setting, an arm each.
        looks: style by arm.
        ax: axes to draw on.
    """
    for one in found:
        logs = [mean_and_interval(column) for column in np.log(one.y).T]
        means = np.exp([point.mean for point in logs])
        halves = np.array([point.half_width or 0.0 for point in logs])
        look = looks[one.arm]
        ax.plot(one.x, means, label=one.arm, **look)
        ax.fill_between(
            one.x, means * np.exp(-halves), means * np.exp(halves), color=look["color"],
            alpha=0.15, linewidth=0,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    label_powers(ax.xaxis)
    label_powers(ax.yaxis)
    ax.set_xlabel(found[0].setting)
    ax.grid()
    return ax


def figure(study: StudyAnalysis) -> Figure:
    """A panel for each setting."""
    found = study.swept_values
    settings = list(dict.fromkeys(one.setting for one in found))
    looks = arm_styles(pd.DataFrame({"arm": [one.arm for one in found]}))
    columns = min(_COLUMNS, len(settings))
    rows = -(-len(settings) // columns)
    result = new_figure(PAGE_INCHES, _ROW_INCHES * rows + 0.3)
    axes = result.subplots(rows, columns, squeeze=False)
    for setting, ax in zip(settings, axes.flat, strict=False):
        scaling([one for one in found if one.setting == setting], looks, ax)
    for ax in axes.flat[len(settings) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel(study.terms.endpoint.metric)
    legend_above(axes[0, 0])
    seeds = {len(one.y) for one in found}
    count = "–".join(map(str, sorted({min(seeds), max(seeds)})))
    notes = [f"n={count} seeds, shaded: 95 % t-interval of the mean logarithm"]
    note_below(result, [*notes, declared_note(study.frame)])
    return result
