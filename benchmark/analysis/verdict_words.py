"""What a verdict's reasons and the study's answer read like: numbers in, plain English out."""

import math
from collections.abc import Sequence

from benchmark.analysis.competence import Competence
from benchmark.analysis.power import MOST_SEEDS
from benchmark.analysis.scales import Scale
from benchmark.study.arm_names import BASELINE
from benchmark.study.terms import Gate


def listed(names: Sequence[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])


def seeds_text(n: int) -> str:
    """``1 seed``, ``8 seeds``."""
    return f"{n} seed" if n == 1 else f"{n} seeds"


def why_decided(
    verdict: str,
    interval: tuple[float, float],
    equal: tuple[float, float],
    scale: Scale,
    direction: int,
) -> str:
    """The reason for a verdict that was reached.

    Args:
        verdict: "supported", "refuted" or "equal".
        interval: 95 % interval, changes.
        equal: 90 % interval, which decides on equivalence.
        scale: of the changes.
        direction: the sign claimed; 0 for the claim that there is no difference.
    """
    shown = scale.span(*interval)
    if verdict == "equal":
        return (
            f"The 90 % interval, {scale.span(*equal)}, lies within the smallest effect of "
            f"{scale.smallest} on both sides."
        )
    if verdict == "refuted":
        side = scale.side(interval[0])
        against = "against the claim" if direction else "so the arms differ"
        return f"The interval, {shown}, lies {side} zero, {against}."
    if scale.margin == 0:
        return f"The interval, {shown}, lies on the claimed side of zero."
    return f"The whole interval, {shown}, lies beyond the smallest effect of {scale.smallest}."


def why_undecided(interval: tuple[float, float], scale: Scale, seeds_needed: int | None) -> str:
    """The reason why an interval decides nothing, and how many seeds would.

    Args:
        interval: 95 % interval, changes.
        scale: of the changes.
        seeds_needed: to decide if the estimate is right; None if beyond reach.
    """
    low, high = interval
    text = f"The interval, {scale.span(low, high)}, "
    if scale.margin == 0:
        text += "includes zero"
    elif low <= 0 <= high:
        text += f"includes both no effect and the smallest effect of {scale.smallest}"
    else:
        side = scale.side(low)
        text += f"lies {side} zero but includes effects smaller than {scale.smallest}"
    return f"{text}; {_seeds_to_decide(seeds_needed)}"


def _seeds_to_decide(seeds_needed: int | None) -> str:
    if seeds_needed is None:
        return f"more than {MOST_SEEDS:,} seeds would be needed if the estimate is right."
    return f"about {seeds_needed} seeds would decide if the estimate is right."


def why_of_size(verdict: str, shown: str, claimed: str, seeds_needed: int | None) -> str:
    """The reason for a verdict on an effect that is claimed to be so large.

    Args:
        verdict: "supported", "refuted" or "undecided".
        shown: the 95 % interval.
        claimed: the change that is claimed at least.
        seeds_needed: as of ``why_undecided``.
    """
    if verdict == "undecided":
        return (
            f"The interval, {shown}, includes the claimed {claimed}; "
            f"{_seeds_to_decide(seeds_needed)}"
        )
    where = "beyond" if verdict == "supported" else "short of"
    return f"The whole interval, {shown}, lies {where} the claimed {claimed}."


def why_mixed(noun: str, change: str, held_out: str) -> str:
    """Why two measures that are both sure of their sign give no verdict together.

    Args:
        noun: what the first measure is.
        change: its change in words.
        held_out: that of the held-out error.
    """
    return (
        f"Two measures point opposite ways, each beyond its interval: the {noun} {change}, the "
        f"held-out ε-MSE {held_out}."
    )


def ratio_text(ratio: float) -> str:
    """A ratio with three figures, ``0.953``, ``2.62``, ``1,260``."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:#.3g}"


def baseline_text(baseline: Competence, gate: Gate) -> str:
    """What B can and cannot do yet, and what is asked of it, as a part of a sentence."""
    count = len(baseline.level)
    below = round(baseline.below_mean * count)
    asked = math.ceil(gate.below_mean * count - 1e-9)
    ratio = ratio_text(baseline.oracle_ratio)
    if float(ratio.replace(",", "")) == gate.oracle_ratio:
        # So near the border three digits would hide on which side.
        ratio = f"{baseline.oracle_ratio:.6f}"
    return (
        f"{BASELINE}'s held-out ε-MSE is {ratio} times that of the "
        f"best linear denoiser (geometric mean over {count} noise levels; at most "
        f"{gate.oracle_ratio:g} is asked), and below that of the {baseline.mean_word} at {below} "
        f"of {count} levels ({asked} are asked)"
    )


def why_not_answered(baseline: Competence, gate: Gate) -> str:
    """Why a study says nothing about its question."""
    return (
        f"The networks have not learned enough for the question: {baseline_text(baseline, gate)}."
    )
