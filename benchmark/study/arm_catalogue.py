"""What this program knows of arms: one entry for each, and one for each kind of control.

Nothing else knows an arm but the baseline by its name. An arm without an entry, such as one of a
user's own study, is compared, drawn and tabulated like any other; it has no note and takes the next
free look.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from benchmark.study.arm_names import BASELINE
from benchmark.study.hypotheses import Expected

ComparisonGroup = Literal["decomposition", "claim", "check"]


@dataclass(frozen=True)
class Comparison:
    """A question that the difference of two arms answers, the first minus the second.

    Attributes:
        arms: the two.
        group: what kind of question it is.
        title: a few words for tables and figures.
        question: a sentence.
        expected: what the first is claimed to be.
    """

    arms: tuple[str, str]
    group: ComparisonGroup
    title: str
    question: str
    expected: Expected = "better"


@dataclass(frozen=True)
class Look:
    """How figures draw an arm: names of ``plots.style``."""

    colour: str
    marker: str
    dashes: int


@dataclass(frozen=True)
class KnownArm:
    """What is said of an arm, drawn of it and asked of it.

    Attributes:
        name: as in rows.
        note: what it is, in a few words.
        panel: title of the panel that it shares where a study has many arms; empty: every panel.
        look: of its own in all figures; None: the next free one.
        importance: rank among the arms that answer the question, for figures with room for a few;
            None: after all of them.
        comparisons: what is asked of it.
        check: title and expectation of the check of the instrument that it is; None if it is none.
    """

    name: str
    note: str = ""
    panel: str = ""
    look: Look | None = None
    importance: int | None = None
    comparisons: tuple[Comparison, ...] = ()
    check: tuple[str, str] | None = None


@dataclass(frozen=True)
class KnownControl:
    """A kind of control that can be made of any curriculum.

    Attributes:
        kind: of ``mindiffusion.curriculum.controls``.
        label: what it is called after the name of its arm, as in ``CS-density*``.
        note: what it is, with ``{}`` for its arm.
        stands_alone: whether the control of ``SHORT`` is called by the label alone.
        isolates: whether it takes a part of the curriculum away; else it is an arm like any other.
    """

    kind: str
    label: str
    note: str
    stands_alone: bool = True
    isolates: bool = True


SHORT = "C"
"""The curriculum whose controls need not say whose they are."""
CONTROLS_OF_SHORT = f"controls of {SHORT}"
KNOWN_CONTROLS = (
    KnownControl("density", "density*", "{}’s exposure and last stage, else no order"),
    KnownControl("static", "static", "{}’s exposure, no order at all"),
    KnownControl("shuffled", "shuffled*", "{}’s stages, shuffled"),
    KnownControl("anti", "anti*", "{}’s stages, reversed"),
    KnownControl("flat", "flat", "{}’s order, uniform exposure", stands_alone=False),
    KnownControl("mirror", "mirror", "{}’s order reflected, low noise first", isolates=False),
    KnownControl("even", "even", "{}’s stages, all equally long", stands_alone=False),
)


def control_name(kind: str, of: str) -> str:
    """Name of a control in tables: ``density*`` of C, ``CS-density*`` of CS, ``C-flat`` of C."""
    control = next(one for one in KNOWN_CONTROLS if one.kind == kind)
    return control.label if of == SHORT and control.stands_alone else f"{of}-{control.label}"


def ending_of_control(arm: str) -> str:
    """The ending by which an arm's name says that it is a control, ``-density*``; else empty."""
    endings = (f"-{control.label}" for control in KNOWN_CONTROLS if control.isolates)
    return next((ending for ending in endings if arm.endswith(ending)), "")


def is_control(arm: str, arms: Collection[str]) -> bool:
    """Whether an arm takes something away from another one of some arms, or from ``SHORT``."""
    isolating = [control.kind for control in KNOWN_CONTROLS if control.isolates]
    ending = ending_of_control(arm)
    is_of_short = arm in (control_name(kind, SHORT) for kind in isolating)
    return is_of_short or bool(ending and arm.removesuffix(ending) in arms)


