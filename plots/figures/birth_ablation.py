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
MIDDLE, HALVES = 0.5, ("low", "high")
"""Noise time between the halves, and their names."""
NORMAL_95 = 1.96
"""Standard errors of a 95 % interval."""


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
    """Change of accuracy less that of random channels: a row an arm, stage, attribute and half.

    Stages whose random sets were not measured drop out.

    Returns:
        Columns ``arm``, ``stage``, ``what``, ``half`` (of ``HALVES``), ``mean`` over the half's
        levels and over seeds, and ``clear``: the same where it lies beyond its 95 % interval over
        seeds, else NaN. With one seed the interval is that of the error over images and sets. The
        levels share their images, so a half's error is the mean of its levels' errors.
    """
    by = ["arm", "seed", "stage", "what", "level"]
    own, random = (
        of_stages(frame, metric).groupby(by)[["value", "error"]].mean()
        for metric in (ABLATION_ACCURACY, ABLATION_ACCURACY_RANDOM)
    )
    both = own.join(random.add_suffix("_random"), how="inner").reset_index()
    rows = both.assign(
        value=both["value"] - both["value_random"],
        error=np.hypot(both["error"], both["error_random"]),
        half=np.where(both["level"] < MIDDLE, *HALVES),
    )
    of_half = [*by[:-1], "half"]
    rows = rows.groupby(of_half)[["value", "error"]].mean().reset_index().assign(full_range=True)
    found = over_seeds(rows, ("arm", "stage", "what", "half"))
    reach = found["half_width"].fillna(NORMAL_95 * found["error"])
    return found.assign(clear=found["mean"].mask(found["mean"].abs() <= reach))


def attributes_by_stage(
    cells: pd.DataFrame, attributes: list[str], largest: float, ax: Axes
) -> Axes:
    """One arm: a heatmap of attributes, from coarse to fine, by the stage that is off.

    Args:
        cells: of ``beyond_random``, of one arm and half.
        attributes: from above.
        largest: the end of the colours, > 0.
        ax: axes to draw on.
    """
    table = cells.pivot(index="what", columns="stage", values="mean").reindex(attributes)
    clear = cells.pivot(index="what", columns="stage", values="clear").reindex(attributes)
    is_clear, norm = np.isfinite(clear.to_numpy()), TwoSlopeNorm(0.0, -largest, largest)
    ax.imshow(clear.to_numpy(), cmap=matplotlib.colormaps["RdBu"], norm=norm, aspect="auto")
    ax.set_xticks(range(len(table.columns)), [f"{stage}" for stage in table.columns])
    ax.set_yticks(range(len(attributes)), [shortened(name, NAME) for name in attributes])
    ax.tick_params(length=0)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            light = "white" if abs(value) > 0.6 * largest else "black"
            text = f"{100 * value:+.0f}".replace("-", "−")
            colour = light if is_clear[row, column] else GREY
            ax.text(column, row, text, ha="center", va="center", fontsize=5, color=colour)
    ax.set_xlabel("stage that is off")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """A column an arm. Above: error by noise level. Below: attributes by the stage that is off.

    Attributes at low noise and at high noise stand apart.
    """
    own, random = ablation_rows(frame), of_stages(frame, ABLATION_RANDOM)
    arms = arm_order(own)
    shown = main_arms(arms, MOST_ARMS)
    stages = sorted(set(own["stage"]))[:MOST_STAGES]
    palette = sns.color_palette("viridis_r", len(stages))
    colours = dict(zip(stages, palette, strict=True))
    accuracy = beyond_random(frame)
    accuracy = accuracy[accuracy["arm"].isin(shown) & accuracy["stage"].isin(stages)]
    order = list(by_amplitude(frame, set(accuracy["what"])))[:MOST_ATTRIBUTES]
    halves = [half for half in HALVES if half in set(accuracy["half"])]
    heights = [PANEL_INCHES] + [LINE_OF_MAP * len(order) + 0.6] * len(halves)
    width = PAGE_INCHES * (0.55 if len(shown) == 1 else 1.0)
    result = new_figure(width, sum(heights) + 2 * LINE_INCHES)
    grid = result.subplots(
        len(heights), len(shown), squeeze=False, sharey="row", height_ratios=heights
    )
    for arm, column in zip(shown, grid.T, strict=True):
        change_by_level(own[own["arm"] == arm], random[random["arm"] == arm], colours, column[0])
        column[0].set_title(f"{arm}{_counts(frame, arm)}", loc="left", fontsize=7)
        column[0].set_xlabel("noise time $t$")
        for half, ax in zip(halves, column[1:], strict=True):
            part = accuracy[(accuracy["arm"] == arm) & (accuracy["half"] == half)]
            largest = max(float(accuracy["mean"].abs().max()), 1e-6)
            attributes_by_stage(part, order, largest, ax)
            ax.set_title(f"{half} noise", loc="left", fontsize=6)
    grid[0, 0].set_ylabel("change of ε-MSE")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    result.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), 6))
    note_below(result, _notes(own, arms, shown, bool(halves)))
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
            f"low noise: $t$ < {MIDDLE:g}",
            "white: within the 95 % interval over seeds; of one seed, over images and random sets",
            "attributes from coarse to fine",
        ]
    notes.append(seed_note(over_seeds(rows, ("arm", "stage", "level"))["seeds"]))
    return [*notes, *selection_note(shown, arms), declared_note(rows)]
