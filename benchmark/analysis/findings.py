"""From rows to answers: each claim's effect, its interval, a verdict and why.

Everything is computed from the rows alone; no torch. What is computed, and from where:
docs/statistics.md. Which arms are compared is data: ``benchmark/analysis/claims.py``.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from benchmark.analysis.claims import Claim, Direction, Group, about, claims_about
from benchmark.analysis.competence import Competence
from benchmark.analysis.endpoint import Endpoint, at_last_step, endpoint_of
from benchmark.analysis.learning import Floats, worth_in_steps
from benchmark.analysis.mask_check import MaskEffect, why_inert
from benchmark.analysis.power import seeds_needed
from benchmark.analysis.scales import SIGN_ALONE, USUAL_SCALE, Interval, Scale
from benchmark.analysis.statistics import (
    ALPHA,
    Contrast,
    equivalence,
    holm,
    paired,
    sign_flip,
    verdict,
)
from benchmark.analysis.verdict_words import (
    listed,
    why_decided,
    why_mixed,
    why_not_answered,
    why_of_size,
    why_undecided,
)
from benchmark.rows.frames import cells_of, split_conditions
from benchmark.rows.metric_names import SUMMARIES
from benchmark.study.hypotheses import Hypothesis
from benchmark.study.terms import Gate

# Held-out ε-MSE, all noise levels alike: what stands beside the distance in every answer.
HELD_OUT = SUMMARIES[0]

Verdict = Literal[
    "supported", "refuted", "equal", "mixed", "undecided", "not answered", "not tested"
]


@dataclass(frozen=True)
class Finding:
    """One claim and what the rows say of it.

    ``estimate``, ``low`` and ``high`` are a change of the measure on ``scale`` and its 95 %
    interval, below 0 for better; NaN where nothing was tested, and the interval is NaN with one
    seed. ``held_out`` are the log ratio of the held-out ε-MSE over all noise levels and its
    interval; NaN where it was not measured.
    ``p`` is that of a difference, but of a hypothesis that expects none it is that of equivalence.
    ``p_holm`` is adjusted over the hypotheses tested. ``p_sign_flip`` is None below 6 seeds.
    ``seeds_needed`` is given where the verdict is undecided.
    ``steps_equivalent`` is the share of B's steps, counted from the end, over which B's own
    distance falls by as much as the effect is large, whichever its sign; None outside what was
    measured. ``direction`` is the sign the claim expects, 0 where it expects no difference.
    """

    key: str
    group: Group
    title: str
    question: str
    contrast: str
    estimate: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    p_sign_flip: float | None
    seeds: int
    verdict: Verdict
    why: str
    seeds_needed: int | None
    steps_equivalent: float | None
    declared: bool
    direction: Direction
    held_out: Interval = (math.nan, math.nan, math.nan)
    scale: Scale = USUAL_SCALE

    @property
    def interval(self) -> Interval:
        """Estimate, low and high end."""
        return self.estimate, self.low, self.high

    @property
    def passed(self) -> bool | None:
        """Whether the instrument passes this check; None for what is no check or has no value.

        Equal arms must not be told apart, which takes two seeds to see; where a sign is expected,
        the estimate must have it.
        """
        if self.group != "check" or math.isnan(self.estimate):
            return None
        if self.direction == 0:
            return None if math.isnan(self.low) else self.verdict != "refuted"
        return self.estimate * self.direction > 0


@dataclass(frozen=True)
class Evidence:
    """What claims are judged by: one measure's values, and what bears on how to read them.

    ``alpha`` is the strictest level that Holm may ask of one hypothesis. ``held_out`` is the
    measure beside it, None where there is none; ``baseline`` how far B has come, None where that
    was not measured; ``is_primary`` whether the measure is the study's endpoint.
    """

    endpoint: Endpoint
    alpha: float
    masks: Mapping[str, MaskEffect | None]
    curve: tuple[Floats, Floats]
    held_out: Endpoint | None
    baseline: Competence | None
    gate: Gate
    is_primary: bool

    @property
    def scale(self) -> Scale:
        """The scale of the measure."""
        return self.endpoint.scale


Asked = tuple[Claim, Evidence]
"""A claim, and what it is judged by."""


def findings(parts: Sequence[tuple[Sequence[Hypothesis], Evidence]]) -> list[Finding]:
    """All claims that the arms can speak to, those about the endpoint first.

    A hypothesis with a metric of its own is always among them: without rows it is not tested.

    Args:
        parts: measure by measure the hypotheses about it, and what bears on it. The first is the
            primary endpoint, of which all other claims are too.
    """
    asked = [
        (claim, evidence)
        for hypotheses, evidence in parts
        for claim in claims_about(_arms(hypotheses, evidence), hypotheses)
        if evidence.is_primary or claim.group == "hypothesis"
    ]
    return _adjusted(asked, [_finding(*one) for one in asked])


def _arms(hypotheses: Sequence[Hypothesis], evidence: Evidence) -> Collection[str]:
    if evidence.is_primary:
        return list(evidence.endpoint.values.columns)
    return {arm for one in hypotheses for arm, _ in one.weights}


def secondary(
    measures: Sequence[Endpoint], hypotheses: Sequence[Hypothesis], evidence: Evidence
) -> list[Finding]:
    """The hypotheses about other measures, one finding for each of them.

    No smallest effect is declared for these measures: verdicts are about the sign alone. They are
    not declared either, so their p values are not adjusted.

    Args:
        measures: of ``held_out_endpoints``.
        hypotheses: those of the study.
        evidence: what bears on the primary endpoint.
    """
    nothing = np.empty(0), np.empty(0)
    found: list[Finding] = []
    for measure in measures:
        exploratory = dataclasses.replace(measure, declared="exploratory")
        own = dataclasses.replace(evidence, endpoint=exploratory, curve=nothing, held_out=None)
        claims = claims_about(measure.values.columns, hypotheses)
        asked = [about(one, measure.metric) for one in claims if one.group == "hypothesis"]
        found += [_held_back(_finding(claim, own), own) for claim in asked]
    return _without_spare_seeds(found)


def held_out_endpoints(frame: pd.DataFrame, endpoint: Endpoint) -> list[Endpoint]:
    """Summaries of the held-out ε-MSE at each arm's last step, of the endpoint's weights.

    Where cells were measured with several numbers of images, each as most of them were.
    """
    # One of 0 has no logarithm; it does not stop the report of all others.
    rows = at_last_step(frame[frame["metric"].isin(SUMMARIES) & (frame["value"] > 0)])
    rows = rows[rows["weights"] == endpoint.condition["weights"]]
    parts = [
        max(split_conditions(rows[rows["metric"] == name]), key=lambda part: len(cells_of(part)))
        for name in SUMMARIES
        if (rows["metric"] == name).any()
    ]
    return [endpoint_of(part, SIGN_ALONE) for part in parts]


def _finding(claim: Claim, evidence: Evidence) -> Finding:
    table = evidence.endpoint.values.reindex(columns=list(claim.arms)).dropna()
    blank = Finding(
        claim.key, claim.group, claim.title, claim.question, claim.contrast, math.nan, math.nan,
        math.nan, None, None, None, len(table), "not tested", "", None, None,
        claim.group == "hypothesis" and evidence.endpoint.is_declared, claim.direction,
        contrast_of(claim, evidence.held_out), evidence.scale,
    )  # fmt: skip
    why_not = why_inert(claim.arms, evidence.masks)
    if why_not:
        return dataclasses.replace(blank, why=why_not)
    if table.empty:
        of = "" if evidence.is_primary else f"{evidence.endpoint.metric} of "
        why = f"No training seed has {of}all of {listed(claim.arms)} at the last step."
        return dataclasses.replace(blank, why=why)
    return _judged(blank, claim, table, evidence)


def contrast_of(claim: Claim, endpoint: Endpoint | None) -> Interval:
    """A claim's contrast of another measure with its interval; NaN where it can't be had."""
    if endpoint is None or not set(claim.arms) <= set(endpoint.values.columns):
        return math.nan, math.nan, math.nan
    table = endpoint.values[list(claim.arms)].dropna()
    if table.empty:
        return math.nan, math.nan, math.nan
    found = paired(table.to_numpy() @ _weights(claim))
    return found.estimate, found.low, found.high


def _weights(claim: Claim) -> Floats:
    return np.array([weight for _, weight in claim.weights])


def _judged(blank: Finding, claim: Claim, table: pd.DataFrame, evidence: Evidence) -> Finding:
    """The claim's own arms alone decide, seed by seed: no other arm can move its interval."""
    values = table.to_numpy() @ _weights(claim)
    contrast = tested = paired(values)
    margin, border = evidence.scale.margin, 0.0
    if claim.at_least is not None:
        # What is tested is by how much the effect is larger than its claimed size.
        border = evidence.scale.sized(claim.at_least, claim.direction)
        tested, margin = paired(values - border), 0.0
    answer = verdict(tested, margin, claim.direction)
    p = tested.p
    if claim.group == "hypothesis" and claim.direction == 0 and margin > 0:
        p = equivalence(tested, margin)
    needed = _seeds_needed(tested, len(values), margin, evidence.alpha, claim.direction)
    return dataclasses.replace(
        blank,
        estimate=contrast.estimate,
        low=contrast.low,
        high=contrast.high,
        p=None if math.isnan(p) else p,
        p_sign_flip=sign_flip(values),
        verdict=answer,
        why=_why(answer, contrast, evidence.scale, claim, needed),
        seeds_needed=needed,
        steps_equivalent=worth_in_steps(contrast.estimate, evidence.curve),
    )


