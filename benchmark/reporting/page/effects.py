"""A finding as it is drawn: on one scale of log ratios, with the zone of no interest in grey."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.analysis.findings import Finding
from benchmark.analysis.verdict_words import margin_text
from benchmark.reporting.page.overview import interval_text
from benchmark.reporting.page.words import counted, p_value, percent_of

WIDTH, HALF = 280.0, 128.0
"""Of the drawing, and of its scale to each side of zero, in SVG units."""
_LEAST, _MOST = math.log(1.06), math.log(1.5)
GROUPS = {
    "hypothesis": "The hypotheses",
    "claim": "The claims under test",
    "decomposition": "Where a difference comes from",
}
SECONDARY = "The hypotheses by another measure: held-out denoising error"


@dataclass(frozen=True)
class Drawing:
    """x positions in [0, WIDTH]; ``cut`` names the sides where the interval leaves the scale.

    ``zone`` is None for a measure without a smallest effect, which ``smallest`` puts into words;
    ``clear``: the interval is beyond it.
    """

    zone: tuple[float, float] | None
    smallest: str
    point: float
    interval: tuple[float, float] | None
    cut: tuple[str, ...]
    clear: bool


@dataclass(frozen=True)
class Claimed:
    """A finding with its words and its drawing (None where nothing was tested)."""

    finding: Finding
    effect: str
    interval: str
    remarks: str
    drawing: Drawing | None


def scale_of(found: Sequence[Finding]) -> float:
    """The log ratio at the scale's ends: what holds all intervals, within +6 % to +50 %."""
    bounds = [abs(x) for finding in found for x in (finding.estimate, finding.low, finding.high)]
    largest = max((bound for bound in bounds if not math.isnan(bound)), default=0.0)
    return min(_MOST, max(_LEAST, 1.1 * largest))


def claimed(finding: Finding, scale: float, margin: float) -> Claimed:
    """The finding in words and as positions on the scale; ``margin`` 0: no smallest effect."""
    return Claimed(
        finding,
        percent_of(finding.estimate),
        interval_text(finding),
        _remarks(finding),
        None if math.isnan(finding.estimate) else _drawing(finding, scale, margin),
    )


def _drawing(finding: Finding, scale: float, margin: float) -> Drawing:
    def x(log_ratio: float) -> float:
        return round(WIDTH / 2 + HALF * max(-1.0, min(1.0, log_ratio / scale)), 1)

    bounds = (finding.low, finding.high)
    interval = None if math.isnan(finding.low) else (x(finding.low), x(finding.high))
    cut = tuple(
        side
        for side, beyond in (("left", finding.low < -scale), ("right", finding.high > scale))
        if beyond
    )
    clear = all(bound < -margin for bound in bounds) or all(bound > margin for bound in bounds)
    zone = (x(-margin), x(margin)) if margin else None
    return Drawing(zone, margin_text(margin), x(finding.estimate), interval, cut, clear)


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
