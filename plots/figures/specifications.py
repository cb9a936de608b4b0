"""The hypotheses by every way to measure the end: is the answer one of how it was measured?"""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.analysis.answer import reservations
from benchmark.analysis.log_ratios import MOST_TICKS
from benchmark.analysis.scales import Scale
from benchmark.analysis.specifications import Specification
from benchmark.analysis.study_analysis import StudyAnalysis
from plots.change_axis import (
    BEYOND_NOTE,
    ZERO_COLOUR,
    ZONE_COLOUR,
    change_axis,
    covering,
    cut,
    is_wide,
    zone_note,
)
from plots.style import COLOURS, LINE_INCHES, PAGE_INCHES, fitting, new_figure, note_below

MOST_WAYS, MOST_HYPOTHESES = 40, 4
_NAME_POINTS = 190
_DECLARED, _OTHER = COLOURS["blue"], "0.25"


def has_rows(study: StudyAnalysis) -> bool:
    """Whether there is more than one way."""
    return len({one.way for one in study.specifications}) > 1


def panel(
    ways: Sequence[Specification | None], scale: Scale, ax: Axes, most_ticks: int = MOST_TICKS
) -> Axes:
    """One hypothesis: a line per way, the primary endpoint on top in colour.

    Args:
        ways: of one hypothesis, the primary endpoint first; None leaves a line open.
        scale: of the changes.
        ax: axes to draw on.
        most_ticks: so many of its scale's ticks, or one more.
    """
    ax.axvline(0, color=ZERO_COLOUR, linewidth=0.8, zorder=1)
    # The smallest effect is declared for the primary endpoint alone.
    ax.fill_betweenx(
        (-0.6, 0.5), -scale.margin, scale.margin, color=ZONE_COLOUR, linewidth=0, zorder=0
    )
    ends = [x for one in ways if one for x in (one.low, one.high, one.estimate)]
    change_axis(ax, "x", *covering(ends, scale, room=0.06), scale, most_ticks)
    for place, one in enumerate(ways):
        if one is None or math.isnan(one.estimate):
            continue
        colour = _OTHER if place else _DECLARED
        low, high = (one.estimate if math.isnan(end) else end for end in (one.low, one.high))
        shown = cut(ax, "x", place, (low, high), colour)
        ax.plot(shown, [place, place], color=colour, linewidth=1.2, solid_capstyle="butt")
        if shown[0] <= one.estimate <= shown[1]:
            ax.plot([one.estimate], [place], "D" if not place else "o", color=colour, markersize=4)
    ax.set_ylim(len(ways) - 0.4, -0.6)
    return ax


def _name_outer_ticks(ax: Axes) -> None:
    """Those between stay without a name, but for 0."""
    for label in ax.get_xticklabels()[1:-1]:
        label.set_visible(label.get_text() == "0")


def figure(study: StudyAnalysis) -> Figure:
    """All hypotheses of a study with more than one way, side by side."""
    found = study.specifications
    keys = list(dict.fromkeys(one.key for one in found))
    ways = list(dict.fromkeys(one.way for one in found))
    names = ways[:MOST_WAYS]
    shown = keys[:MOST_HYPOTHESES]
    result = new_figure(PAGE_INCHES, LINE_INCHES * 1.15 * len(names) + 0.9)
    axes = result.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    lines = {(one.way, one.key): one for one in found}
    # Their names must not touch in panels that share the width of a page.
    most_ticks = MOST_TICKS if len(shown) < MOST_HYPOTHESES - 1 else 3
    for key, ax in zip(shown, axes, strict=True):
        panel([lines.get((way, key)) for way in names], study.scale, ax, most_ticks)
        if len(shown) == MOST_HYPOTHESES:
            _name_outer_ticks(ax)
        ax.set_title(f"{lines[names[0], key].contrast} ({key})", fontsize=8)
        ax.set_xlabel("change")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_yticks(range(len(names)), [fitting(name, _NAME_POINTS) for name in names])
    axes[0].get_yticklabels()[0].set_color(_DECLARED)
    note_below(result, [*_notes(study, len(keys), len(ways)), *reservations(study)])
    return result


def _notes(study: StudyAnalysis, hypotheses: int, ways: int) -> list[str]:
    notes = [
        "top line: the primary endpoint, which alone decides",
        f"{study.scale.better_end} is better",
        zone_note(study.scale),
    ]
    if is_wide(
        [x for one in study.specifications for x in (one.low, one.high, one.estimate)], study.scale
    ):
        notes.append(BEYOND_NOTE)
    if hypotheses > MOST_HYPOTHESES:
        notes.append(f"{MOST_HYPOTHESES} of {hypotheses} hypotheses shown, all are in the tables")
    if ways > MOST_WAYS:
        notes.append(f"{MOST_WAYS} of {ways} ways shown, all are in the tables")
    return notes
