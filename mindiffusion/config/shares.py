"""Lengths that are shares of a run's steps, such as "5%"."""

import math
import re

_MOST_TEXT = 40


def share_of(text: str) -> float:
    """The share in (0, 1] that a text such as "5%" names.

    Raises:
        ValueError: it names none.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)%", text) if len(text) <= _MOST_TEXT else None
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise ValueError("input should be a share of the steps above 0% and at most 100%")
    return share


def warm_up_of(steps: int | str, total_steps: int) -> int:
    """Steps of a warm-up that is given so, or as a share of all steps, rounded half up."""
    if isinstance(steps, int):
        return steps
    return math.floor(share_of(steps) * total_steps + 0.5)


def decay_of(length: float | str, total_steps: int) -> float:
    """Decay of an average; of one whose half-life is a share of all steps, 2^(−1/(share·steps))."""
    if isinstance(length, str):
        return 0.5 ** (1.0 / (share_of(length) * total_steps))
    return length
