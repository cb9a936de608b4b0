"""Every comparison of the study with its interval, its verdict and the smallest effect."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.answer import reservations
from benchmark.analysis.claims import Group
from benchmark.analysis.findings import Finding
from benchmark.analysis.scales import Scale
from benchmark.analysis.study_analysis import StudyAnalysis
from plots.change_axis import (
    BEYOND_NOTE,
    change_axis,
    covering,
    cut,
    is_wide,
    margin_zone,
    zone_note,
)
from plots.style import (
    COLOURS,
    GREY,
    PAGE_INCHES,
    fitting,
    new_figure,
    note_below,
    text_beside,
    width_of,
)

# Height of a line, and of all of them at most: a page.
ROW_INCHES, MOST_INCHES = 0.185, 8.2
# Lines that a page holds, and the points that a name may take of its width.
MOST_LINES, _NAME_POINTS = 70, 230
_NOTHING = "–"
_GROUPS: dict[Group, str] = {
    "hypothesis": "Hypotheses",
    "decomposition": "Where it comes from",
    "claim": "Claims, arm by arm",
    "check": "Instrument checks",
}
# Filled where something is decided; shapes stay apart in grey.
_MARKERS: dict[str, dict[str, Any]] = {
    "supported": {"marker": "D", "color": COLOURS["blue"], "markersize": 5},
    "refuted": {"marker": "X", "color": COLOURS["red"], "markersize": 6},
    "equal": {"marker": "s", "color": COLOURS["black"], "markersize": 4.5},
    "mixed": {"marker": "P", "color": COLOURS["purple"], "markersize": 6},
    "undecided": {"marker": "o", "color": "#555555", "markersize": 5, "markerfacecolor": "white"},
}
# Where text stands, in points left of the axes (negative) or right of them. Wider changes move
# the columns after them.
_LEFT, _COLUMNS, _CHANGE_POINTS = -5, (8, 104, 134), 90


def has_rows(study: StudyAnalysis) -> bool:
    """Whether any two arms can be compared at their end."""
    return any(not math.isnan(finding.estimate) for finding in study.findings)


def comparisons(found: Sequence[Finding]) -> list[Finding]:
    """The findings group by group in the order of the groups, each contrast once.

    A hypothesis stands for the claim about its contrast too. A check of it is shown beside it, for
    a check is about the instrument.
    """
    order, hypotheses = list(_GROUPS), {f.contrast for f in found if f.group == "hypothesis"}
    kept = [f for f in found if f.group != "claim" or f.contrast not in hypotheses]
    return sorted(kept, key=lambda finding: order.index(finding.group))


def forest(found: Sequence[Finding], scale: Scale, ax: Axes) -> Axes:
    """A line per finding under its group's heading, the effects along x.

    Args:
        found: what ``comparisons`` returns, at least one.
        scale: of the effects.
        ax: axes to draw on.
    """
    margin_zone(ax, "x", scale)
    ends = [x for f in found for x in f.interval]
    low, high = covering(ends, scale, room=0.06)
    change_axis(ax, "x", low, high, scale)
    columns = _columns(found)
    place, group = 0.0, None
    for finding in found:
        if finding.group != group:
            group = finding.group
            place += 0.4 if place else 0.0
            text_beside(ax, _LEFT, place, _GROUPS[group], style="italic", color=GREY)
            place += 1.0
        _line(finding, place, columns, ax)
        place += 1.0
    ax.set_ylim(place - 0.3, -1.6)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    for x, heading in zip(columns, ("change [95 % interval]", "seeds", "verdict"), strict=True):
        text_beside(ax, x, -1.0, heading, color=GREY)
    return ax


def _columns(found: Sequence[Finding]) -> tuple[float, ...]:
    """Where changes, numbers of seeds and verdicts stand."""
    more = max(0.0, max(width_of(interval_text(finding)) for finding in found) - _CHANGE_POINTS)
    first, *others = _COLUMNS
    return (first, *(place + more for place in others))


def _line(finding: Finding, place: float, columns: Sequence[float], ax: Axes) -> None:
    look = _MARKERS.get(finding.verdict, _MARKERS["undecided"])
    # With one seed there is no interval.
    low, high = (
        finding.estimate if math.isnan(end) else end for end in (finding.low, finding.high)
    )
    if not math.isnan(finding.estimate):
        ends = cut(ax, "x", place, (low, high), look["color"])
        ax.plot(ends, [place, place], color=look["color"], linewidth=1.2, solid_capstyle="butt")
        if ends[0] <= finding.estimate <= ends[1]:
            ax.plot([finding.estimate], [place], linestyle="none", markeredgewidth=1.0, **look)
    strong = {"weight": "bold"} if finding.declared else {}
    name = fitting(f"{finding.title}:  {finding.contrast}", _NAME_POINTS)
    text_beside(ax, _LEFT, place, name, **strong)
    text_beside(ax, columns[0], place, interval_text(finding))
    text_beside(ax, columns[1], place, str(finding.seeds))
    colour = look["color"] if finding.verdict in _MARKERS else GREY
    text_beside(ax, columns[2], place, finding.verdict, color=colour)


def interval_text(finding: Finding) -> str:
    """The change and its interval, −4.2 % [−6.1, −2.3]; alone without an interval.

    A dash where nothing was tested.
    """
    if math.isnan(finding.estimate):
        return _NOTHING
    scale = finding.scale
    estimate = scale.change(finding.estimate)
    if math.isnan(finding.low):
        return estimate
    low, high = (
        scale.change(end).removesuffix(" %").replace("> ", ">")
        for end in scale.ends(finding.low, finding.high)
    )
    return f"{estimate} [{low}, {high}]"


def figure(study: StudyAnalysis) -> Figure:
    """All findings of a study that has an endpoint and two arms: a panel for each measure."""
    parts = [(part, comparisons(study.findings_about(part))) for part in study.by_measure]
    parts = [(part, found) for part, found in parts if found]
    shown = _fitting_lines([found for _, found in parts])
    heights = [_height(some) for some in shown]
    result = new_figure(PAGE_INCHES, min(sum(heights), MOST_INCHES) + 0.4 * len(parts))
    axes = result.subplots(len(parts), squeeze=False, gridspec_kw={"height_ratios": heights})
    for (part, _), some, ax in zip(parts, shown, axes[:, 0], strict=True):
        forest(some, part.scale, ax)
        usual = part.terms.endpoint.metric or f"the {part.noun}"
        metric = part.endpoint.metric if part.endpoint else usual
        ax.set_xlabel(f"change of {metric} ({part.scale.better_end} is better)")
    note_below(result, [*_notes(parts, study), *reservations(study)])
    return result


def _fitting_lines(parts: Sequence[Sequence[Finding]]) -> list[Sequence[Finding]]:
    """The first so many findings of each measure, as many as a page holds in all."""
    left, shown = MOST_LINES, []
    for place, found in enumerate(parts):
        # A line is kept for each of the measures that follow.
        some = found[: max(1, left - (len(parts) - place - 1))]
        shown.append(some)
        left -= len(some)
    return shown


def _height(shown: Sequence[Finding]) -> float:
    """Inches of a panel of these findings."""
    groups = len({finding.group for finding in shown})
    return ROW_INCHES * (len(shown) + 1.4 * groups + 1)


def _notes(
    parts: Sequence[tuple[StudyAnalysis, Sequence[Finding]]], study: StudyAnalysis
) -> list[str]:
    endpoint, found = study.endpoint, [one for _, some in parts for one in some]
    # As the axes say, panel by panel.
    ends = " or ".join(dict.fromkeys(part.scale.better_end for part, _ in parts))
    notes = [
        f"each line claims that its first arm is better ({ends}), if its words say nothing else"
    ]
    notes.append(zone_note(*(part.scale for part, _ in parts)))
    if any(finding.verdict == "not tested" for finding in found):
        notes.append("not tested: a mask does nothing, or no seed has all arms (see the tables)")
    if any(is_wide([end for f in some for end in f.interval], p.scale) for p, some in parts):
        notes.append(BEYOND_NOTE)
    if len(found) > MOST_LINES:
        notes.append(f"{MOST_LINES} of {len(found)} comparisons shown, all are in the tables")
    if max(finding.seeds for finding in found) == 1:
        notes.append("n=1 seed, no interval, nothing is decided")
    if endpoint is not None:
        notes.append(f"{endpoint.condition['weights']} weights, {endpoint.step_rule}")
        count = len(endpoint.sampling_seeds)
        notes += [f"mean of {count} sampling seeds"] if count > 1 else []
        notes += ["smoke: n < 2048 images"] if endpoint.is_smoke else []
        notes.append(endpoint.declared)
    if any(finding.declared for finding in found):
        notes.append("bold: declared beforehand")
    return notes
