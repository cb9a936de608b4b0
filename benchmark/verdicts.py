"""From rows to answers: each claim's effect, its interval, a verdict and why.

Everything is computed from the rows alone; no torch. What is computed, and from where:
docs/statistics.md. Which arms are compared is data: ``benchmark/claims.py``.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from benchmark.claims import (
    OF_ANOTHER_BUDGET,
    Claim,
    Direction,
    Group,
    about,
    claims_about,
)
from benchmark.endpoint import Endpoint, at_last_step, endpoint_of, primary_endpoint
from benchmark.learning import Floats, baseline_curve, worth_in_steps
from benchmark.log_ratios import percent_change
from benchmark.manipulation import MANIPULATION_MINIMUM, MaskEffect, mask_effects
from benchmark.power import seeds_needed
from benchmark.results import BASELINE, SUMMARIES, split_conditions
from benchmark.statistics import (
    ALPHA,
    Contrast,
    dunnett,
    fit_blocks,
    guarded_contrast,
    holm,
    sign_flip,
    verdict,
)
from benchmark.verdict_text import (
    listed,
    percent,
    why_decided,
    why_undecided,
)

# The smallest effect of interest: 3 % of the distance (METHODS §7), as a log ratio.
MARGIN = math.log(1.03)
# Seeds the integration of Dunnett's probabilities: the same rows give the same bytes.
_INTEGRATION_SEED = 0

Verdict = Literal["supported", "refuted", "equal", "undecided", "not tested"]


@dataclass(frozen=True)
class Finding:
    """One claim and what the rows say of it.

    ``estimate``, ``low`` and ``high`` are the log ratio of the distance and its 95 % interval;
    NaN where nothing was tested, and the interval is NaN with one seed. ``p_holm`` is adjusted
    over the hypotheses tested, ``p_dunnett`` over all arms compared with B. ``p_sign_flip`` is
    None below 6 seeds. ``seeds_needed`` is given where the verdict is undecided.
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
    p_dunnett: float | None = None

    @property
    def percent(self) -> tuple[float, float, float]:
        """Estimate and interval as a change in percent: −5 is a distance 5 % lower."""
        estimate, low, high = map(percent_change, (self.estimate, self.low, self.high))
        return estimate, low, high

    @property
    def passed(self) -> bool | None:
        """Whether the instrument passes this check; None for what is no check or has no value.

        Equal arms must not be told apart, which takes two seeds to see; where a sign is expected,
        the estimate must have it.
        """
        if self.group != "check" or math.isnan(self.estimate):
            return None
        if self.direction == 0:
            return None if math.isnan(self.low) else self.verdict in ("equal", "undecided")
        return self.estimate * self.direction > 0


@dataclass(frozen=True)
class _Evidence:
    """What claims are judged by: one measure's values, and what bears on how to read them."""

    endpoint: Endpoint
    margin: float
    masks: Mapping[str, MaskEffect]
    curve: tuple[Floats, Floats]
    p_dunnett: Mapping[str, float]


def findings(frame: pd.DataFrame) -> list[Finding]:
    """All claims that the study's arms can speak to, hypotheses first; none without an endpoint.

    Args:
        frame: the frame of a study's rows, in any order.
    """
    endpoint = primary_endpoint(frame)
    if endpoint is None:
        return []
    evidence = _Evidence(
        endpoint,
        MARGIN,
        mask_effects(frame),
        baseline_curve(frame, endpoint),
        _against_baseline(endpoint.values),
    )
    claims = claims_about(endpoint.values.columns)
    return _adjusted([_finding(claim, evidence) for claim in claims])


def secondary(frame: pd.DataFrame) -> list[Finding]:
    """The hypotheses about the held-out denoising error, one finding for each of its summaries.

    No smallest effect is declared for these measures: verdicts are about the sign alone. They are
    not declared either, so their p values are not adjusted.

    Args:
        frame: the frame of a study's rows, in any order.
    """
    endpoint = primary_endpoint(frame)
    if endpoint is None:
        return []
    masks = mask_effects(frame)
    nothing = np.empty(0), np.empty(0)
    # One of 0 has no logarithm; it does not stop the report of all others.
    rows = at_last_step(frame[frame["metric"].isin(SUMMARIES) & (frame["value"] > 0)])
    found: list[Finding] = []
    for part in split_conditions(rows[rows["weights"] == endpoint.condition["weights"]]):
        measure = dataclasses.replace(endpoint_of(part), declared="exploratory")
        evidence = _Evidence(measure, 0.0, masks, nothing, {})
        claims = claims_about(measure.values.columns)
        hypotheses = [claim for claim in claims if claim.group == "hypothesis"]
        found += [_finding(about(claim, measure.metric), evidence) for claim in hypotheses]
    return _without_spare_seeds(found)


def _against_baseline(values: pd.DataFrame) -> dict[str, float]:
    """Dunnett's p values of the arms that B has all its seeds in common with."""
    if BASELINE not in values:
        return {}
    table = _with_companions(values, (BASELINE,))
    if min(table.shape) < 2:
        return {}
    fit = fit_blocks(table.to_numpy().T)
    rng = np.random.default_rng(_INTEGRATION_SEED)
    p = dunnett(fit, list(table.columns).index(BASELINE), rng).p
    others = table.columns.drop(BASELINE)
    return dict(zip(others, map(float, p), strict=True))


def _with_companions(values: pd.DataFrame, arms: tuple[str, ...]) -> pd.DataFrame:
    """Seeds that have all these arms, and the other arms that have all these seeds.

    The others lend degrees of freedom to the residual and take no seed away; arms of another
    budget, whose spread is another one by design, lend nothing.
    """
    table = values.loc[values[list(arms)].notna().all(axis=1)]
    whole = table.columns[table.notna().all()]
    return table[[arm for arm in whole if arm in arms or arm not in OF_ANOTHER_BUDGET]]


