"""What channels carry, by the stage in which they were switched on: the network without them."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import arm_order, rows_named
from benchmark.rows.metric_names import (
    ABLATION,
    ABLATION_ACCURACY,
    ABLATION_ACCURACY_RANDOM,
    ABLATION_RANDOM,
    ABLATION_UNITS,
)
from plots.arm_groups import main_arms, selection_note
from plots.figures.feature_emergence import by_amplitude
from plots.names import shortened
from plots.style import (
    GREY,
    LINE_INCHES,
    PAGE_INCHES,
    declared_note,
    new_figure,
    note_below,
    seed_note,
)

MOST_ARMS, MOST_STAGES, MOST_ATTRIBUTES = 4, 10, 14
PANEL_INCHES, LINE_OF_MAP = 1.8, 0.17
NAME = 16
"""Characters of an attribute."""


def of_stages(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows ``metric/k`` and ``metric/k/…``, with columns ``stage`` (k) and ``what`` (the rest)."""
    rows = rows_named(frame, f"{metric}/(?P<stage>[0-9]{{1,4}})(?:/(?P<what>.+))?")
    return rows.assign(stage=rows["stage"].astype("int64"))


def ablation_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The change of the held-out error, by stage."""
    return of_stages(frame, ABLATION)


def change_by_level(
    own: pd.DataFrame, random: pd.DataFrame, colours: dict[int, Any], ax: Axes
) -> Axes:
    """One arm: the change of ε-MSE by noise level, a line a stage; dashed: as many at random.

    Args:
        own: of one arm, without the channels of each stage.
        random: likewise, without as many chosen at random.
        colours: stage → colour.
        ax: axes to draw on.
    """
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    for rows, dashes in ((random, (0, (2, 1.5))), (own, "-")):
        summary = over_seeds(rows, ("stage", "level"))
        for stage, part in summary.groupby("stage"):
            colour = colours.get(int(str(stage)))
            if colour is None:
                continue
            label = f"stage {stage}" if dashes == "-" else None
            ax.plot(part["level"], part["mean"], color=colour, linestyle=dashes, label=label)
            low, high = part["mean"] - part["half_width"], part["mean"] + part["half_width"]
            ax.fill_between(part["level"], low, high, color=colour, alpha=0.12, linewidth=0)
    # Powers of ten on both sides of 0: the stages differ by more than one.
    largest = float(own["value"].abs().max())
    ax.set_yscale("symlog", linthresh=max(largest * 1e-2, 1e-12), linscale=0.5)
    ax.set_xlim(0, 1)
    ax.grid(axis="y")
    return ax


def beyond_random(frame: pd.DataFrame) -> pd.DataFrame:
    """Change of accuracy less that of random channels: a row an arm, seed, stage and attribute.

    Means over noise levels; stages whose random sets were not measured drop out.
    """
    by = ["arm", "seed", "stage", "what"]
    own, random = (
        of_stages(frame, metric).groupby(by)["value"].mean()
        for metric in (ABLATION_ACCURACY, ABLATION_ACCURACY_RANDOM)
    )
    return (own - random).dropna().rename("value").reset_index()


def attributes_by_stage(
    rows: pd.DataFrame, attributes: list[str], largest: float, ax: Axes
) -> Axes:
    """One arm: a heatmap of attributes, from coarse to fine, by the stage that is off.

    Args:
        rows: of ``beyond_random``, of one arm.
        attributes: from above.
        largest: the end of the colours, > 0.
        ax: axes to draw on.
    """
    table = rows.pivot_table(index="what", columns="stage", values="value", aggfunc="mean")
    table = table.reindex(attributes)
    norm = TwoSlopeNorm(0.0, -largest, largest)
    ax.imshow(table.to_numpy(), cmap=matplotlib.colormaps["RdBu"], norm=norm, aspect="auto")
    ax.set_xticks(range(len(table.columns)), [f"{stage}" for stage in table.columns])
    ax.set_yticks(range(len(attributes)), [shortened(name, NAME) for name in attributes])
    ax.tick_params(length=0)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            light = "white" if abs(value) > 0.6 * largest else "black"
            text = f"{100 * value:+.0f}".replace("-", "−")
            ax.text(column, row, text, ha="center", va="center", fontsize=5, color=light)
    ax.set_xlabel("stage that is off")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """A column an arm. Above: error by noise level. Below: attributes by the stage that is off."""
    own, random = ablation_rows(frame), of_stages(frame, ABLATION_RANDOM)
    arms = arm_order(own)
    shown = main_arms(arms, MOST_ARMS)
    stages = sorted(set(own["stage"]))[:MOST_STAGES]
    palette = sns.color_palette("viridis_r", len(stages))
    colours = dict(zip(stages, palette, strict=True))
    accuracy = beyond_random(frame)
    accuracy = accuracy[accuracy["arm"].isin(shown) & accuracy["stage"].isin(stages)]
    order = list(by_amplitude(frame, set(accuracy["what"])))[:MOST_ATTRIBUTES]
    heights = [PANEL_INCHES] + [LINE_OF_MAP * len(order) + 0.5] * bool(order)
    width = PAGE_INCHES * (0.55 if len(shown) == 1 else 1.0)
    result = new_figure(width, sum(heights) + 2 * LINE_INCHES)
    grid = result.subplots(
        len(heights), len(shown), squeeze=False, sharey="row", height_ratios=heights
    )
    for arm, column in zip(shown, grid.T, strict=True):
        change_by_level(own[own["arm"] == arm], random[random["arm"] == arm], colours, column[0])
        column[0].set_title(f"{arm}{_counts(frame, arm)}", loc="left", fontsize=7)
        column[0].set_xlabel("noise time $t$")
        if order:
            part = accuracy[accuracy["arm"] == arm]
            largest = max(float(accuracy["value"].abs().max()), 1e-6)
            attributes_by_stage(part, order, largest, column[1])
    grid[0, 0].set_ylabel("change of ε-MSE")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    result.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), 6))
    note_below(result, _notes(own, arms, shown, bool(order)))
    return result


def _counts(frame: pd.DataFrame, arm: str) -> str:
    """How many channels each stage has, such as ": 13+13+12 channels"."""
    rows = of_stages(frame[frame["arm"] == arm], ABLATION_UNITS)
    counts = rows.groupby("stage")["value"].mean()
    return f": {'+'.join(f'{count:g}' for count in counts)}" if 0 < len(counts) <= 8 else ""


def _notes(rows: pd.DataFrame, arms: list[str], shown: list[str], has_map: bool) -> list[str]:
    first = rows.iloc[0]
    notes = [
        "the network without the channels of a stage, minus the whole network",
        "dashed: without as many channels chosen at random",
        f"step {rows['step'].max():,}",
        f"{first['n_reference']} held-out images",
        "behind each arm: how many channels each stage switched on",
    ]
    if has_map:
        notes += [
            "below: accuracy of attributes in x̂₀, in points, less that without random channels",
            "attributes from coarse to fine",
        ]
    notes.append(seed_note(over_seeds(rows, ("arm", "stage", "level"))["seeds"]))
    return [*notes, *selection_note(shown, arms), declared_note(rows)]
