"""What is trained when: exposure of each noise level over the steps, and in all, of each arm."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from benchmark.analysis.exposure import run_averages, stage_exposure
from benchmark.rows.frames import curriculum_frame
from benchmark.rows.metric_names import EXPOSURE
from mindiffusion.curriculum.exposure import NUM_BINS
from plots.arm_groups import alike, listed
from plots.style import PAGE_INCHES, new_figure, note_below, step_axis, text_beside

ARMS_PER_ROW = 3
ROW_INCHES = 1.55
TITLE_WIDTH = 32
# The darker, the more is trained (in grey too); white is not at all.
COLOURS = "viridis_r"
RANGE = (0.2, 5.0)
# The average at which bars end; more than all of a run in one of all bins there cannot be.
WIDEST = float(NUM_BINS)
_BAR = "0.75"


def has_rows(frame: pd.DataFrame) -> bool:
    """Whether stages were written, with or without their exposure."""
    return bool(frame["metric"].isin(("t_min", EXPOSURE)).any())


def exposure(frame: pd.DataFrame) -> pd.DataFrame:
    """The exposure of each arm's first seed by stage and bin (a paced curriculum's seeds differ).

    Arms whose rows have windows only are those trained uniformly within them.

    Returns:
        What ``stage_exposure`` returns, of one seed an arm.
    """
    known = stage_exposure(frame)
    windows = curriculum_frame(frame)
    windows = windows[~windows["arm"].isin(known["arm"]) & windows["t_min"].notna()]
    stages = pd.concat([known, *(_of_window(row) for _, row in windows.iterrows())])
    return stages[stages["seed"] == stages.groupby("arm")["seed"].transform("min")]


def _of_window(stage: pd.Series) -> pd.DataFrame:
    """Exposure of a stage that draws t uniformly from its window."""
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    # The lowest level of a whole range is the first one above 0.
    low = 0.0 if stage["t_min"] < 0.5 / NUM_BINS else stage["t_min"]
    inside = np.diff(np.clip(edges, low, max(low, stage["t_max"])))
    columns = ["arm", "seed", "stage", "from_step", "to_step"]
    return pd.DataFrame(
        {name: stage[name] for name in columns}
        | {"level": edges[1:], EXPOSURE: inside / max(inside.sum(), 1e-9) * NUM_BINS}
    )


def heat_map(stages: pd.DataFrame, ax: Axes) -> QuadMesh:
    """Exposure of one run by step and noise level, the colours in equal ratios; 0 is white.

    Args:
        stages: rows of ``exposure``, of one arm.
        ax: axes to draw on.
    """
    grid = stages.pivot_table(index="level", columns="from_step", values=EXPOSURE)
    steps = [*grid.columns, stages["to_step"].max()]
    levels = [0.0, *grid.index]
    values = np.ma.masked_equal(grid.to_numpy(), 0.0)
    mesh = ax.pcolormesh(steps, levels, values, cmap=COLOURS, norm=LogNorm(*RANGE), rasterized=True)
    for step in steps[1:-1]:
        ax.axvline(step, color="0.6", linewidth=0.5)
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1])
    return mesh


def averages(average: pd.Series, ax: Axes) -> Axes:
    """Bars of the run's average exposure beside the heat map; the line is plain training's 1.

    Args:
        average: of ``run_averages``, indexed by the part alone.
        ax: axes that share the heat map's y.
    """
    width = 1 / len(average)
    ax.barh(average.index - width / 2, average, height=0.85 * width, color=_BAR)
    ax.axvline(1, color="black", linewidth=0.8)
    for place, value in zip(average.index - width / 2, average, strict=True):
        text_beside(ax, 1, place, _average_text(value))
    ax.set_xticks([0, 1])
    ax.tick_params(labelleft=False, left=False)
    ax.spines["left"].set_visible(False)
    return ax


def _average_text(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.2f}" if abs(value) <= WIDEST else f"{value:.1g}"


def figure(frame: pd.DataFrame) -> Figure:
    """A heat map and its bars for each curriculum, three side by side."""
    stages = exposure(frame)
    groups = alike(stages, ["from_step", "to_step", "level", EXPOSURE])
    columns = min(len(groups), ARMS_PER_ROW)
    rows = -(-len(groups) // ARMS_PER_ROW)
    result = new_figure(PAGE_INCHES, ROW_INCHES * rows + 0.25)
    grid: Any = result.subplots(
        rows, 2 * columns, squeeze=False, sharey=True,
        gridspec_kw={"width_ratios": [2.6, 1] * columns},
    )  # fmt: skip
    total = int(stages["to_step"].max())
    pairs = grid.reshape(rows * columns, 2)
    averages_of_runs = run_averages(stages)
    widest = averages_of_runs.fillna(1.0).clip(1.0, WIDEST).max()
    for arms, (left, right) in zip(groups, pairs, strict=False):
        own = stages[stages["arm"] == arms[0]]
        mesh = heat_map(own, left)
        left.set_title(listed(arms, TITLE_WIDTH), loc="left")
        step_axis(left, total, label=False)
        averages(run_averages(own).droplevel(["arm", "seed"]), right)
        right.set_xlim(0, widest)
    for ax in pairs[len(groups) :].flat:
        ax.set_axis_off()
    for left in grid[:, 0]:
        left.set_ylabel("noise time $t$")
    for left, right in pairs[max(0, len(groups) - columns) : len(groups)]:
        left.set_xlabel("training steps")
        right.set_xlabel("average")
    # Numbers stand to the right of the last bars.
    bar = result.colorbar(
        mesh, ax=grid[:, -1].tolist(), aspect=30, pad=0.12, extend="both", label="exposure"
    )
    bar.set_ticks([0.2, 0.5, 1, 2, 5], labels=["0.2", "0.5", "1", "2", "5"])
    bar.ax.minorticks_off()
    note_below(result, _notes(stages))
    return result


def _notes(stages: pd.DataFrame) -> list[str]:
    seeds = sorted(set(stages["seed"]))
    return [
        "exposure: how often a noise level is trained, 1: as in plain training, white: not at all",
        "bars: average over the run, by fifths of t",
        f"seed {', '.join(map(str, seeds))}",
        "$t=1$ is pure noise",
    ]
