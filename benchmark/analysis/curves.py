"""Summaries of a learning curve: arrays of steps and distances in, numbers out.

Only valid milestones count: until an arm has been trained on all noise levels, its samples say
nothing (docs/methods.md, Hollow points). Between milestones the log of the distance is taken to be
linear in the step.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindiffusion.errors import UserError

Floats = NDArray[np.float64]


def _curve(steps: ArrayLike, values: ArrayLike, valid: ArrayLike) -> tuple[Floats, Floats]:
    """Valid steps and the logs of their values, by step."""
    at, distances = (np.asarray(array, dtype=np.float64) for array in (steps, values))
    use = np.asarray(valid, dtype=bool)
    if not at.shape == distances.shape == use.shape or at.ndim != 1:
        raise UserError(
            f"A curve of {at.shape} steps, {distances.shape} values and {use.shape} marks: give "
            "three lists of one length."
        )
    at, distances = at[use], distances[use]
    if not (np.isfinite(distances) & (distances > 0)).all() or len(set(at)) != at.size:
        raise UserError(
            f"A curve through {distances.tolist()} at steps {at.tolist()}: give positive numbers "
            "at steps of their own."
        )
    order = np.argsort(at)
    return at[order], np.log(distances[order])


def area_under(steps: ArrayLike, values: ArrayLike, valid: ArrayLike) -> float:
    """Mean of the log distance over the span of valid steps, by trapezoids.

    Areas compare only over one span; ``area_ratio`` sees to that.

    Args:
        steps: (m,) different steps, in any order.
        values: (m,) distances > 0.
        valid: (m,) whether the milestone counts.

    Returns:
        The area over its span; NaN with fewer than two valid milestones.
    """
    at, logs = _curve(steps, values, valid)
    return float(np.trapezoid(logs, at) / (at[-1] - at[0])) if at.size > 1 else float("nan")


def area_ratio(
    curve: tuple[ArrayLike, ArrayLike, ArrayLike], baseline: tuple[ArrayLike, ArrayLike, ArrayLike]
) -> float:
    """Mean log ratio of two curves over the span that is valid in both.

    Args:
        curve: steps, values and marks as in ``area_under``.
        baseline: the same of the curve to compare with.

    Returns:
        The first curve's area minus the second's; NaN where the spans share no stretch.
    """
    (at, logs), (other, other_logs) = _curve(*curve), _curve(*baseline)
    if min(at.size, other.size) < 2:
        return float("nan")
    low, high = max(at[0], other[0]), min(at[-1], other[-1])
    if low >= high:
        return float("nan")
    knots = np.union1d(at, other)
    knots = np.union1d(knots[(knots > low) & (knots < high)], [low, high])
    gap = np.interp(knots, at, logs) - np.interp(knots, other, other_logs)
    return float(np.trapezoid(gap, knots) / (high - low))


def steps_to_reach(steps: ArrayLike, values: ArrayLike, target: float, valid: ArrayLike) -> float:
    """First step at which a valid distance is at ``target`` or below.

    A first valid milestone that is below already says only "no later than this": it is returned.

    Args:
        steps: (m,) different steps, in any order.
        values: (m,) distances > 0.
        target: distance > 0.
        valid: (m,) whether the milestone counts.

    Returns:
        The step, interpolated with the log distance linear in it; NaN if it is never reached.
    """
    at, logs = _curve(steps, values, valid)
    goal = float(np.log(target))
    below = np.flatnonzero(logs <= goal)
    if below.size == 0:
        return float("nan")
    first = int(below[0])
    if first == 0:
        return float(at[0])
    return float(np.interp(-goal, -logs[first - 1 : first + 1], at[first - 1 : first + 1]))


def steps_equivalent(log_ratio: float, steps: ArrayLike, log_distance: ArrayLike) -> float:
    """Share of the baseline's steps after which its distance is its last one · exp(log_ratio).

    An arm that ends 5 % above the baseline has done as well as the baseline with that share of
    its steps. Read off the part of the curve that falls without a break up to its last step.

    Args:
        log_ratio: log of an arm's distance over the baseline's, at their ends.
        steps: (m,) the baseline's valid steps, rising.
        log_distance: (m,) the baseline's log distances there, means over seeds.

    Returns:
        A share in (0, 1]; NaN outside what was measured, such as below the baseline's end.
    """
    at, logs = (np.asarray(array, dtype=np.float64) for array in (steps, log_distance))
    if at.size == 0 or at[-1] == 0:
        return float("nan")
    rises = np.flatnonzero(np.diff(logs) >= 0)
    start = int(rises[-1]) + 1 if rises.size else 0
    at, logs = at[start:], logs[start:]
    goal = logs[-1] + log_ratio
    if not logs[-1] <= goal <= logs[0]:
        return float("nan")
    return float(np.interp(-goal, -logs, at) / at[-1])
