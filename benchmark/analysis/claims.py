"""The comparisons of a study, as data: which arms, with which weights, to answer which question.

A claim is about a contrast of log distances, Σ w_a log FD_a with Σ w_a = 0: its exponential is a
ratio of distances (of ratios, for the joint effect). METHODS §§1, 6 and 7 say what each isolates.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from benchmark.study.arm_names import BASELINE

Group = Literal["hypothesis", "decomposition", "claim", "check"]
# What the sign of a contrast is claimed to be; 0 claims that there is no difference.
Direction = Literal[-1, 0, 1]


@dataclass(frozen=True)
class Claim:
    """One question about arms, and the contrast that answers it.

    ``weights`` are (arm, weight) pairs that sum to 0.
    """

    key: str
    group: Group
    title: str
    question: str
    contrast: str
    weights: tuple[tuple[str, float], ...]
    direction: Direction

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of the contrast, in its own order."""
        return tuple(arm for arm, _ in self.weights)


def difference(
    key: str,
    group: Group,
    title: str,
    question: str,
    arms: tuple[str, str],
    direction: Direction = -1,
) -> Claim:
    """A claim about the difference of two arms: the first minus the second."""
    first, second = arms
    weights = ((first, 1.0), (second, -1.0))
    return Claim(key, group, title, question, f"{first} − {second}", weights, direction)


CLAIMS = (
    difference(
        "H1", "hypothesis", "Early order",
        "Does going from high to low noise help, beyond training each noise level as much and "
        "ending alike?",
        ("C", "density*"),
    ),
    difference(
        "H2", "hypothesis", "Benefit", "Does the noise curriculum beat plain training?", ("C", "B"),
    ),
    Claim(
        "H3", "hypothesis", "Joint",
        "Does the channel mask help more with the noise curriculum than without it?",
        "(CS − C) − (S − B)", (("CS", 1.0), ("C", -1.0), ("S", -1.0), ("B", 1.0)), -1,
    ),
    difference(
        "static-B", "decomposition", "Exposure",
        "Does training the noise levels as often as the curriculum does help, in no order at all?",
        ("static", "B"),
    ),
    difference(
        "density*-static", "decomposition", "What comes last",
        "Does ending as the curriculum ends help, when nothing else has an order?",
        ("density*", "static"),
    ),
    difference(
        "density*-B", "decomposition", "Exposure, and what comes last",
        "Do the curriculum's share of noise levels and its last stage help together?",
        ("density*", "B"),
    ),
    difference(
        "C-shuffled*", "decomposition", "Order, against shuffled stages",
        "Does the order of the curriculum's stages matter?", ("C", "shuffled*"),
    ),
    difference(
        "C-anti*", "decomposition", "Order, against reversed stages",
        "Is the curriculum's order better than its reverse?", ("C", "anti*"),
    ),
    difference(
        "C-flat-B", "decomposition", "Order alone",
        "Does the order help when every noise level is trained as much as in plain training?",
        ("C-flat", "B"),
    ),
    difference(
        "S-B", "decomposition", "Mask alone",
        "Does the channel mask help without the noise curriculum?", ("S", "B"),
    ),
    difference(
        "R-B", "decomposition", "Penalty alone",
        "Does the group penalty help without the noise curriculum?", ("R", "B"),
    ),
    difference("C-B", "claim", "C beats B", "Does C beat plain training?", ("C", "B")),
    difference(
        "CS-B", "claim", "CS beats B", "Does CS beat plain training?", ("CS", "B"),
    ),
    difference("CR-B", "claim", "CR beats B", "Does CR beat plain training?", ("CR", "B")),
    difference(
        "CS-C", "claim", "CS beats C", "Does the channel mask improve the noise curriculum?",
        ("CS", "C"),
    ),
    difference(
        "CR-C", "claim", "CR beats C", "Does the group penalty improve the noise curriculum?",
        ("CR", "C"),
    ),
    difference(
        "CS-CR", "claim", "CS equals CR", "Are the mask and the penalty worth the same?",
        ("CS", "CR"), direction=0,
    ),
    difference(
        "A/A", "check", "Other draws change nothing",
        "Is plain training with other random draws as good as plain training?", ("A/A", "B"),
        direction=0,
    ),
    difference(
        "B-80%", "check", "Fewer steps are worse",
        "Does the instrument see that 80 % of the steps are too few?", ("B-80%", "B"), direction=1,
    ),
    difference(
        "B-half", "check", "A smaller network is worse",
        "Does the instrument see that a network of half the width is worse?", ("B-half", "B"),
        direction=1,
    ),
)  # fmt: skip

_CONTROLS_OF_C = ("density*", "static", "shuffled*", "anti*", "C-flat")
CONTROL_SUFFIXES = ("-density*", "-static", "-shuffled*", "-anti*", "-flat")


def claims_about(arms: Collection[str]) -> list[Claim]:
    """The claims whose arms are all there: those above, then the same of every other arm.

    Args:
        arms: names of the arms that have results.
    """
    listed = [claim for claim in CLAIMS if set(claim.arms) <= set(arms)]
    known = {claim.arms for claim in CLAIMS}
    for arm in sorted(arm for arm in arms if not _is_control(arm, arms)):
        listed += [
            claim
            for claim in _claims_of(arm)
            if set(claim.arms) <= set(arms) and claim.arms not in known
        ]
    return listed


def density_control(arm: str) -> str:
    """The arm that trains each noise level as often as ``arm`` and ends alike, else in no order."""
    return "density*" if arm == "C" else f"{arm}-density*"


def _is_control(arm: str, arms: Collection[str]) -> bool:
    of = (arm.removesuffix(suffix) for suffix in CONTROL_SUFFIXES if arm.endswith(suffix))
    return arm in (BASELINE, *_CONTROLS_OF_C) or any(name in arms for name in of)


def _claims_of(arm: str) -> list[Claim]:
    """What is asked of any arm that is no control: is it better, and is that its order?"""
    twin, static, shuffled, anti, flat = (f"{arm}{suffix}" for suffix in CONTROL_SUFFIXES)
    total = difference(
        f"{arm}-B", "claim", f"{arm} beats B", f"Does {arm} beat plain training?", (arm, BASELINE)
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
        total,
        *(
            difference("-".join(pair), "decomposition", f"{title} of {arm}", question, pair)
            for title, question, pair in parts
        ),
    ]


def about(claim: Claim, what: str) -> Claim:
    """The same claim about another measure, named in key and title."""
    return dataclasses.replace(claim, key=f"{claim.key} {what}", title=f"{claim.title}: {what}")
