"""What quality costs: distance against seconds of training, along the runs and at their end."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.answer import reservations
from benchmark.analysis.over_seeds import over_seeds
from benchmark.analysis.scales import USUAL_SCALE, Scale
from benchmark.analysis.statistics import mean_and_interval
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import arm_order, distance_rows, split_conditions
from benchmark.rows.metric_names import is_smoke
from benchmark.study.arm_names import BASELINE
from plots.arm_lines import arm_lines
from plots.change_axis import BEYOND_NOTE, change_axis, covering, cut, is_wide, margin_zone
from plots.figures.fid_vs_steps import log_axis
from plots.style import (
    LINE_INCHES,
    PAGE_CHARACTERS,
    PAGE_INCHES,
    arm_styles,
    declared_note,
    label_powers,
    legend_lines,
    new_figure,
    note_below,
    seed_note,
)


def cost_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Full-range rows of the distance with the most milestones; none where no time was kept."""
    rows = distance_rows(frame)
    rows = rows[rows["full_range"] & (rows["train_seconds"] > 0)]
    parts = split_conditions(rows)
    return max(parts, key=lambda part: part["step"].nunique()) if parts else rows


def end_costs(study: StudyAnalysis) -> pd.DataFrame:
    """Cost of each arm's run and quality of its end, against the baseline's; none without one.

    Returns:
        Index arm; columns cost (mean log ratio to B of the same seed), quality (mean change of the
        primary metric from that B), half_width (of the quality's 95 % interval; NaN for one seed)
        and seeds.
    """
    frame, endpoint = study.frame, study.endpoint
    columns = ["cost", "quality", "half_width", "seeds"]
    if endpoint is None or BASELINE not in endpoint.values.columns:
        return pd.DataFrame(columns=columns)
    ends = frame[(frame["step"] == frame["total_steps"]) & (frame["train_seconds"] > 0)]
    seconds = ends.groupby(["seed", "arm"])["train_seconds"].max().unstack()
    logs = np.log(seconds.reindex(columns=endpoint.values.columns))
    found = {}
    for arm in endpoint.values.columns:
        # Without NaN: seeds that have both arms, their quality and their time.
        both = pd.DataFrame(
            {
                "cost": logs[arm] - logs[BASELINE],
                "quality": endpoint.values[arm] - endpoint.values[BASELINE],
            }
        ).dropna()
        if not both.empty:
            summary = mean_and_interval(both["quality"])
            half = np.nan if summary.half_width is None else summary.half_width
            found[arm] = (both["cost"].mean(), summary.mean, half, summary.n)
    return pd.DataFrame.from_dict(found, orient="index", columns=columns)


def by_seconds(rows: pd.DataFrame, looks: dict[str, Any], ax: Axes) -> Axes:
    """A line an arm through its full-range milestones, seconds and distance averaged over seeds.

    Args:
        rows: of ``cost_rows``.
        looks: style by arm.
        ax: axes to draw on.
    """
    seconds = rows.groupby(["arm", "step"])["train_seconds"].mean()
    summary = over_seeds(rows).join(seconds, on=["arm", "step"])
    # One axis is time, the other distance: an interval of one of them would mislead.
    arm_lines(summary.assign(half_width=np.nan), "train_seconds", looks, ax, sort=False)
    log_axis(0.0, ax)
    ax.set_xscale("log")
    label_powers(ax.xaxis)
    ax.grid()
    return ax


def at_the_end(ends: pd.DataFrame, scale: Scale, looks: dict[str, Any], ax: Axes) -> Axes:
    """A point an arm: what it costs and how good it is, both against the baseline.

    Args:
        ends: of ``end_costs``.
        scale: of the quality.
        looks: style by arm.
        ax: axes to draw on.
    """
    margin_zone(ax, "y", scale)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    half = ends["half_width"].fillna(0.0)
    ends = ends.assign(low=ends["quality"] - half, high=ends["quality"] + half)
    change_axis(ax, "y", *covering(ends[["low", "high"]].to_numpy(), scale), scale)
    change_axis(ax, "x", *covering(ends["cost"], USUAL_SCALE), USUAL_SCALE)
    for arm, row in ends.iterrows():
        look = looks[str(arm)]
        place = float(np.clip(row["quality"], min(ax.get_ylim()), max(ax.get_ylim())))
        (cost,) = cut(ax, "x", place, (row["cost"],), look["color"])
        bar = cut(ax, "y", cost, (row["low"], row["quality"], row["high"]), look["color"])
        is_inside = (cost, bar[1]) == (row["cost"], row["quality"])
        points = look | {"linestyle": "none", "elinewidth": 0.8}
        points |= {} if is_inside else {"marker": ""}
        ax.errorbar(cost, bar[1], yerr=np.diff(bar)[:, None], **points)
    ax.set_xlabel(f"training time against {BASELINE}")
    return ax


def figure(study: StudyAnalysis) -> Figure:
    """Left along the runs, right at their ends where there is a baseline."""
    rows, ends = cost_rows(study.frame), end_costs(study)
    all_looks = arm_styles(study.frame)
    looks = {arm: all_looks[arm] for arm in arm_order(rows)}
    lines = legend_lines(list(looks), PAGE_CHARACTERS)
    result = new_figure(PAGE_INCHES, 2.5 + LINE_INCHES * lines)
    axes = result.subplots(1, 1 if ends.empty else 2, squeeze=False)[0]
    by_seconds(rows, looks, axes[0])
    axes[0].set_xlabel("seconds of training")
    axes[0].set_ylabel(str(rows["metric"].iloc[0]))
    if not ends.empty:
        at_the_end(ends, study.scale, all_looks, axes[1])
        axes[1].set_ylabel(f"{study.noun} against {BASELINE}")
    handles, labels = axes[0].get_legend_handles_labels()
    columns = -(-len(labels) // lines)
    result.legend(handles, labels, loc="outside upper left", ncols=columns)
    half = ends["half_width"].fillna(0.0)
    reach = pd.concat([ends["quality"] - half, ends["quality"] + half])
    beyond = [BEYOND_NOTE] * (is_wide(reach, study.scale) or is_wide(ends["cost"], USUAL_SCALE))
    note_below(result, [*_notes(rows), *beyond, *reservations(study)])
    return result


def _notes(rows: pd.DataFrame) -> list[str]:
    devices = sorted(set(rows["device"]))
    notes = ["time: of training alone, other work on the machine included"]
    notes.append(f"on {'; '.join(devices)}")
    notes.append(seed_note(over_seeds(rows)["seeds"], "right, bars"))
    notes += ["smoke: n < 2048 images"] if is_smoke(int(rows["n_generated"].min())) else []
    return [*notes, declared_note(rows)]
