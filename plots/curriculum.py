"""What is trained when: noise range, active channels and penalty over the steps of each arm."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.results import arm_order, curriculum_frame
from plots.style import GREY, PAGE_INCHES, arm_styles, new_figure, note_below, step_axis

ARMS_PER_ROW = 4
_PANELS = (
    ("noise range\n$t\\,/\\,n_T$", ("t_min", "t_max")),
    ("active\nchannels", ("active_channels",)),
    ("penalty λ", ("penalty_lambda",)),
)


def first_seed_stages(frame: pd.DataFrame) -> pd.DataFrame:
    """The stages of each arm's first seed (a paced curriculum differs between seeds)."""
    stages = curriculum_frame(frame)
    return stages[stages["seed"] == stages.groupby("arm")["seed"].transform("min")]


def noise_range(stages: pd.DataFrame, colour: str, ax: Axes) -> Axes:
    """A band from t_min to t_max for each stage of one arm, stages apart by thin white lines."""
    ax.bar(
        stages["from_step"],
        stages["t_max"] - stages["t_min"],
        width=stages["to_step"] - stages["from_step"],
        bottom=stages["t_min"],
        align="edge",
        color=colour,
        alpha=0.4,
        edgecolor="white",
        linewidth=0.8,
    )
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1])
    return ax


def level_by_stage(stages: pd.DataFrame, name: str, colour: str, ax: Axes) -> Axes:
    """A step line of one quantity of one arm; ``not used`` where the arm has none."""
    if stages[name].isna().all():
        ax.text(0.5, 0.5, "not used", transform=ax.transAxes, color=GREY, ha="center", va="center")
        return ax
    edges = [*stages["from_step"], stages["to_step"].iloc[-1]]
    ax.stairs(stages[name], edges, baseline=None, color=colour, linewidth=1.4)
    return ax


def curriculum(stages: pd.DataFrame, arm: str, look: dict[str, Any], axes: Any) -> Any:
    """Draw one arm on a column of three axes: noise range, active channels, penalty.

    Args:
        stages: rows of ``curriculum_frame``, of one arm and seed.
        arm: the name in the title.
        look: the arm's style; its colour is used.
        axes: three axes.
    """
    noise_range(stages, look["color"], axes[0])
    for ax, (_, (name,)) in zip(axes[1:], _PANELS[1:], strict=True):
        level_by_stage(stages, name, look["color"], ax)
    axes[0].set_title(arm)
    return axes


def figure(frame: pd.DataFrame) -> Figure:
    """A column of panels per arm, at most four arms side by side; x and y are shared."""
    stages = first_seed_stages(frame)
    arms, looks = arm_order(stages), arm_styles(stages)
    bands = [arms[start : start + ARMS_PER_ROW] for start in range(0, len(arms), ARMS_PER_ROW)]
    result = new_figure(PAGE_INCHES, 2.75 * len(bands) + 0.1)
    grid = result.subplots(
        3 * len(bands),
        min(len(arms), ARMS_PER_ROW),
        squeeze=False,
        sharex=True,
        gridspec_kw={"height_ratios": [1.6, 1, 1] * len(bands)},
    )
    for index, band in enumerate(bands):
        _draw_band(stages, band, looks, grid[3 * index : 3 * index + 3])
    seeds = sorted(set(stages["seed"]))
    note = [f"seed {', '.join(map(str, seeds))}", "$t\\,/\\,n_T=1$ is pure noise"]
    note_below(result, note)
    return result


def _draw_band(stages: pd.DataFrame, arms: list[str], looks: dict[str, Any], grid: Any) -> None:
    total = int(stages["to_step"].max())
    for column in range(grid.shape[1]):
        if column >= len(arms):
            for ax in grid[:, column]:
                ax.remove()
            continue
        arm = arms[column]
        curriculum(stages[stages["arm"] == arm], arm, looks[arm], grid[:, column])
        for ax in grid[:, column]:
            step_axis(ax, total, label=False)
            ax.tick_params(labelleft=column == 0)
        grid[2, column].set_xlabel("training steps")
        grid[2, column].tick_params(labelbottom=True)
    for row, (label, names) in enumerate(_PANELS):
        grid[row, 0].set_ylabel(label)
        if row:
            _share_limits(grid[row, : len(arms)], float(stages[names[0]].max()))


def _share_limits(axes: Any, highest: float) -> None:
    """One scale from zero for all arms; none of it if no arm has the quantity."""
    for ax in axes:
        used = highest > 0
        ax.set_ylim((-0.06 * highest, 1.12 * highest) if used else (0, 1))
        ax.set_yticks([0, highest / 2, highest] if used else [])
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4), useMathText=True)
