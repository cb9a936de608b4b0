"""What a curriculum changes, taken apart: how often each noise level is trained, and the order.

Four arms make a 2 × 2: B has neither, density* C's exposure and last stage, C-flat the order alone,
C all of them. Where ``static`` is measured, which has C's exposure and no order at all, the total
is the sum of exposure, early order and what comes last.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.answer import reservations
from benchmark.analysis.findings import Endpoint, Finding, findings, primary_endpoint
from benchmark.study.terms import USUAL, Terms
from plots.figures.forest import interval_text
from plots.percent_axis import covering, cut, margin_zone, percent_axis
from plots.style import GREY, PAGE_INCHES, arm_style, new_figure, note_below, text_beside

# Arm → how often each noise level is trained, and whether high noise comes first.
CELLS = {
    "B": ("as plain\ntraining", "no early order"),
    "C-flat": ("as plain\ntraining", "high noise first"),
    "density*": ("as the\ncurriculum", "no early order"),
    "C": ("as the\ncurriculum", "high noise first"),
}
NEEDED = ("B", "density*", "C")
# Effects from the whole to its parts, as verdicts name them.
EFFECTS = {
    "C − B": "total",
    "static − B": "exposure",
    "C − density*": "early order",
    "density* − static": "last stage",
    "density* − B": "exposure + last",
    "C-flat − B": "order alone",
}
# seaborn sets strips of two kinds so far apart.
DODGE = 0.4


def has_rows(frame: pd.DataFrame, terms: Terms = USUAL) -> bool:
    """Whether exposure and order can be told apart: B, density* and C are measured at the end."""
    endpoint = primary_endpoint(frame, terms)
    return (
        endpoint is not None
        and set(NEEDED) <= set(endpoint.values.columns)
        and not _whole_seeds(endpoint.values).empty
    )


def _whole_seeds(values: pd.DataFrame) -> pd.DataFrame:
    """The 2 × 2's arms of a study, and the seeds that have them all."""
    return values[[arm for arm in CELLS if arm in values.columns]].dropna()


def without_blocks(values: pd.DataFrame) -> pd.DataFrame:
    """Log distances of the 2 × 2's arms against B's mean, without what all arms of a seed share.

    Of each seed its mean over the arms is taken away and the mean of all put in its place
    (Cousineau 2005): arms are compared within seeds, so that is the spread that counts. Seeds
    that lack one of the arms are left out.
    """
    whole = _whole_seeds(values)
    centred = whole.sub(whole.mean(axis=1), axis=0) + whole.to_numpy().mean()
    return centred - centred["B"].mean()


def interaction(values: pd.DataFrame, ax: Axes) -> Axes:
    """The 2 × 2: exposure along x, a line without the order and one with it.

    Args:
        values: of ``without_blocks``: a row a seed, a column an arm.
        ax: axes to draw on; y in percent of B's mean distance.
    """
    margin_zone(ax, "y")
    points = values.melt(var_name="arm")
    points[["exposure", "order"]] = [CELLS[arm] for arm in points["arm"]]
    means = points.groupby(["arm", "exposure", "order"], sort=False, as_index=False).mean()
    looks = {CELLS[arm][1]: arm_style(arm, [arm]) for arm in ("B", "C")}
    palette = {order: look["color"] for order, look in looks.items()}
    own: dict[str, Any] = {"x": "exposure", "y": "value", "hue": "order", "palette": palette}
    if len(values) > 1:
        light = {"size": 2.8, "alpha": 0.35, "linewidth": 0, "legend": False}
        sns.stripplot(points, **own, dodge=True, jitter=False, ax=ax, **light)
    # Each place has one mean, so seaborn estimates nothing.
    sns.pointplot(
        means, **own, dodge=DODGE, errorbar=None, ax=ax,
        markers=[look["marker"] for look in looks.values()],
        linestyles=[look["linestyle"] for look in looks.values()],
        linewidth=1.2, markersize=5, markeredgecolor="white", markeredgewidth=0.5,
    )  # fmt: skip
    for arm, exposure, order, mean in means.itertuples(index=False):
        side = 1 if order == CELLS["C"][1] else -1
        place = (side * DODGE / 2 + (exposure == CELLS["C"][0]), mean)
        look = {"color": palette[order], "ha": "left" if side > 0 else "right", "va": "center"}
        ax.annotate(arm, place, (9 * side, 0), "data", "offset points", **look)
    percent_axis(ax, "y", *covering(values.to_numpy()))
    ax.set_xlim(-0.5, 1.5)
    ax.set_xlabel("how often each noise level is trained")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2)
    return ax


def effects(found: Mapping[str, Finding], ax: Axes) -> Axes:
    """The total and its parts with their intervals, one below the other.

    Args:
        found: findings by contrast; those of ``EFFECTS`` are drawn.
        ax: axes to draw on.
    """
    margin_zone(ax, "x")
    shown = {contrast: found[contrast] for contrast in EFFECTS if contrast in found}
    if "static − B" in shown:
        # Its two parts are there.
        shown.pop("density* − B", None)
    percent_axis(
        ax, "x", *covering([x for f in shown.values() for x in (f.low, f.high, f.estimate)])
    )
    for place, finding in enumerate(shown.values()):
        low, high = (
            finding.estimate if math.isnan(end) else end for end in (finding.low, finding.high)
        )
        ends = cut(ax, "x", place, (low, finding.estimate, high), "black")
        half = np.diff(ends)[:, None]
        marker = "o" if ends[1] == finding.estimate else ""
        ax.errorbar(ends[1], place, xerr=half, color="black", linestyle="none", marker=marker)
        text_beside(ax, 6, place, f"{interval_text(finding)}\n{finding.verdict}", color=GREY)
    names = [f"{EFFECTS[contrast]}\n{contrast}" for contrast in shown]
    ax.set_yticks(range(len(shown)), names)
    ax.set_ylim(len(shown) - 0.4, -0.5)
    ax.tick_params(axis="y", length=0)
    return ax


def figure(frame: pd.DataFrame, terms: Terms = USUAL) -> Figure:
    """Left the 2 × 2, right the effects: order adds something if its interval leaves the zone."""
    endpoint = primary_endpoint(frame, terms)
    assert endpoint is not None
    result = new_figure(PAGE_INCHES, 2.7)
    left, right = result.subplots(1, 2, gridspec_kw={"width_ratios": (1.25, 1)})
    values = without_blocks(endpoint.values)
    interaction(values, left)
    left.set_ylabel(f"{endpoint.metric}\nagainst B's mean")
    found: dict[str, Finding] = {}
    for finding in findings(frame, terms):
        # Hypotheses come first; the same contrast may answer a claim that is not adjusted.
        found.setdefault(finding.contrast, finding)
    effects(found, right)
    right.set_xlabel(f"change of {endpoint.metric}")
    note_below(result, [*_notes(endpoint, len(values)), *reservations(frame, terms)])
    return result


def _notes(endpoint: Endpoint, seeds: int) -> list[str]:
    notes = ["grey zone: ±3 %, too small to matter"]
    if seeds == 1:
        notes.append("n=1 seed, no interval, nothing is decided")
    else:
        notes.append(f"n={seeds} seeds, light points: each, without what its arms share")
        notes.append("right: 95 % intervals")
    notes.append(f"{endpoint.condition['weights']} weights, {endpoint.step_rule}")
    notes += ["smoke: n < 2048 images"] if endpoint.is_smoke else []
    return [*notes, endpoint.declared]
