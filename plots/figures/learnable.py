"""What can be learned at each noise level, and what the networks have learned of it.

Between the mean predictor and the linear oracle lies what the data's mean and covariance teach;
below the oracle is what only a network can know.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.log_ratios import quotient
from benchmark.analysis.over_seeds import over_seeds
from benchmark.rows.frames import CONDITION, arm_order, split_conditions
from benchmark.rows.metric_names import EPS_MSE
from plots.arm_groups import main_arms, selection_note
from plots.level_lines import lines_by_level, step_note
from plots.style import (
    COLUMN_INCHES,
    arm_styles,
    declared_note,
    legend_above,
    log_scale,
    new_figure,
    note_below,
    seed_note,
)

LINEAR = f"{EPS_MSE}-linear"
MEAN = f"{EPS_MSE}-mean"
_BOUND = "0.35"
_PAIR = ["n_reference", "sampling_seed", "level"]


def learnable_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """ε-MSE rows of the first condition (EMA before raw) with columns ``linear`` and ``mean``.

    The bounds are those on the same images and noise; rows without them are left out.
    """
    parts = split_conditions(frame[frame["metric"] == EPS_MSE])
    if not parts:
        return frame.iloc[:0].assign(linear=0.0, mean=0.0)
    rows = parts[0]
    for name, metric in (("linear", LINEAR), ("mean", MEAN)):
        # All arms and milestones have the same bounds, however often they were written.
        bound = frame[frame["metric"] == metric].groupby(_PAIR)["value"].mean().rename(name)
        rows = rows.join(bound, on=_PAIR, how="inner")
    return rows


def relative_to_oracle(rows: pd.DataFrame) -> pd.DataFrame:
    """``learnable_rows`` in units of the linear oracle's ε-MSE."""
    ratios = {name: quotient(rows[name], rows["linear"]) for name in ("value", "mean")}
    return rows.assign(**ratios, linear=1.0).dropna(subset=list(ratios))


def learnable(rows: pd.DataFrame, ax: Axes) -> Axes:
    """ε-MSE of mean predictor, linear oracle and networks over the noise levels.

    Args:
        rows: of ``learnable_rows``.
        ax: axes to draw on.
    """
    bounds = rows.groupby("level")[["mean", "linear"]].mean()
    ax.fill_between(bounds.index, bounds["linear"], bounds["mean"], color="0.9", linewidth=0)
    ax.plot(
        bounds.index, bounds["mean"], color=_BOUND, linewidth=2.2, alpha=0.5, label="mean predictor"
    )
    ax.plot(bounds.index, bounds["linear"], color=_BOUND, linewidth=1.0, label="linear oracle")
    lines_by_level(rows.drop(columns=["mean", "linear"]), arm_styles(rows), ax)
    log_scale(ax, pd.concat([rows[name] for name in ("value", "mean", "linear")]))
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """Above: ε-MSE. Below: the same over the linear oracle's, so that 1 is as good as linear."""
    rows = learnable_rows(frame)
    arms = arm_order(rows)
    rows = rows[rows["arm"].isin(main_arms(arms))]
    result = new_figure(COLUMN_INCHES, 4.0)
    upper, lower = result.subplots(2, 1, sharex=True)
    learnable(rows, upper)
    upper.set_ylabel("ε-MSE")
    learnable(relative_to_oracle(rows), lower)
    lower.set_ylabel("ε-MSE / linear oracle's")
    lower.set_xlabel("noise time $t$ (1 = pure noise)")
    legend_above(upper)
    last = rows[rows["step"] == rows["step"].max()]
    first = last.iloc[0]
    notes = [step_note(rows), f"{first['weights']} weights"]
    notes += [f"{first['n_reference']} held-out images"]
    if not last["full_range"].all():
        notes.append("hollow: not all noise levels trained yet")
    seeds = over_seeds(rows, (*CONDITION, "arm", "step", "level"))["seeds"]
    notes += [seed_note(seeds), *selection_note(arm_order(rows), arms)]
    note_below(result, [*notes, declared_note(rows)])
    return result
