"""What a verdict's reasons and the study's answer read like: numbers in, plain English out."""

import math
from collections.abc import Sequence

from benchmark.analysis.competence import Competence
from benchmark.analysis.log_ratios import BEYOND, is_beyond, percent_change
from benchmark.analysis.power import MOST_SEEDS
from benchmark.study.arm_names import BASELINE
from benchmark.study.hypotheses import MINUS
from benchmark.study.terms import Gate


def percent(log_ratio: float, digits: int = 1) -> str:
    """A log ratio as a signed change in percent: ``+3.0 %``, ``−2.9 %``; or ``> 9999 %``."""
    if is_beyond(log_ratio):
        return BEYOND
    text = f"{percent_change(log_ratio):+.{digits}f} %"
    # What is rounded to nothing has no sign.
    if not any(character in "123456789" for character in text):
        return text[1:]
    return text.replace("-", MINUS)


def digits_for(width: float) -> int:
    """Decimals (1 to 4) that show two figures of a log ratio's interval of that width."""
    if not width > 0:
        return 1
    return min(4, max(1, 1 - math.floor(math.log10(100 * width / 2))))


def span(low: float, high: float) -> str:
    """``−10.2 % to −4.0 %``."""
    digits = digits_for(high - low)
    return f"{percent(low, digits)} to {percent(high, digits)}"


def margin_text(margin: float) -> str:
    """The smallest effect of interest: ``3 %``."""
    return f"{percent_change(margin):.3g} %"


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
    margin: float,
    direction: int,
) -> str:
    """The reason for a verdict that was reached.

    Args:
        verdict: "supported", "refuted" or "equal".
        interval: 95 % interval, log ratios.
        equal: 90 % interval, which decides on equivalence.
        margin: smallest effect of interest, a log ratio; 0 where none is declared.
        direction: the sign claimed; 0 for the claim that there is no difference.
    """
    if verdict == "equal":
        return (
            f"The 90 % interval, {span(*equal)}, lies within the smallest effect of "
            f"{margin_text(margin)} on both sides."
        )
    if verdict == "refuted":
        side = "above" if interval[0] > 0 else "below"
        against = "against the claim" if direction else "so the arms differ"
        return f"The interval, {span(*interval)}, lies {side} zero, {against}."
    if margin == 0:
        return f"The interval, {span(*interval)}, lies on the claimed side of zero."
    return (
        f"The whole interval, {span(*interval)}, lies beyond the smallest effect of "
        f"{margin_text(margin)}."
    )


def why_undecided(interval: tuple[float, float], margin: float, seeds_needed: int | None) -> str:
    """The reason why an interval decides nothing, and how many seeds would.

    Args:
        interval: 95 % interval, log ratios.
        margin: smallest effect of interest, a log ratio; 0 where none is declared.
        seeds_needed: to decide if the estimate is right; None if beyond reach.
    """
    low, high = interval
    text = f"The interval, {span(low, high)}, "
    if margin == 0:
        text += "includes zero"
    elif low <= 0 <= high:
        text += f"includes both no effect and the smallest effect of {margin_text(margin)}"
    else:
        side = "below" if high < 0 else "above"
        text += f"lies {side} zero but includes effects smaller than {margin_text(margin)}"
    if seeds_needed is None:
        return f"{text}; more than {MOST_SEEDS:,} seeds would be needed if the estimate is right."
    return f"{text}; about {seeds_needed} seeds would decide if the estimate is right."


Interval = tuple[float, float, float]
"""Estimate, low and high end, as log ratios."""


def change_text(change: Interval) -> str:
    """``+15.5 % (+6.7 % to +25.0 %)``; without an interval the change alone."""
    estimate, low, high = change
    text = percent(estimate, digits_for(high - low))
    return text if math.isnan(low) else f"{text} ({span(low, high)})"


def why_mixed(distance: Interval, held_out: Interval) -> str:
    """Why two measures that are both sure of their sign give no verdict together."""
    return (
        f"Two measures point opposite ways, each beyond its interval: the distance "
        f"{change_text(distance)}, the held-out ε-MSE {change_text(held_out)}."
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
        f"{gate.oracle_ratio:g} is asked), and below that of the mean picture at {below} of "
        f"{count} levels ({asked} are asked)"
    )


def why_not_answered(baseline: Competence, gate: Gate) -> str:
    """Why a study says nothing about its question."""
    return (
        f"The networks have not learned enough for the question: {baseline_text(baseline, gate)}."
    )
