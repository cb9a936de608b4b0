"""What a curriculum changes, taken apart: how often each noise level is trained, and the order.

Four arms make a 2 × 2: plain training has neither, the density control the curriculum's exposure
and last stage, the flat control the order alone, the curriculum all of them. Where the static
control is measured, which has the exposure and no order at all, the total is the sum of exposure,
early order and what comes last.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.answer import reservations
from benchmark.analysis.claims import EXPECTED
from benchmark.analysis.endpoint import Endpoint
from benchmark.analysis.findings import Finding
from benchmark.analysis.scales import Scale
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.study.arm_catalogue import by_importance, control_name, in_order
from benchmark.study.arm_names import BASELINE
from plots.change_axis import change_axis, covering, cut, margin_zone, zone_note
from plots.figures.forest import interval_text
from plots.style import GREY, PAGE_INCHES, arm_style, new_figure, note_below, text_beside

_EXPOSURES = ("as plain\ntraining", "as the\ncurriculum")
_ORDERS = ("no early order", "the curriculum's order")
_BETTER = -1
# The right panel is narrow.
_MOST_TICKS = 4
# seaborn sets strips of two kinds so far apart.
DODGE = 0.4


def taken_apart(arms: Collection[str]) -> str | None:
    """The most important of some arms that has its density control beside it; None: none has."""
    candidates = by_importance(arm for arm in in_order(arms) if arm != BASELINE)
    return next((arm for arm in candidates if control_name("density", arm) in arms), None)


def cells_of(arm: str) -> dict[str, tuple[str, str]]:
    """The arms of the 2 × 2: how often each noise level is trained, and in which order."""
    return {
        BASELINE: (_EXPOSURES[0], _ORDERS[0]),
        control_name("flat", arm): (_EXPOSURES[0], _ORDERS[1]),
        control_name("density", arm): (_EXPOSURES[1], _ORDERS[0]),
        arm: (_EXPOSURES[1], _ORDERS[1]),
    }


def parts_of(arm: str) -> dict[str, str]:
    """Contrasts from the whole to its parts, as findings name them, and what each is."""
    density, static, flat = (control_name(kind, arm) for kind in ("density", "static", "flat"))
    return {
        f"{arm} − {BASELINE}": "total",
        f"{static} − {BASELINE}": "exposure",
        f"{arm} − {density}": "early order",
        f"{density} − {static}": "last stage",
        f"{density} − {BASELINE}": "exposure + last",
        f"{flat} − {BASELINE}": "order alone",
    }


def has_rows(study: StudyAnalysis) -> bool:
    """Whether exposure and order can be told apart: plain training, an arm and its control."""
    if study.endpoint is None:
        return False
    values = study.endpoint.values
    arm = taken_apart(values.columns)
    return arm is not None and BASELINE in values.columns and not _whole_seeds(values, arm).empty


def _whole_seeds(values: pd.DataFrame, arm: str) -> pd.DataFrame:
    """The 2 × 2's arms of a study, and the seeds that have them all."""
    return values[[name for name in cells_of(arm) if name in values.columns]].dropna()


