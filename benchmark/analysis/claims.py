"""The comparisons of a study, as data: which arms, with which weights, to answer which question.

A claim is about a contrast of the primary metric on its scale, Σ w_a x_a with Σ w_a = 0. Of log
distances its exponential is a ratio (of ratios, for the joint effect). Hypotheses are the study's
own; everything else is asked of known arms by their entries (``benchmark.study.arm_catalogue``),
and of any other arm in the same words.
"""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.study.arm_catalogue import (
    CATALOGUE,
    Comparison,
    ComparisonGroup,
    control_name,
    is_control,
    total,
)
from benchmark.study.arm_names import BASELINE
from benchmark.study.hypotheses import MINUS, Expected, Hypothesis, Weights

Group = ComparisonGroup | Literal["hypothesis"]
GROUPS: tuple[Group, ...] = ("hypothesis", "decomposition", "claim", "check")
"""In the order in which they are shown."""
# What the sign of a contrast is claimed to be, where lower is better; 0 claims that there is no
# difference.
Direction = Literal[-1, 0, 1]
_SIGN: dict[Expected, Direction] = {"better": -1, "equal": 0, "worse": 1}
EXPECTED: dict[Direction, Expected] = {sign: expected for expected, sign in _SIGN.items()}


@dataclass(frozen=True)
class Claim:
    """One question about arms, and the contrast that answers it.

    ``weights`` are (arm, weight) pairs that sum to 0; ``contrast`` is what they read like;
    ``direction`` is the sign that the contrast is claimed to have; ``at_least`` how large it is
    claimed to be, as a hypothesis says it.
    """

    key: str
    group: Group
    title: str
    question: str
    contrast: str
    weights: Weights
    direction: Direction
    at_least: float | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of the contrast, in its own order."""
        return tuple(arm for arm, _ in self.weights)

    @property
    def contrasted(self) -> frozenset[tuple[str, float]]:
        """The contrast, however it is written."""
        return frozenset(self.weights)

    @property
    def asked(self) -> tuple[frozenset[tuple[str, float]], Direction, float | None]:
        """What is claimed, however it is written."""
        return self.contrasted, self.direction, self.at_least


def _of_hypothesis(one: Hypothesis) -> Claim:
    contrast = one.shown_contrast
    title = one.title or one.name
    if not one.title or one.expected != "better":
        title = f"{title} (expected: {one.expected})"
    if one.at_least is not None:
        title = f"{title}, by at least {one.at_least:g}"
    question = one.question or f"Is {contrast} {one.expected}?"
    if one.metric:
        title = f"{title}: {one.metric}"
    direction = _SIGN[one.expected]
    return Claim(
        one.name, "hypothesis", title, question, contrast, one.weights, direction, one.at_least
    )


def _of_comparison(one: Comparison) -> Claim:
    first, second = one.arms
    key = first if one.group == "check" else f"{first}-{second}"
    contrast, weights = f"{first} {MINUS} {second}", ((first, 1.0), (second, -1.0))
    return Claim(key, one.group, one.title, one.question, contrast, weights, _SIGN[one.expected])


def _known_comparisons() -> list[Comparison]:
    """All of the catalogue; claims against plain training before claims among arms."""

    def place(one: Comparison) -> tuple[int, bool]:
        return GROUPS.index(one.group), one.group == "claim" and BASELINE not in one.arms

    return sorted((one for arm in CATALOGUE for one in arm.comparisons), key=place)


def claims_about(arms: Collection[str], hypotheses: Sequence[Hypothesis]) -> list[Claim]:
    """The claims whose arms are all there: hypotheses, the catalogue's, then those of other arms.

    Args:
        arms: names of the arms that have results.
        hypotheses: those of the study.
    """
    declared = [_of_hypothesis(one) for one in hypotheses]
    known = [_of_comparison(one) for one in _known_comparisons()]
    asked = {claim.contrasted for claim in known}
    others = [
        claim
        for arm in sorted(arm for arm in arms if arm != BASELINE and not is_control(arm, arms))
        for claim in map(_of_comparison, _comparisons_of(arm))
        if claim.contrasted not in asked
    ]
    # What a hypothesis asks is not asked again as a part of something else.
    claimed = {claim.contrasted for claim in declared}
    further = [
        claim
        for claim in (*known, *others)
        if claim.group != "decomposition" or claim.contrasted not in claimed
    ]
    names = {claim.key for claim in declared}
    return [
        dataclasses.replace(claim, key=f"{claim.key} ({claim.group})")
        if claim.key in names and claim.group != "hypothesis"
        else claim
        for claim in (*declared, *further)
        if set(claim.arms) <= set(arms)
    ]


def _comparisons_of(arm: str) -> list[Comparison]:
    """What is asked of any arm that is no control: is it better, and is that its order?"""
    twin, static, shuffled, anti, flat = (
        control_name(kind, arm) for kind in ("density", "static", "shuffled", "anti", "flat")
    )
    parts = (
        (
            "Early order",
            "Does its order help, beyond training each noise level as much and ending alike?",
            (arm, twin),
        ),
        ("Exposure", "Does its share of noise levels help, in no order?", (static, BASELINE)),
        ("What comes last", "Does ending as it ends help, without any order?", (twin, static)),
        (
            "Exposure, and what comes last",
            "Do its share of noise levels and its last stage help together?",
            (twin, BASELINE),
        ),
        ("Order, against shuffled stages", "Does its stages' order matter?", (arm, shuffled)),
        ("Order, against reversed stages", "Is it better than its reverse?", (arm, anti)),
        ("Order alone", "Does its order help at plain training's exposure?", (flat, BASELINE)),
    )
    return [
        total(arm),
        *(
            Comparison(pair, "decomposition", f"{title} of {arm}", question)
            for title, question, pair in parts
        ),
    ]


def about(claim: Claim, what: str) -> Claim:
    """The same claim about another measure, named in key and title."""
    return dataclasses.replace(claim, key=f"{claim.key} {what}", title=f"{claim.title}: {what}")
