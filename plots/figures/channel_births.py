"""When channels are switched on, how sure their choice is, and whether their mask did anything."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmark.analysis.log_ratios import quotient
from benchmark.analysis.mask_check import MANIPULATION_MINIMUM, mask_effects
from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import arm_order, curriculum_frame
from benchmark.rows.metric_names import EPS_MSE, MASK_EFFECT
from plots.arm_groups import alike, listed
from plots.arm_lines import arm_lines
from plots.style import (
    GREY,
    PAGE_INCHES,
    arm_styles,
    declared_note,
    legend_over,
    new_figure,
    note_below,
    seed_note,
    step_axis,
)

MOVEMENT = "weight-movement-"
PER_ROW, PANEL_INCHES, LEGEND_CHARACTERS = 2, 2.1, 52
AGREEMENT = "saliency_split_half_correlation"
BIRTH = ["stage", "born"]


def births(frame: pd.DataFrame) -> pd.DataFrame:
    """Channels born in each stage of the masked arms, those of the first stage included.

    Returns:
        Columns arm, stage (from 1), born; of each arm's first seed.
    """
    stages = curriculum_frame(frame)
    stages = stages[stages["seed"] == stages.groupby("arm")["seed"].transform("min")]
    channels = stages.groupby("arm")["active_channels"]
    stages = stages[channels.transform("min") < channels.transform("max")]
    born = stages.groupby("arm")["active_channels"].diff().fillna(stages["active_channels"])
    number = stages.groupby("arm").cumcount() + 1
    return stages[["arm"]].assign(stage=number, born=born)


def relative_effect(frame: pd.DataFrame) -> pd.DataFrame:
    """Mask-effect rows over the ε-MSE under the mask, at the milestone where each arm's is largest.

    That milestone is the one the manipulation check judges by; levels below the arm's window are
    left out, as they are there.
    """
    cell = ["arm", "seed", "sampling_seed", "step", "level", "weights"]
    under = frame[frame["metric"] == EPS_MSE].set_index(cell)["value"].rename("under")
    stages = curriculum_frame(frame)
    parts = [frame.iloc[:0]]
    for arm, effect in mask_effects(frame).items():
        own = frame[(frame["metric"] == MASK_EFFECT) & (frame["arm"] == arm)]
        own = own[own["step"] == effect.step].join(under, on=cell, how="inner")
        begun = stages[(stages["arm"] == arm) & (stages["from_step"] < effect.step)]
        own = own[own["level"] >= begun["t_min"].min()]
        own = own.assign(value=quotient(own["value"], own["under"]), error=np.nan)
        parts.append(own.drop(columns="under").dropna(subset="value"))
    return pd.concat(parts, ignore_index=True)


def has_rows(frame: pd.DataFrame) -> bool:
    """Whether a network of the study has a channel mask, and something was measured of it."""
    return bool(frame["metric"].isin((MASK_EFFECT, AGREEMENT)).any() and _panels(frame))


def bars_of_births(born: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """Bars of the channels born in each stage; arms with the same ones share their bars.

    Args:
        born: of ``births``.
        looks: style by arm.
        ax: axes to draw on.
    """
    groups = {arms[0]: listed(arms, LEGEND_CHARACTERS - 8) for arms in alike(born, BIRTH)}
    own = born[born["arm"].isin(groups)].assign(arm=born["arm"].map(groups))
    colours = {name: looks[arm]["color"] for arm, name in groups.items()}
    flat = {"errorbar": None, "saturation": 1, "gap": 0.08}
    sns.barplot(own, x="stage", y="born", hue="arm", palette=colours, ax=ax, **flat)
    for bars in ax.containers:
        assert isinstance(bars, BarContainer)
        ax.bar_label(bars, fmt="%g", fontsize=7, padding=1)
    ax.set_ylim(top=1.15 * born["born"].max())
    ax.tick_params(axis="x", length=0)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("stage in which they are switched on")
    ax.set_ylabel("channels")
    return ax


def agreement(rows: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """Rank correlation of two halves of the probe's saliency at each regrowth, a point a seed.

    Args:
        rows: of ``saliency_split_half_correlation``.
        looks: style by arm.
        ax: axes to draw on.
    """
    ax.axhline(0, color=GREY, linewidth=0.6)
    summary = over_seeds(rows)
    # Every seed is there as a point, so that shades would say it twice.
    colours = {arm: look["color"] for arm, look in looks.items()}
    light = {"s": 8, "alpha": 0.35, "linewidth": 0, "legend": False}
    sns.scatterplot(rows, x="step", y="value", hue="arm", palette=colours, ax=ax, **light)
    # The legend names those arms alone that grow channels.
    grown = {arm: look for arm, look in looks.items() if arm in set(summary["arm"])}
    arm_lines(summary.assign(half_width=np.nan), "step", grown, ax)
    ax.set_ylim(-0.05, 1.02)
    ax.set_ylabel("split-half rank correlation\nof the channels' saliency")
    return ax


def effect_by_level(rows: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """Change of ε-MSE when the mask is lifted, in percent, by noise level.

    Args:
        rows: of ``relative_effect``.
        looks: style by arm.
        ax: axes to draw on.
    """
    limit = 100 * MANIPULATION_MINIMUM
    ax.axhspan(-limit, limit, color="0.9", linewidth=0, zorder=0)
    ax.axhline(0, color=GREY, linewidth=0.6)
    steps = rows.groupby("arm")["step"].first()
    names = {arm: f"{arm}, step {steps[arm]:,}" for arm in arm_order(rows)}
    percent = rows.assign(value=100 * rows["value"], arm=rows["arm"].map(names))
    named = {name: looks[arm] for arm, name in names.items()}
    arm_lines(over_seeds(percent, ("arm", "level")), "level", named, ax, markersize=4)
    ax.set_xlim(0, 1)
    ax.set_xlabel("noise time $t$ (1 = pure noise)")
    ax.set_ylabel("ε-MSE with the mask lifted\nagainst under it, %")
    return ax


def masked_movement(frame: pd.DataFrame) -> pd.DataFrame:
    """How far masked channels' weights moved, over those of channels that are on.

    Returns:
        Result rows with that ratio and a column ``place`` (of the network): one where both exist.
    """
    rows = frame[frame["metric"].str.startswith(MOVEMENT)]
    names = rows["metric"].str.removeprefix(MOVEMENT).str.rsplit("-", n=1)
    rows = rows.assign(place=names.str[0], kind=names.str[1], error=np.nan)
    cell = ["arm", "seed", "sampling_seed", "step", "weights", "place"]
    on = rows[rows["kind"] == "on"].set_index(cell)["value"].rename("on")
    masked = rows[rows["kind"] == "masked"].join(on, on=cell, how="inner")
    return masked.assign(value=quotient(masked["value"], masked["on"])).dropna(subset="value")


def movement(rows: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """The ratio by step, a line for each arm and place in the network; 0 is what silence means.

    Args:
        rows: of ``masked_movement``.
        looks: style by arm.
        ax: axes to draw on.
    """
    ax.axhline(1, color=GREY, linewidth=0.6)
    for arm in arm_order(rows):
        look = looks[arm]
        faces = (look["color"], "white", "0.8")
        own = rows[rows["arm"] == arm]
        for (place, part), face in zip(own.groupby("place"), faces, strict=False):
            summary = over_seeds(part)
            shape = {"markerfacecolor": face, "markeredgecolor": look["color"]}
            ax.plot(summary["step"], summary["mean"], label=f"{arm}, {place}", **look | shape)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("movement of masked channels'\nweights over that of others'")
    return ax


def _panels(frame: pd.DataFrame) -> list[tuple[pd.DataFrame, Any]]:
    """The rows of each panel that has some, and what draws them."""
    panels: list[tuple[pd.DataFrame, Any]] = [
        (births(frame), bars_of_births),
        (frame[frame["metric"] == AGREEMENT], agreement),
        (relative_effect(frame), effect_by_level),
        (masked_movement(frame), movement),
    ]
    return [(rows, draw) for rows, draw in panels if not rows.empty]


def figure(frame: pd.DataFrame) -> Figure:
    """Above: births and the score's reliability. Below: the mask's effect and cleanness."""
    panels = _panels(frame)
    lines = -(-len(panels) // PER_ROW)
    result = new_figure(PAGE_INCHES, PANEL_INCHES * lines)
    grid = result.subplots(lines, PER_ROW, squeeze=False)
    looks, total = arm_styles(frame), int(frame["total_steps"].max())
    for (rows, draw), ax in zip(panels, grid.flat, strict=False):
        draw(rows, looks, ax)
        legend_over(ax, LEGEND_CHARACTERS)
        if draw in (agreement, movement):
            step_axis(ax, total)
    for ax in grid.flat[len(panels) :]:
        ax.set_axis_off()
    note_below(result, _notes(frame))
    return result


def _notes(frame: pd.DataFrame) -> list[str]:
    rows = frame[frame["metric"].isin((AGREEMENT, MASK_EFFECT))]
    return [
        f"grey: less than {100 * MANIPULATION_MINIMUM:g} % is no effect of the mask",
        "lifted: all channels on; at the milestone where it matters most",
        "movement: since the start of training, relative to the weights then",
        seed_note(over_seeds(rows, ("metric", "arm", "step"))["seeds"]),
        declared_note(rows),
    ]