def _finding(claim: Claim, evidence: _Evidence) -> Finding:
    table = _with_companions(evidence.endpoint.values, claim.arms)
    blank = Finding(
        claim.key, claim.group, claim.title, claim.question, claim.contrast, math.nan, math.nan,
        math.nan, None, None, None, len(table), "not tested", "", None, None,
        claim.group == "hypothesis" and evidence.endpoint.is_declared, claim.direction,
    )  # fmt: skip
    why_not = _inert(claim, evidence.masks)
    if why_not:
        return dataclasses.replace(blank, why=why_not)
    if table.empty:
        why = f"No training seed has all of {listed(claim.arms)} at the last step."
        return dataclasses.replace(blank, why=why)
    return _judged(blank, claim, table, evidence)


def _inert(claim: Claim, masks: Mapping[str, MaskEffect]) -> str:
    """Why a claim about masks is no claim about them here; empty if it is one."""
    least = f"{MANIPULATION_MINIMUM:.0%}".replace("%", " %")
    for arm in claim.masked:
        if arm not in masks:
            return f"No row says what the mask of {arm} does at noise levels it was trained on."
        if not masks[arm].passed:
            return (
                f"Lifting the mask of {arm} changes its ε-MSE by {100 * masks[arm].relative:.2g} % "
                f"at most, less than {least}: a mask that does nothing tests nothing."
            )
    return ""


def _judged(blank: Finding, claim: Claim, table: pd.DataFrame, evidence: _Evidence) -> Finding:
    weights = pd.Series(dict(claim.weights)).reindex(table.columns, fill_value=0.0).to_numpy()
    fit = fit_blocks(table.to_numpy().T)
    contrast, is_pooled = guarded_contrast(fit, weights)
    answer = verdict(contrast, evidence.margin, claim.direction)
    flipped = sign_flip(weights @ fit.values)
    needed = _seeds_needed(contrast, fit.n, evidence.margin, claim.direction)
    versus_baseline = claim.weights == ((claim.arms[0], 1.0), (BASELINE, -1.0))
    return dataclasses.replace(
        blank,
        estimate=contrast.estimate,
        low=contrast.low,
        high=contrast.high,
        p=None if math.isnan(contrast.p) else contrast.p,
        p_sign_flip=flipped,
        verdict=answer,
        why=_why(answer, contrast, evidence.margin, claim.direction, needed, is_pooled)
        + _sign_flip_note(answer, contrast, flipped),
        seeds_needed=needed,
        steps_equivalent=worth_in_steps(contrast.estimate, evidence.curve),
        p_dunnett=evidence.p_dunnett.get(claim.arms[0]) if versus_baseline else None,
    )


def _seeds_needed(contrast: Contrast, n: int, margin: float, direction: Direction) -> int | None:
    """Seeds that would decide, one way or the other, if the estimate is right.

    The estimate must come clear of the nearest border whose crossing is a verdict: the margin
    (beyond it on the claimed side: supported; within: equal) or 0 (refuted). None where that takes
    more than any study has, and for one seed, whose spread is unknown.
    """
    size = abs(contrast.estimate)
    gap = abs(size - margin) if contrast.estimate * direction > 0 else max(size, margin - size)
    return seeds_needed(gap, contrast.standard_error * math.sqrt(n))


def _why(
    answer: str,
    contrast: Contrast,
    margin: float,
    direction: Direction,
    needed: int | None,
    is_pooled: bool,
) -> str:
    if contrast.df == 0:
        value = percent(contrast.estimate)
        return f"One training seed ({value}) has no interval, so nothing can be decided."
    interval = contrast.low, contrast.high
    if answer == "undecided":
        text = why_undecided(interval, margin, needed)
    else:
        text = why_decided(answer, interval, contrast.interval(0.9), margin, direction)
    if margin == 0:
        text += " No smallest effect is declared for this measure: only the sign is judged."
    if not is_pooled:
        text += " It scatters more over seeds than the other arms, so its own spread is used."
    return text


def _sign_flip_note(answer: str, contrast: Contrast, p: float | None) -> str:
    """Why a small p may stand beside an interval that includes zero: the rule was fixed before."""
    if answer != "undecided" or p is None or p >= ALPHA or not contrast.low <= 0 <= contrast.high:
        return ""
    return (
        f" The sign-flip test sees a difference (p = {p:.2g}) because this contrast scatters less "
        "than the other arms; the interval is of all arms' spread, and it decides."
    )


def _adjusted(found: list[Finding]) -> list[Finding]:
    """Holm's p values of the hypotheses; a hypothesis is supported only if they allow it."""
    tested = {f.key: f.p for f in found if f.group == "hypothesis" and f.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    held = [_held_to(finding, adjusted.get(finding.key), len(tested)) for finding in found]
    return _without_spare_seeds(_as_hypotheses(held))


def _as_hypotheses(found: list[Finding]) -> list[Finding]:
    """A claim about the contrast of a hypothesis is decided as that is: one test, one answer."""
    hypotheses = {finding.contrast: finding for finding in found if finding.group == "hypothesis"}
    return [
        finding
        if (same := hypotheses.get(finding.contrast)) is None
        else dataclasses.replace(
            finding,
            declared=same.declared,
            p_holm=same.p_holm,
            verdict=same.verdict,
            why=same.why,
        )
        for finding in found
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
    if finding.verdict != "supported" or p_holm < ALPHA:
        return finding
    why = (
        f"{finding.why.removesuffix('.')}, but among {tested} hypotheses its p is {p_holm:.2g} "
        f"(Holm), not below {ALPHA:g}."
    )
    return dataclasses.replace(finding, verdict="undecided", why=why)
