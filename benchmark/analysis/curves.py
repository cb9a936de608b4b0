"""Summaries of a learning curve: arrays of steps and values in, numbers out.

Only valid milestones count: until an arm has been trained on all noise levels, its samples say
nothing (docs/methods.md, Hollow points). Between milestones the value's place on its scale, where
lower is better, is taken to be linear in the step.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.analysis.scales import Scale
from mindiffusion.errors import UserError

Floats = NDArray[np.float64]


def _curve(
    steps: ArrayLike, values: ArrayLike, valid: ArrayLike, scale: Scale
) -> tuple[Floats, Floats]:
    """Valid steps and the places of their values on the scale, by step."""
    at, measured = (np.asarray(array, dtype=np.float64) for array in (steps, values))
    use = np.asarray(valid, dtype=bool)
    if not at.shape == measured.shape == use.shape or at.ndim != 1:
        raise UserError(
            f"A curve of {at.shape} steps, {measured.shape} values and {use.shape} marks: give "
            "three lists of one length."
        )
    at, measured = at[use], measured[use]
    if not (np.isfinite(measured) & scale.takes(measured)).all() or len(set(at)) != at.size:
        raise UserError(
            f"A curve through {measured.tolist()} at steps {at.tolist()}: give numbers (above 0 on "
            "a scale of ratios) at steps of their own."
        )
    order = np.argsort(at)
    return at[order], scale.on(measured[order])


def area_ratio(
    curve: tuple[ArrayLike, ArrayLike, ArrayLike],
    baseline: tuple[ArrayLike, ArrayLike, ArrayLike],
    scale: Scale,
) -> float:
    """Mean change between two curves over the span that is valid in both.

    Args:
        curve: (m,) different steps in any order, (m,) values that the scale takes, and (m,) whether
            the milestone counts.
        baseline: the same of the curve to compare with.
        scale: of the values.

    Returns:
        The first curve's area minus the second's; NaN where the spans share no stretch.
    """
    (at, places), (other, other_places) = _curve(*curve, scale), _curve(*baseline, scale)
    if min(at.size, other.size) < 2:
        return float("nan")
    low, high = max(at[0], other[0]), min(at[-1], other[-1])
    if low >= high:
        return float("nan")
    knots = np.union1d(at, other)
    knots = np.union1d(knots[(knots > low) & (knots < high)], [low, high])
    gap = np.interp(knots, at, places) - np.interp(knots, other, other_places)
    return float(np.trapezoid(gap, knots) / (high - low))


def steps_to_reach(
    steps: ArrayLike, values: ArrayLike, target: float, valid: ArrayLike, scale: Scale
) -> float:
    """First step at which a valid value is ``target`` or better.

    A first valid milestone that is better already says only "no later than this": it is returned.

    Args:
        steps: (m,) different steps, in any order.
        values: (m,) values that the scale takes.
        target: such a value.
        valid: (m,) whether the milestone counts.
        scale: of the values.

    Returns:
        The step, interpolated with the place on the scale linear in it; NaN if it is never reached.
    """
    at, places = _curve(steps, values, valid, scale)
    goal = float(scale.on(target))
    below = np.flatnonzero(places <= goal)
    if below.size == 0:
        return float("nan")
    first = int(below[0])
    if first == 0:
        return float(at[0])
    return float(np.interp(-goal, -places[first - 1 : first + 1], at[first - 1 : first + 1]))


def steps_equivalent(change: float, steps: ArrayLike, places: ArrayLike) -> float:
    """Share of the baseline's steps after which it was as much worse as a change is large.

    An arm that ends 5 % worse than the baseline has done as well as the baseline with that share of
    its steps. Read off the part of the curve that falls without a break up to its last step.

    Args:
        change: from the baseline to an arm, at their ends; 0 or above where the arm is worse.
        steps: (m,) the baseline's valid steps, rising.
        places: (m,) the baseline's values there on their scale, means over seeds.

    Returns:
        A share in (0, 1]; NaN outside what was measured, such as below the baseline's end.
    """
    at, places = (np.asarray(array, dtype=np.float64) for array in (steps, places))
    if at.size == 0 or at[-1] == 0:
        return float("nan")
    rises = np.flatnonzero(np.diff(places) >= 0)
    start = int(rises[-1]) + 1 if rises.size else 0
    at, places = at[start:], places[start:]
    goal = places[-1] + change
    if not places[-1] <= goal <= places[0]:
        return float("nan")
    return float(np.interp(-goal, -places, at) / at[-1])