_ORDER_OF_C = (
    Comparison(
        ("static", BASELINE), "decomposition", "Exposure",
        "Does training the noise levels as often as the curriculum does help, in no order at all?",
    ),
    Comparison(
        ("density*", "static"), "decomposition", "What comes last",
        "Does ending as the curriculum ends help, when nothing else has an order?",
    ),
    Comparison(
        ("density*", BASELINE), "decomposition", "Exposure, and what comes last",
        "Do the curriculum's share of noise levels and its last stage help together?",
    ),
    Comparison(
        ("C", "shuffled*"), "decomposition", "Order, against shuffled stages",
        "Does the order of the curriculum's stages matter?",
    ),
    Comparison(
        ("C", "anti*"), "decomposition", "Order, against reversed stages",
        "Is the curriculum's order better than its reverse?",
    ),
    Comparison(
        ("C-flat", BASELINE), "decomposition", "Order alone",
        "Does the order help when every noise level is trained as much as in plain training?",
    ),
)  # fmt: skip
_FACTORIAL, _CHECKS = "factorial", "instrument checks"
VARIANTS = "variants"
_RELATED, _LOW_FIRST = "related methods", "low noise first"
_CLUSTERS = "clusters"


def total(arm: str) -> Comparison:
    """Is an arm better than plain training?"""
    return Comparison(
        (arm, BASELINE), "claim", f"{arm} beats {BASELINE}", f"Does {arm} beat plain training?"
    )


def _check(arm: str, title: str, question: str, expected: Expected) -> tuple[Comparison, ...]:
    return (Comparison((arm, BASELINE), "check", title, question, expected),)


CATALOGUE = (
    # The factorial comes first, in the order of its arms' complexity; then C's controls, then
    # checks. Arms that have no look of their own stand by name behind these.
    KnownArm(BASELINE, "plain training", look=Look("black", "o", 0), importance=0),
    KnownArm("S", "channel mask, no curriculum", _FACTORIAL, Look("orange", "v", 4), 5),
    KnownArm("R", "group penalty, no curriculum", _FACTORIAL, Look("green", "P", 5), 6),
    KnownArm(
        "C", "noise curriculum, high noise first", _FACTORIAL, Look("blue", "s", 1), 1,
        (*_ORDER_OF_C, total("C")),
    ),
    KnownArm(
        "CS", "curriculum and channel mask", _FACTORIAL, Look("red", "^", 2), 3,
        (
            Comparison(
                ("S", BASELINE), "decomposition", "Mask alone",
                "Does the channel mask help without the noise curriculum?",
            ),
            total("CS"),
            Comparison(
                ("CS", "C"), "claim", "CS beats C",
                "Does the channel mask improve the noise curriculum?",
            ),
        ),
    ),
    KnownArm(
        "CR", "curriculum and group penalty", _FACTORIAL, Look("purple", "D", 3), 4,
        (
            Comparison(
                ("R", BASELINE), "decomposition", "Penalty alone",
                "Does the group penalty help without the noise curriculum?",
            ),
            total("CR"),
            Comparison(
                ("CR", "C"), "claim", "CR beats C",
                "Does the group penalty improve the noise curriculum?",
            ),
            Comparison(
                ("CS", "CR"), "claim", "CS equals CR",
                "Are the mask and the penalty worth the same?", "equal",
            ),
        ),
    ),
    KnownArm("density*", panel=CONTROLS_OF_SHORT, look=Look("sky", "X", 0), importance=2),
    KnownArm("static", panel=CONTROLS_OF_SHORT, look=Look("red", "d", 1)),
    KnownArm("shuffled*", panel=CONTROLS_OF_SHORT, look=Look("green", "<", 2)),
    KnownArm("anti*", panel=CONTROLS_OF_SHORT, look=Look("silver", ">", 3)),
    KnownArm("C-flat", panel=CONTROLS_OF_SHORT, look=Look("brown", "p", 4)),
    KnownArm(
        "A/A", "B again, other random draws", _CHECKS, Look("silver", "P", 4),
        comparisons=_check(
            "A/A", "Other draws change nothing",
            "Is plain training with other random draws as good as plain training?", "equal",
        ),
        check=("Same arm, other draws (A/A)", f"No difference from {BASELINE}."),
    ),
    KnownArm(
        "B-80%", "B, 80 % of the steps", _CHECKS, Look("orange", "<", 1),
        comparisons=_check(
            "B-80%", "Fewer steps are worse",
            "Does the instrument see that 80 % of the steps are too few?", "worse",
        ),
        check=("Fewer steps (B-80%)", f"Worse than {BASELINE}."),
    ),
    KnownArm(
        "B-half", "B, half the width", _CHECKS, Look("green", "d", 3),
        comparisons=_check(
            "B-half", "A smaller network is worse",
            "Does the instrument see that a network of half the width is worse?", "worse",
        ),
        check=("Narrower network (B-half)", f"Worse than {BASELINE}."),
    ),
    KnownArm("S-silent", "as S, masked channels silenced", VARIANTS),
    KnownArm("CS-silent", "as CS, masked channels silenced", VARIANTS),
    KnownArm("S-down1", "as S, mask behind the first block", VARIANTS),
    KnownArm("CS-down1", "as CS, mask behind the first block", VARIANTS),
    KnownArm("CS-stream", "as CS, mask on the whole residual stream", VARIANTS),
    KnownArm("CS-older", "as CS, sparsities of an older published file", VARIANTS),
    KnownArm("CR-x10", "as CR, ten times the penalty", VARIANTS),
    KnownArm("CR-x100", "as CR, a hundred times the penalty", VARIANTS),
    KnownArm("C-snr", "as C, stages of equal log-SNR", VARIANTS),
    KnownArm(
        "D", "clusters of log-SNR, high noise first, paced by patience", _CLUSTERS,
        comparisons=(
            total("D"),
            Comparison(
                ("D", "D-density*"), "decomposition", "Order of D",
                "Does the order of the clusters matter, at the same exposure and last stage?",
            ),
            Comparison(
                ("D", "D-even"), "decomposition", "Pacing of D",
                "Are stage lengths found by patience better than equal ones?",
            ),
        ),
    ),
    KnownArm("D-density*", panel=_CLUSTERS),
    KnownArm("D-even", panel=_CLUSTERS),
    KnownArm("D-fixed", "as D, with stages of a fixed length", _CLUSTERS),
    KnownArm("D-uniform", "as D, clusters of equal width in noise time", _CLUSTERS),
    KnownArm("D-raw", "as D, clusters of raw SNR", _CLUSTERS),
    KnownArm("D-probe", "as D, paced by a fixed probe", _CLUSTERS),
    KnownArm("D-single", "as D, each stage its own cluster alone", _CLUSTERS),
    KnownArm("D-measured", "as D, clusters and order by measured difficulty", _CLUSTERS),
    KnownArm("mirror", "low noise first", _LOW_FIRST),
    KnownArm("mirror-density*", panel=_LOW_FIRST),
    KnownArm("P2", "loss weight P2", _RELATED),
    KnownArm("MinSNR-5", "loss weight Min-SNR-5", _RELATED),
    KnownArm("EDM-lognormal", "noise levels drawn as in EDM", _RELATED),
    KnownArm("logit-normal", "noise levels drawn logit-normally", _RELATED),
    KnownArm("SpeeD", "noise levels and weight of SpeeD", _RELATED),
    KnownArm("B-TTDM", "noise levels drawn by a Beta density", _RELATED),
    KnownArm("SpeeD-code", "noise levels and weight of SpeeD's final code", _RELATED),
    KnownArm("Laplace", "log-SNR drawn by a Laplace density", _RELATED),
    KnownArm("SoftTruncation", "noise levels above a random cut", _RELATED),
    KnownArm("InfoNoise", "noise levels drawn by the information they remove", _RELATED),
    KnownArm("loss-2nd-moment", "noise levels drawn by the loss's second moment", _RELATED),
    KnownArm("middle-first", "middle noise first, then all levels", _RELATED),
)  # fmt: skip
_BY_NAME = {arm.name: arm for arm in CATALOGUE}
PANELS = (_FACTORIAL, CONTROLS_OF_SHORT, _CHECKS, VARIANTS, _CLUSTERS, _LOW_FIRST, _RELATED)
"""Titles of the panels in the order in which they are shown."""


