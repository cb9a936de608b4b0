"""Held-out ε-MSE by noise level at the last milestone, and its ratio to the baseline.

Few arms share a panel; many are shown by family, each beside the baseline.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.analysis.scales import USUAL_SCALE
from benchmark.analysis.to_baseline import change_from_baseline
from benchmark.rows.frames import CONDITION, arm_order, split_conditions
from benchmark.rows.metric_names import EPS_MSE
from benchmark.study.arm_names import BASELINE
from plots.arm_groups import Family, families
from plots.arm_lines import arm_lines
from plots.change_axis import change_axis, covering
from plots.style import (
    COLUMN_CHARACTERS,
    COLUMN_INCHES,
    LINE_INCHES,
    PAGE_INCHES,
    arm_styles,
    declared_note,
    legend_lines,
    legend_over,
    log_scale,
    new_figure,
    note_below,
    seed_note,
)

BY = ("arm", "level")
# Levels' values may differ by more than this before the axis is logarithmic.
LOG_SPAN = 10
# No smallest effect is declared for profiles; their axis shows at least the usual one.
CHANGES = USUAL_SCALE
LEGEND_CHARACTERS = 34
PER_BAND = 3


def last_profile(frame: pd.DataFrame) -> pd.DataFrame:
    """ε-MSE rows of each arm's last milestone, of the first condition by name (EMA before raw)."""
    parts = split_conditions(frame[frame["metric"] == EPS_MSE])
    if not parts:
        return frame.iloc[:0]
    rows = parts[0]
    return rows[rows["step"] == rows.groupby("arm")["step"].transform("max")]


def ratio_to_baseline(profile: pd.DataFrame) -> pd.DataFrame:
    """Log ratio to B's value at the same seed and level, of the other arms.

    The arms' last milestones are compared, at whatever step they are.
    """
    ratios = change_from_baseline(profile.assign(step=0))
    return ratios[ratios["arm"] != BASELINE]


def denoising_profile(profile: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """A line per arm over the noise levels, shaded where there are several seeds.

    Args:
        profile: rows of one condition and step, with a level each.
        looks: style by arm.
        ax: axes to draw on.
    """
    arm_lines(over_seeds(profile, BY), "level", looks, ax)
    ax.set_xlim(0, 1)
    ax.grid(axis="y")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """The profiles of all arms; below them, if the study has B, their change against B."""
    profile = last_profile(frame)
    ratios = ratio_to_baseline(profile)
    groups = families(arm_order(profile))
    bands = [groups[i : i + PER_BAND] for i in range(0, len(groups), PER_BAND)]
    columns = 1 if len(groups) == 1 else PER_BAND
    heights = [
        (2.0 if ratios.empty else 3.4) + LINE_INCHES * _legend_height(band) for band in bands
    ]
    result = new_figure(COLUMN_INCHES if columns == 1 else PAGE_INCHES, sum(heights))
    shares = result.subfigures(len(bands), 1, squeeze=False, height_ratios=heights)[:, 0]
    for band, share in zip(bands, shares, strict=True):
        grid = share.subplots(2 - ratios.empty, columns, sharex=True, sharey="row", squeeze=False)
        for family, column in zip(band, grid.T, strict=False):
            _draw_family(profile, ratios, family, column)
        for ax in grid[:, len(band) :].flat:
            ax.set_axis_off()
        grid[0, 0].set_ylabel("ε-MSE")
        if not ratios.empty:
            grid[1, 0].set_ylabel(f"against {BASELINE}")
            change_axis(grid[1, 0], "y", *_limits(ratios), CHANGES)
    note_below(result, _notes(profile, ratios))
    return result


def _legend_height(band: list[Family]) -> int:
    lines = max(legend_lines(family.arms, _characters(family)) for family in band)
    return lines + bool(band[0].title)


def _characters(family: Family) -> int:
    return LEGEND_CHARACTERS if family.title else COLUMN_CHARACTERS


def _draw_family(
    profile: pd.DataFrame, ratios: pd.DataFrame, family: Family, column: np.ndarray
) -> None:
    """The family's profile and, where there is a second panel, its change against B."""
    looks = {arm: look for arm, look in arm_styles(profile).items() if arm in family.arms}
    denoising_profile(profile, looks, column[0])
    log_scale(column[0], profile["value"], LOG_SPAN)
    legend_over(column[0], _characters(family), family.title)
    if len(column) > 1:
        denoising_profile(ratios, looks, column[1])
    column[-1].set_xlabel("noise time $t$")


def _limits(ratios: pd.DataFrame) -> tuple[float, float]:
    summary = over_seeds(ratios, BY)
    half = summary["half_width"].fillna(0.0)
    ends = np.concatenate([summary["mean"] - half, summary["mean"] + half])
    return covering(ends, CHANGES)


def _notes(profile: pd.DataFrame, ratios: pd.DataFrame) -> list[str]:
    first = profile.iloc[0]
    steps = sorted(set(profile["step"]))
    notes = [f"step {', '.join(f'{step:,}' for step in steps)}", "1 is pure noise"]
    notes.append(f"{first['weights']} weights")
    notes += [f"{first['n_reference']} held-out images"] if first["n_reference"] else []
    notes += [] if ratios.empty else [f"change against {BASELINE} of the same seed"]
    seeds = over_seeds(profile, (*CONDITION, *BY))["seeds"]
    return [*notes, seed_note(seeds), declared_note(profile)]
