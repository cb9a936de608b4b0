"""The error above the best possible by noise level: 0 is the posterior mean."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import arm_order
from benchmark.rows.metric_names import EXCESS
from plots.arm_groups import Family, families
from plots.arm_lines import arm_lines
from plots.change_axis import ZERO_COLOUR
from plots.style import (
    LINE_INCHES,
    PAGE_INCHES,
    arm_styles,
    declared_note,
    legend_lines,
    legend_over,
    new_figure,
    note_below,
    seed_note,
)

BY = ("arm", "level")
_CHARACTERS = 34


def excess_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the excess by noise level, of each arm's last milestone."""
    rows = frame[frame["metric"] == EXCESS]
    return rows[rows["step"] == rows.groupby("arm")["step"].transform("max")]


def excess_profile(rows: pd.DataFrame, looks: dict[str, dict[str, Any]], ax: Axes) -> Axes:
    """A line per arm over the noise levels, above the best denoiser's.

    Args:
        rows: of one step each arm.
        looks: style by arm.
        ax: axes to draw on.
    """
    ax.axhline(0, color=ZERO_COLOUR, linewidth=0.8, zorder=1)
    arm_lines(over_seeds(rows, BY), "level", looks, ax)
    ax.set_xlim(0, 1)
    ax.grid(axis="y")
    ax.set_xlabel("noise time $t$")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """A panel for each family of arms."""
    rows = excess_rows(frame)
    groups = families(arm_order(rows))
    heads = max(legend_lines(one.arms, _CHARACTERS) + bool(one.title) for one in groups)
    result = new_figure(PAGE_INCHES, 2.4 + LINE_INCHES * heads)
    axes = result.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for group, ax in zip(groups, axes, strict=True):
        _panel(rows, group, ax)
    axes[0].set_ylabel("excess / weak features' variance")
    note_below(
        result,
        ["line at 0: the best denoiser", "1 is pure noise",
         seed_note(over_seeds(rows, BY)["seeds"]), declared_note(rows)],
    )  # fmt: skip
    return result


def _panel(rows: pd.DataFrame, group: Family, ax: Axes) -> None:
    looks = {arm: look for arm, look in arm_styles(rows).items() if arm in group.arms}
    excess_profile(rows[rows["arm"].isin(group.arms)], looks, ax)
    legend_over(ax, _CHARACTERS, group.title)
