"""A finding as it is drawn: on an axis of its scale, with the zone of no interest in grey."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.analysis.findings import Finding
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.page.overview import interval_text
from benchmark.reporting.page.words import counted, p_value, percent_of

WIDTH, HALF = 280.0, 128.0
"""Of the drawing, and of its axis to each side of zero, in SVG units."""
GROUPS = {
    "hypothesis": "The hypotheses",
    "claim": "The claims under test",
    "decomposition": "Where a difference comes from",
}
SECONDARY = "The hypotheses by another measure: held-out denoising error"


@dataclass(frozen=True)
class Drawing:
    """x positions in [0, WIDTH]; ``cut`` names the sides where the interval leaves the axis.

    ``zone`` is None for a measure without a smallest effect, which ``smallest`` puts into words;
    ``clear``: the interval is beyond it. ``better`` is the end of the axis that is better.
    """

    zone: tuple[float, float] | None
    smallest: str
    point: float
    interval: tuple[float, float] | None
    cut: tuple[str, ...]
    clear: bool
    better: str


@dataclass(frozen=True)
class Claimed:
    """A finding with its words and its drawing (None where nothing was tested)."""

    finding: Finding
    effect: str
    interval: str
    remarks: str
    drawing: Drawing | None


@dataclass(frozen=True)
class ClaimGroup:
    """Claims under one heading; ``about`` says by which other metric, if it is another."""

    title: str
    about: str
    claims: tuple[Claimed, ...]


def _about_other(study: StudyAnalysis, part: StudyAnalysis) -> str:
    """By what the findings about one of a study's measures are judged; empty of its endpoint."""
    if part is study:
        return ""
    scale, metric = part.scale, part.terms.endpoint.metric
    if part.endpoint is None:
        return f"No row has {metric} of an arm at its last step, so nothing is tested."
    return (
        f"These are judged by {metric}, not by the metric above: an effect is a change of the "
        f"{part.noun} in {scale.unit}, {scale.better_side} zero is better, and the smallest effect "
        f"of interest is {scale.smallest}."
    )


def claim_groups(study: StudyAnalysis) -> list[ClaimGroup]:
    """Each group of findings, what is claimed beforehand first; checks have a place of their own.

    Findings about one measure share one axis.
    """
    first, *others = (_groups_about(study, part) for part in study.by_measure)
    secondary = ClaimGroup(SECONDARY, "", _on_one_axis(study.secondary))
    groups = [first[0], *(one for some in others for one in some), *first[1:], secondary]
    return [group for group in groups if group.claims]


def _groups_about(study: StudyAnalysis, part: StudyAnalysis) -> list[ClaimGroup]:
    """The groups of a study's findings about one of its measures, empty ones too."""
    listed = [one for one in study.findings_about(part) if one.group in GROUPS]
    drawn = _on_one_axis(listed)
    return [
        ClaimGroup(
            title, _about_other(study, part), tuple(c for c in drawn if c.finding.group == group)
        )
        for group, title in GROUPS.items()
    ]


def _on_one_axis(found: Sequence[Finding]) -> tuple[Claimed, ...]:
    reach = reach_of(found)
    return tuple(claimed(one, reach) for one in found)


def reach_of(found: Sequence[Finding]) -> float:
    """The change at the ends of an axis that holds all intervals, within the scale's limits.

    Args:
        found: findings of one scale.
    """
    bounds = [abs(x) for finding in found for x in finding.interval]
    largest = max((bound for bound in bounds if not math.isnan(bound)), default=0.0)
    least, most = found[0].scale.reach if found else (0.0, 0.0)
    return min(most, max(least, 1.1 * largest))


def claimed(finding: Finding, reach: float) -> Claimed:
    """The finding in words, and as positions on an axis that reaches so far to both sides of 0."""
    return Claimed(
        finding,
        finding.scale.change(finding.estimate, percent_of),
        interval_text(finding),
        _remarks(finding),
        None if math.isnan(finding.estimate) else _drawing(finding, reach),
    )


def _drawing(finding: Finding, reach: float) -> Drawing:
    scale = finding.scale
    margin = scale.margin

    def x(change: float) -> float:
        return round(WIDTH / 2 + HALF * max(-1.0, min(1.0, scale.turned(change) / reach)), 1)

    low, high = bounds = scale.ends(finding.low, finding.high)
    interval = None if math.isnan(low) else (x(low), x(high))
    sides = (("left", scale.turned(low) < -reach), ("right", scale.turned(high) > reach))
    cut = tuple(side for side, beyond in sides if beyond)
    clear = all(bound < -margin for bound in bounds) or all(bound > margin for bound in bounds)
    first, last = scale.ends(-margin, margin)
    zone = (x(first), x(last)) if margin else None
    point = x(finding.estimate)
    return Drawing(zone, scale.smallest, point, interval, cut, clear, scale.better_end)


def _remarks(finding: Finding) -> str:
    parts = [counted(finding.seeds, "seed")]
    if finding.p is not None and not math.isnan(finding.p):
        parts.append(p_value(finding.p))
    if finding.p_holm is not None:
        parts.append(f"Holm {p_value(finding.p_holm)}")
    if finding.p_sign_flip is not None:
        parts.append(f"sign-flip {p_value(finding.p_sign_flip)}")
    if finding.steps_equivalent is not None and not math.isnan(finding.steps_equivalent):
        share = f"{100 * finding.steps_equivalent:.0f} %"
        parts.append(f"as large as B’s own change over the last {share} of its training")
    if finding.p_holm is not None:
        parts.append("declared" if finding.declared else "not declared")
    return "; ".join(parts)