def known_arm(name: str) -> KnownArm:
    """The entry of an arm; one that says nothing for an arm of the user's own."""
    return _BY_NAME.get(name, KnownArm(name))


def checks_that_are(expected: Expected) -> list[str]:
    """Arms that check the instrument, of which this is known beforehand."""
    return [
        arm.name
        for arm in CATALOGUE
        if arm.check and expected in (comparison.expected for comparison in arm.comparisons)
    ]


def in_order(arms: Iterable[str]) -> list[str]:
    """Arms as they are shown: those with a place of their own, then the others by name."""
    placed = [arm.name for arm in CATALOGUE if arm.look is not None]
    names = set(arms)
    return [arm for arm in placed if arm in names] + sorted(names.difference(placed))


def by_importance(arms: Iterable[str]) -> list[str]:
    """Arms, those that answer the question before all others; of equal ones as they came."""
    last = len(CATALOGUE)

    def rank(name: str) -> int:
        importance = known_arm(name).importance
        return last if importance is None else importance

    return sorted(arms, key=rank)


def arm_note(arm: str) -> str:
    """What an arm is, in a few words; nothing for an arm of the user's own."""
    if known_arm(arm).note:
        return known_arm(arm).note
    for control in KNOWN_CONTROLS:
        ending = f"-{control.label}"
        if arm == control_name(control.kind, SHORT):
            return control.note.format(SHORT)
        if arm.endswith(ending):
            return control.note.format(arm.removesuffix(ending))
    return ""
