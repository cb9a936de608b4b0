"""Do pictures show what their captions say: by training step, and by feature at the end."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.caption_shares import (
    ALL,
    CHANGED,
    STATEMENTS,
    Share,
    features_by_amplitude,
    mean_shares,
    shares_of,
)
from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import arm_order
from plots.arm_groups import main_arms, selection_note
from plots.arm_lines import arm_lines, arm_points
from plots.style import (
    GREY,
    PAGE_INCHES,
    arm_styles,
    declared_note,
    legend_above,
    new_figure,
    note_below,
    seed_note,
    step_axis,
)

KINDS = (STATEMENTS, CHANGED)


def faithful_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the shares that are drawn."""
    return pd.concat([shares_of(frame, kind.own) for kind in KINDS])


def over_steps(frame: pd.DataFrame, kind: Share, looks: dict[str, Any], ax: Axes) -> Axes:
    """One kind of share over training: a line an arm, grey lines for chance and real portraits.

    Args:
        frame: of a study's rows.
        kind: of ``KINDS``.
        looks: style by arm.
        ax: axes to draw on.
    """
    rows = shares_of(frame, kind.own)
    rows = rows[(rows["feature"] == ALL) & rows["arm"].isin(list(looks))]
    arm_lines(over_seeds(rows), "step", looks, ax, hollow=True)
    for means, dashes in _beside(frame[frame["step"] == frame["total_steps"]], kind):
        if ALL in means:
            ax.axhline(means[ALL], color=GREY, linestyle=dashes, linewidth=0.9, zorder=0)
    ax.grid(axis="y")
    step_axis(ax, int(frame["total_steps"].max()))
    return ax


def by_feature(
    frame: pd.DataFrame,
    kind: Share,
    features: list[str],
    looks: dict[str, Any],
    ax: Axes,
) -> Axes:
    """One kind of share at the end: a point for each feature and arm, strokes for what is beside.

    Args:
        frame: rows of the last steps.
        kind: of ``KINDS``.
        features: places from left to right.
        looks: style by arm.
        ax: axes to draw on.
    """
    summary = over_seeds(shares_of(frame, kind.own), ("arm", "feature"))
    # Of one seed it is the standard error over images.
    bars = summary["half_width"].fillna(summary["error"])
    arm_points(summary.assign(half_width=bars), "feature", features, looks, ax)
    for means, dashes in _beside(frame, kind):
        for number, feature in enumerate(features):
            if feature in means:
                ends, value = (number - 0.42, number + 0.42), means[feature]
                ax.plot(ends, (value, value), color=GREY, linestyle=dashes, linewidth=0.9)
    ax.set_xticks(range(len(features)), features, rotation=40, ha="right")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """Above: all statements over training. Below: by feature at the end, the coarsest first."""
    rows = faithful_rows(frame)
    arms = arm_order(rows)
    shown = main_arms(arms)
    looks = {arm: look for arm, look in arm_styles(rows).items() if arm in shown}
    last = frame[frame["step"] == frame["total_steps"]]
    known = set(rows["feature"])
    features = [one for one in features_by_amplitude(frame) if one in known]
    result = new_figure(PAGE_INCHES, 5.4)
    axes = result.subplots(2, 2, sharey=True)
    for kind, column in zip(KINDS, axes.T, strict=True):
        over_steps(frame, kind, looks, column[0])
        by_feature(last, kind, features, looks, column[1])
        for ax in column:
            # seaborn hides the label of an axis without numbers.
            ax.set_ylabel(f"{kind.title}, %", visible=True)
    axes[0, 0].set_ylim(-3, 103)
    legend_above(axes[0, 0])
    first = rows.iloc[0]
    notes = [
        "dashed: real portraits, read by the same classifier",
        "dotted: other prompts' pictures, at the end",
        "features from large to small change of a portrait",
        f"{first['weights']}, {first['sampler']} {first['sampler_steps']} steps",
        seed_note(over_seeds(rows, ("metric", "arm", "step"))["seeds"]),
        declared_note(rows),
    ]
    note_below(result, [*notes, *selection_note(shown, arms)])
    return result


def _beside(frame: pd.DataFrame, kind: Share) -> list[tuple[dict[str, float], str]]:
    """Chance and real portraits by feature, and how they are drawn."""
    return [(mean_shares(frame, kind.chance), ":"), (mean_shares(frame, kind.real), "--")]
