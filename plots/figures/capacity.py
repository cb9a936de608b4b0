"""What the arms' networks may use when: channels that are on, and the weight of the penalty."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.rows.frames import curriculum_frame
from plots.arm_groups import alike, listed
from plots.style import (
    COLUMN_INCHES,
    arm_styles,
    legend_above,
    new_figure,
    note_below,
    step_axis,
)

LABEL_WIDTH = 44
_LABELS = {"active_channels": "active channels", "penalty_lambda": "penalty λ"}


def capacity_stages(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By quantity, the stages of the arms in which it changes or acts; of each arm's first seed.

    Channels that are all on throughout, and a penalty that is 0 throughout, are no use of it.
    """
    stages = curriculum_frame(frame)
    stages = stages[stages["seed"] == stages.groupby("arm")["seed"].transform("min")]
    channels = stages.groupby("arm")["active_channels"]
    penalty = stages.groupby("arm")["penalty_lambda"].transform("max")
    used = {
        "active_channels": channels.transform("min") < channels.transform("max"),
        "penalty_lambda": penalty > 0,
    }
    return {name: stages[chosen] for name, chosen in used.items() if chosen.any()}


def by_stage(stages: pd.DataFrame, name: str, looks: dict[str, Any], ax: Axes) -> Axes:
    """Step lines of one quantity; arms with the same steps share a line.

    Args:
        stages: rows of ``curriculum_frame``, one seed an arm.
        name: its column.
        looks: style by arm.
        ax: axes to draw on.
    """
    for arms in alike(stages, ["from_step", "to_step", name]):
        own = stages[stages["arm"] == arms[0]]
        edges = [*own["from_step"], own["to_step"].iloc[-1]]
        look = {key: looks[arms[0]][key] for key in ("color", "linestyle")}
        label = listed(arms, LABEL_WIDTH)
        ax.stairs(own[name], edges, baseline=None, linewidth=1.4, label=label, **look)
    ax.grid(axis="y")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """A panel for the channels and one for the penalty, whichever the study has."""
    parts = capacity_stages(frame)
    result = new_figure(COLUMN_INCHES, 1.5 * len(parts) + 0.2)
    axes = result.subplots(len(parts), 1, squeeze=False, sharex=True).ravel()
    looks = arm_styles(frame)
    for (name, stages), ax in zip(parts.items(), axes, strict=True):
        by_stage(stages, name, looks, ax)
        step_axis(ax, int(frame["total_steps"].max()), label=False)
        ax.set_ylabel(_LABELS[name])
        if name == "penalty_lambda":
            # Doses differ by factors; 0 lies below the axis.
            positive = stages[name][stages[name] > 0]
            ax.set_yscale("log", nonpositive="clip")
            ax.set_ylim(0.5 * positive.min(), 2 * positive.max())
        else:
            ax.set_ylim(bottom=0)
        legend_above(ax)
    axes[-1].set_xlabel("training steps")
    seeds = sorted(set(pd.concat(parts.values())["seed"]))
    zero = ["λ = 0 lies below the axis"] if "penalty_lambda" in parts else []
    note_below(result, [f"seed {', '.join(map(str, seeds))}", *zero])
    return result