def _seeds_needed(
    contrast: Contrast, n: int, margin: float, alpha: float, direction: Direction
) -> int | None:
    """Seeds that would decide, one way or the other, if the estimate is right.

    The estimate must come clear of the nearest border whose crossing is a verdict: the margin
    (beyond it on the claimed side: supported; within: equal) or 0 (refuted). None where that takes
    more than any study has, and for one seed, whose spread is unknown.
    """
    size = abs(contrast.estimate)
    gap = abs(size - margin) if contrast.estimate * direction > 0 else max(size, margin - size)
    return seeds_needed(gap, contrast.standard_error * math.sqrt(n), alpha)


def _why(answer: str, contrast: Contrast, scale: Scale, claim: Claim, needed: int | None) -> str:
    if contrast.df == 0:
        value = scale.change(contrast.estimate)
        return f"One training seed ({value}) has no interval, so nothing can be decided."
    interval = contrast.low, contrast.high
    if claim.at_least is not None:
        claimed = scale.change(scale.sized(claim.at_least, claim.direction))
        return why_of_size(answer, scale.span(*interval), claimed, needed)
    if answer == "undecided":
        text = why_undecided(interval, scale, needed)
    else:
        text = why_decided(answer, interval, contrast.interval(0.9), scale, claim.direction)
    if scale.margin == 0:
        text += " No smallest effect is declared for this measure: only the sign is judged."
    return text


