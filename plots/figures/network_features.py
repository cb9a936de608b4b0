"""Silhouettes and linear probes of networks' layers, by training step and by layer."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import arm_order, rows_named
from benchmark.rows.metric_names import PROBE, PROBE_CHANCE, SILHOUETTE
from plots.arm_groups import main_arms, selection_note
from plots.arm_lines import arm_lines
from plots.level_lines import spread
from plots.names import shortened
from plots.style import (
    GREY,
    LINE_INCHES,
    PAGE_CHARACTERS,
    PAGE_INCHES,
    arm_styles,
    declared_note,
    legend_lines,
    new_figure,
    note_below,
    per_row,
    seed_note,
    step_axis,
)

KINDS = {SILHOUETTE: "silhouette", PROBE: "probe accuracy"}
MOST_ATTRIBUTES, MOST_LAYERS = 3, 8
NAME = 18
"""Characters of an attribute or of a layer."""
PANEL_INCHES = 1.25


def of_layers(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of silhouettes and probes, with columns ``kind``, ``layer`` and ``attribute``."""
    kinds = "|".join(KINDS)
    rows = rows_named(frame, f"(?P<kind>{kinds})/(?P<layer>[^/]+)/(?P<attribute>[^/]+)")
    return rows[rows["weights"] == rows["weights"].min()]


def layers_in_order(rows: pd.DataFrame) -> list[str]:
    """Layers by name, numbers in it by size: of most networks this is the order of the network."""

    def key(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]

    return sorted(set(rows["layer"]), key=key)


def by_step(rows: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """A line an arm over training steps: the mean over layers and noise levels.

    Args:
        rows: of one kind and attribute.
        looks: style by arm.
        ax: axes to draw on.
    """
    arm_lines(over_seeds(rows), "step", looks, ax, hollow=True)
    step_axis(ax, int(rows["total_steps"].max()))
    ax.grid(axis="y")
    return ax


def by_layer(rows: pd.DataFrame, layers: list[str], looks: dict[str, Any], ax: Axes) -> Axes:
    """A line an arm through the layers, the mean over noise levels.

    Args:
        rows: of one kind, attribute and step.
        layers: from left to right.
        looks: style by arm.
        ax: axes to draw on.
    """
    place = {name: number for number, name in enumerate(layers)}
    placed = rows[rows["layer"].isin(place)]
    placed = placed.assign(place=placed["layer"].map(place))
    arm_lines(over_seeds(placed, ("arm", "place")), "place", looks, ax, hollow=True)
    ax.set_xlim(-0.3, len(layers) - 0.7)
    ax.set_xticks(range(len(layers)), [shortened(name, NAME) for name in layers], rotation=90)
    ax.grid(axis="y")
    return ax


def chance_of(frame: pd.DataFrame) -> dict[str, float]:
    """Attribute → accuracy of a guess."""
    rows = frame[frame["metric"].str.startswith(f"{PROBE_CHANCE}/")]
    names = rows["metric"].str.removeprefix(f"{PROBE_CHANCE}/")
    return {str(name): float(value) for name, value in rows.groupby(names)["value"].mean().items()}


def figure(frame: pd.DataFrame) -> Figure:
    """A column an attribute; for each measure a line of panels by step, and one by layer."""
    rows = of_layers(frame)
    arms, attributes = arm_order(rows), sorted(set(rows["attribute"]))
    rows = rows[rows["arm"].isin(main_arms(arms))]
    shown = attributes[:MOST_ATTRIBUTES]
    every = layers_in_order(rows)
    layers = [every[number] for number in spread(range(len(every)), MOST_LAYERS)]
    kinds = [kind for kind in KINDS if (rows["kind"] == kind).any()]
    looks = arm_styles(rows)
    lines = legend_lines(list(looks), PAGE_CHARACTERS)
    height = (2 * PANEL_INCHES + 0.8) * len(kinds) + LINE_INCHES * (lines + 1)
    result = new_figure(PAGE_INCHES, height)
    ratios = [1.0, 1.0] * len(kinds)
    grid = result.subplots(
        2 * len(kinds), len(shown), squeeze=False, sharey="row", height_ratios=ratios
    )
    chance = chance_of(frame)
    for name, column in zip(shown, grid.T, strict=True):
        column[0].set_title(shortened(name, NAME), loc="left")
        for number, kind in enumerate(kinds):
            own = rows[(rows["kind"] == kind) & (rows["attribute"] == name)]
            pair = column[2 * number : 2 * number + 2]
            if own.empty:
                for ax in pair:
                    ax.set_axis_off()
                continue
            by_step(own, looks, pair[0])
            by_layer(own[own["step"] == own["step"].max()], layers, looks, pair[1])
            _beside(pair, chance.get(name) if kind == PROBE else 0.0)
    for number, kind in enumerate(kinds):
        for ax, what in zip(grid[2 * number :, 0], ("by step", "by layer"), strict=False):
            ax.set_ylabel(f"{KINDS[kind]}\n{what}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    ncols = per_row(labels, PAGE_CHARACTERS)
    result.legend(handles, labels, loc="outside upper left", ncols=ncols)
    note_below(result, _notes(rows, arms, attributes, every))
    return result


def _beside(axes: Sequence[Axes], value: float | None) -> None:
    """A grey line at what a guess gives, or at no structure."""
    if value is None:
        return
    for ax in axes:
        ax.axhline(value, color=GREY, linewidth=0.6, zorder=0)


def _notes(
    rows: pd.DataFrame, arms: list[str], attributes: list[str], layers: list[str]
) -> list[str]:
    levels = ", ".join(f"{level:g}" for level in sorted(set(rows["level"].dropna())))
    notes = [
        f"mean over the noise times {levels}",
        "by step: mean over layers",
        f"by layer: step {rows['step'].max():,}",
        "grey: a guess, or no structure",
    ]
    if len(attributes) > MOST_ATTRIBUTES:
        notes.append(f"{MOST_ATTRIBUTES} of {len(attributes)} attributes shown")
    if len(layers) > MOST_LAYERS:
        notes.append(f"{MOST_LAYERS} of {len(layers)} layers shown")
    if not rows["full_range"].all():
        notes.append("hollow: not all noise levels trained yet")
    notes.append(seed_note(over_seeds(rows)["seeds"]))
    notes += selection_note(arm_order(rows), arms)
    return [*notes, declared_note(rows)]
