"""Held-out ε-MSE by noise level at the last milestone, and its ratio to the baseline."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.results import BASELINE, CONDITION, EPS_MSE, over_seeds, split_conditions
from plots.fid_vs_steps import LOG_SPAN
from plots.style import (
    COLUMN_INCHES,
    arm_styles,
    declared_note,
    legend_above,
    new_figure,
    note_below,
    seed_note,
)

BY = ("arm", "level")


def last_profile(frame: pd.DataFrame) -> pd.DataFrame:
    """ε-MSE rows of the last milestone, of the first condition by name (EMA before raw)."""
    parts = split_conditions(frame[frame["metric"] == EPS_MSE])
    if not parts:
        return frame.iloc[:0]
    return parts[0][parts[0]["step"] == parts[0]["step"].max()]


def ratio_to_baseline(profile: pd.DataFrame) -> pd.DataFrame:
    """Profile rows with value / B's value at the same seed and level; seeds without B drop out."""
    pair = ["seed", "sampling_seed", "level"]
    baseline = profile[profile["arm"] == BASELINE].set_index(pair)["value"].rename("baseline")
    joined = profile.join(baseline, on=pair, how="inner")
    return joined.assign(value=joined["value"] / joined["baseline"]).drop(columns="baseline")


def denoising_profile(profile: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """A line per arm over the noise levels, shaded where there are several seeds.

    Args:
        profile: rows of one condition and step, with a level each.
        looks: style by arm.
        ax: axes to draw on.
    """
    summary = over_seeds(profile, BY)
    for index, (arm, look) in enumerate(looks.items()):
        own = summary[summary["arm"] == arm]
        # Markers stand on different levels, for the lines are close together.
        every = (index % 4, 4) if len(own) > 8 else 1
        ax.plot(own["level"], own["mean"], label=arm, markevery=every, **look)
        low, high = own["mean"] - own["half_width"], own["mean"] + own["half_width"]
        ax.fill_between(own["level"], low, high, color=look["color"], alpha=0.15, linewidth=0)
    ax.set_xlim(0, 1)
    ax.grid(axis="y")
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """The profiles of all arms; below them, if the study has B, their ratio to B."""
    profile = last_profile(frame)
    looks = arm_styles(profile)
    has_baseline = BASELINE in looks
    result = new_figure(COLUMN_INCHES, 3.2 if has_baseline else 2.0)
    axes = result.subplots(1 + has_baseline, 1, sharex=True, squeeze=False).ravel()
    denoising_profile(profile, looks, axes[0])
    if profile["value"].max() > LOG_SPAN * profile["value"].min():
        axes[0].set_yscale("log")
    axes[0].set_ylabel("ε-MSE")
    if has_baseline:
        ratio = ratio_to_baseline(profile)
        denoising_profile(ratio, looks, axes[1])
        axes[1].set_ylabel(f"ratio to {BASELINE}")
    axes[-1].set_xlabel("noise level $t\\,/\\,n_T$ (1 = pure noise)")
    legend_above(axes[0])
    first = profile.iloc[0]
    notes = [f"step {first['step']}", f"{first['weights']} weights"]
    notes += [f"{first['n_reference']} held-out images"] if first["n_reference"] else []
    seeds = over_seeds(profile, (*CONDITION, *BY))["seeds"]
    note_below(result, [*notes, seed_note(seeds), declared_note(profile)])
    return result