def without_blocks(values: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Values of the 2 × 2's arms against B's mean, without what all arms of a seed share.

    Of each seed its mean over the arms is taken away and the mean of all put in its place
    (Cousineau 2005): arms are compared within seeds, so that is the spread that counts. Seeds
    that lack one of the arms are left out.
    """
    whole = _whole_seeds(values, arm)
    centred = whole.sub(whole.mean(axis=1), axis=0) + whole.to_numpy().mean()
    return centred - centred[BASELINE].mean()


def interaction(values: pd.DataFrame, arm: str, scale: Scale, ax: Axes) -> Axes:
    """The 2 × 2: exposure along x, a line without the order and one with it.

    Args:
        values: of ``without_blocks``: a row a seed, a column an arm.
        arm: the curriculum.
        scale: of the values.
        ax: axes to draw on; y is the change from B's mean.
    """
    margin_zone(ax, "y", scale)
    cells = cells_of(arm)
    points = values.melt(var_name="arm")
    points[["exposure", "order"]] = [cells[name] for name in points["arm"]]
    means = points.groupby(["arm", "exposure", "order"], sort=False, as_index=False).mean()
    looks = {cells[name][1]: arm_style(name, [name]) for name in (BASELINE, arm)}
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
    for name, exposure, order, mean in means.itertuples(index=False):
        side = 1 if order == _ORDERS[1] else -1
        place = (side * DODGE / 2 + (exposure == _EXPOSURES[1]), mean)
        look = {"color": palette[order], "ha": "left" if side > 0 else "right", "va": "center"}
        ax.annotate(name, place, (9 * side, 0), "data", "offset points", **look)
    change_axis(ax, "y", *covering(values.to_numpy(), scale), scale)
    ax.set_xlim(-0.5, 1.5)
    ax.set_xlabel("how often each noise level is trained")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2)
    return ax


def effects(found: Mapping[str, Finding], arm: str, scale: Scale, ax: Axes) -> Axes:
    """The total and its parts with their intervals, one below the other.

    Args:
        found: findings by contrast; those of ``parts_of`` are drawn.
        arm: the curriculum.
        scale: of the effects.
        ax: axes to draw on.
    """
    margin_zone(ax, "x", scale)
    names = parts_of(arm)
    shown = {contrast: found[contrast] for contrast in names if contrast in found}
    if f"{control_name('static', arm)} − {BASELINE}" in shown:
        # Its two parts are there.
        shown.pop(f"{control_name('density', arm)} − {BASELINE}", None)
    reach = [x for f in shown.values() for x in f.interval]
    change_axis(ax, "x", *covering(reach, scale), scale, _MOST_TICKS)
    for place, finding in enumerate(shown.values()):
        low, high = (
            finding.estimate if math.isnan(end) else end for end in (finding.low, finding.high)
        )
        ends = cut(ax, "x", place, (low, finding.estimate, high), "black")
        half = np.diff(ends)[:, None]
        marker = "o" if ends[1] == finding.estimate else ""
        ax.errorbar(ends[1], place, xerr=half, color="black", linestyle="none", marker=marker)
        verdict: str = finding.verdict
        if finding.direction != _BETTER:
            verdict += f" (expected: {EXPECTED[finding.direction]})"
        text_beside(ax, 6, place, f"{interval_text(finding)}\n{verdict}", color=GREY)
    labels = [f"{names[contrast]}\n{contrast}" for contrast in shown]
    ax.set_yticks(range(len(shown)), labels)
    ax.set_ylim(len(shown) - 0.4, -0.5)
    ax.tick_params(axis="y", length=0)
    return ax


def figure(study: StudyAnalysis) -> Figure:
    """Left the 2 × 2, right the effects: order adds something if its interval leaves the zone."""
    endpoint, scale = study.endpoint, study.scale
    assert endpoint is not None
    arm = taken_apart(endpoint.values.columns)
    assert arm is not None
    result = new_figure(PAGE_INCHES, 2.7)
    left, right = result.subplots(1, 2, gridspec_kw={"width_ratios": (1.25, 1)})
    values = without_blocks(endpoint.values, arm)
    interaction(values, arm, scale, left)
    left.set_ylabel(f"{endpoint.metric}\nagainst {BASELINE}'s mean")
    found: dict[str, Finding] = {}
    for finding in study.findings_about(study):
        # Hypotheses come first; the same contrast may answer a claim that is not adjusted.
        found.setdefault(finding.contrast, finding)
    effects(found, arm, scale, right)
    right.set_xlabel(f"change of {endpoint.metric}")
    notes = [zone_note(scale), *_notes(endpoint, len(values))]
    note_below(result, [*notes, *reservations(study)])
    return result


def _notes(endpoint: Endpoint, seeds: int) -> list[str]:
    notes = ["n=1 seed, no interval, nothing is decided"]
    if seeds > 1:
        notes = [f"n={seeds} seeds, light points: each seed, less its mean over arms"]
        notes.append("right: 95 % intervals")
    notes.append(f"{endpoint.condition['weights']} weights, {endpoint.step_rule}")
    notes += ["smoke: n < 2048 images"] if endpoint.is_smoke else []
    return [*notes, endpoint.declared]