def _adjusted(asked: Sequence[Asked], found: list[Finding]) -> list[Finding]:
    """What is to be taken into account beside a contrast's own interval.

    Holm's p values of the hypotheses, which one that comes true needs too; the held-out error,
    which must not contradict; and whether B has learned enough for any verdict.

    Args:
        asked: what is asked, about the primary endpoint first.
        found: the finding of each claim.
    """
    tested = {f.key: f.p for f in found if f.group == "hypothesis" and f.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    held = [
        _held_to(finding, adjusted.get(finding.key), len(tested))
        if finding.group == "hypothesis"
        else finding
        for finding in found
    ]
    judged = zip(_as_hypotheses(asked, held), asked, strict=True)
    return _without_spare_seeds(
        [
            _held_back(_contradicted(finding, evidence), evidence)
            for finding, (_, evidence) in judged
        ]
    )


def _contradicted(finding: Finding, evidence: Evidence) -> Finding:
    """Mixed, where the measure and the held-out error differ in sign, both beyond their intervals.

    Of other measures than the endpoint only a distance must agree with the error: a hypothesis
    about a share or a score asks something else.
    """
    own, other = finding.interval, finding.held_out
    is_clear = all(low > 0 or high < 0 for _, low, high in (own, other))
    noun = evidence.endpoint.noun
    must_agree = evidence.is_primary or noun == "distance"
    if finding.group == "check" or not (is_clear and must_agree) or own[0] * other[0] > 0:
        return finding
    noun += " (higher is better)" * evidence.scale.more_is_better
    why = why_mixed(noun, finding.scale.interval(own), SIGN_ALONE.interval(other))
    return dataclasses.replace(finding, verdict="mixed", why=why)


def _held_back(finding: Finding, evidence: Evidence) -> Finding:
    """Not answered, where B has not learned enough for the question; checks stay as they are."""
    baseline = evidence.baseline
    if finding.group == "check" or finding.verdict == "not tested":
        return finding
    if baseline is None or baseline.passed(evidence.gate):
        return finding
    why = why_not_answered(baseline, evidence.gate)
    return dataclasses.replace(finding, verdict="not answered", why=why)


def _as_hypotheses(asked: Sequence[Asked], found: list[Finding]) -> list[Finding]:
    """What claims the very thing that a hypothesis claims is decided as that is.

    A check is not: it tests the instrument by its own result. Nor does a hypothesis by a metric of
    its own claim what others claim of the endpoint.
    """
    claims = [claim for claim, _ in asked]
    decided = {
        claim.asked: finding
        for (claim, evidence), finding in zip(asked, found, strict=True)
        if claim.group == "hypothesis" and evidence is asked[0][1]
    }
    return [
        finding
        if claim.group in ("hypothesis", "check") or (same := decided.get(claim.asked)) is None
        else dataclasses.replace(
            finding,
            declared=same.declared,
            p=same.p,
            p_holm=same.p_holm,
            verdict=same.verdict,
            why=same.why,
        )
        for claim, finding in zip(claims, found, strict=True)
    ]


def _without_spare_seeds(found: list[Finding]) -> list[Finding]:
    """What is decided needs no seeds."""
    return [
        finding
        if finding.verdict == "undecided"
        else dataclasses.replace(finding, seeds_needed=None)
        for finding in found
    ]


def _held_to(finding: Finding, p_holm: float | None, tested: int) -> Finding:
    if p_holm is None:
        return finding
    finding = dataclasses.replace(finding, p_holm=float(p_holm))
    came_true = "supported" if finding.direction else "equal"
    if finding.verdict != came_true or p_holm < ALPHA:
        return finding
    why = (
        f"{finding.why.removesuffix('.')}, but among {tested} hypotheses its p is {p_holm:.2g} "
        f"(Holm), not below {ALPHA:g}."
    )
    return dataclasses.replace(finding, verdict="undecided", why=why)
