"""Controls: what a curriculum is compared with, made from its own stage table.

A curriculum changes the order of noise levels, how much each is trained, and what is trained last.
A control changes one of the first two and only before the last stage: it ends in the curriculum's
own last stage (docs/methods.md, Controls before the last stage; docs/arms.md). ``static`` alone has
no last stage, and no order at all.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mindiffusion.curriculum.density import Average, Histogram, Share, Window
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import UserError, did_you_mean

Stages = tuple[StageConfig, ...]
ControlKind = Literal["density", "static", "shuffled", "anti", "flat", "mirror", "even"]
CONTROLS: tuple[ControlKind, ...] = get_args(ControlKind)
FEWEST_STAGES: dict[str, int] = {
    kind: 3 if kind in ("shuffled", "anti", "even") else 2 for kind in CONTROLS
}
"""Stages that a curriculum must have for each kind: a change of order or of lengths before the last
stage needs two stages there."""
_FITTING_ROUNDS = 10_000
_UNIFORM_WITHIN = 1e-12
_DECIMALS = 12


def control(stages: Stages, kind: str, seed: int = 0) -> Stages:
    """The stage table of a control.

    Args:
        stages: the curriculum, two stages or more.
        kind: of ``CONTROLS``.
            density: the time-average of the stages before the last at all of their steps.
            static: the time-average of all stages at all steps.
            shuffled: these stages in an order permuted by ``seed``, never their own.
            anti: these stages backwards.
            flat: their windows stretched to what the last stage covers, in order, with masses set
                so that their average is uniform over it.
            mirror: their windows reflected at t = ½, so low noise first.
            even: these stages, all equally long.
        seed: of the permutation; other kinds don't depend on it.

    Raises:
        UserError: unknown kind, one stage only, or a curriculum that has no such control.
    """
    if kind not in CONTROLS:
        raise UserError(
            f"unknown control {kind!r}; allowed are {', '.join(CONTROLS)}."
            f"{did_you_mean(kind, CONTROLS)}"
        )
    if len(stages) < 2:
        raise UserError(
            f"control {kind!r} needs a curriculum of two stages or more, this one has "
            f"{len(stages)}; name another arm."
        )
    if kind == "static":
        return _averaged(stages)
    *head, last = stages
    if kind == "shuffled":
        return (*_shuffled(tuple(head), seed), last)
    return (*_MAKERS[kind](tuple(head), last), last)


def standard_controls(stages: Stages, has_table: bool = True) -> tuple[ControlKind, ...]:
    """The controls of ``controls_of``: all but mirror and even, without those that cannot be.

    Where capacity changes with the stages it must stay in place, so their order cannot change; nor
    can it with one stage before the last. If stages begin at steps that are found during the run,
    it is not known whether there is a flat control; whether these steps matter, even asks.

    Args:
        stages: the curriculum.
        has_table: whether it is known beforehand when they begin.
    """
    kinds = _standard_controls(stages)
    if has_table:
        return kinds
    even: tuple[ControlKind, ...] = ("even",) if len(stages) >= FEWEST_STAGES["even"] else ()
    return (*(kind for kind in kinds if kind != "flat"), *even)


def _standard_controls(stages: Stages) -> tuple[ControlKind, ...]:
    kinds: tuple[ControlKind, ...] = ("density", "static", "shuffled", "anti", "flat")
    if len(stages) < 3 or _changes_capacity(stages[:-1]):
        return ("density", "static", "flat")
    if len(stages) == 3:
        # Two stages have one other order, and that is backwards.
        return ("density", "static", "anti", "flat")
    return kinds


def _changes_capacity(head: Stages) -> bool:
    return len({(stage.sparsity, stage.penalty_lambda) for stage in head}) > 1


def _density(head: Stages, last: StageConfig) -> Stages:
    del last
    return _averaged(head)


def _averaged(stages: Stages) -> Stages:
    """One stage; where capacity changes, one for each stage, all of the same density."""
    average = _time_average(stages)
    if _changes_capacity(stages):
        return tuple(
            replace(stage, name=f"static{i}", density=average) for i, stage in enumerate(stages, 1)
        )
    weight = math.fsum(stage.weight for stage in stages)
    return (replace(stages[0], name="static", weight=weight, density=average),)


def _time_average(head: Stages) -> Average:
    shares: list[Share] = []
    for stage in head:
        if isinstance(stage.density, Average):
            whole = math.fsum(share.weight for share in stage.density.shares)
            parts = stage.density.shares
            shares += [replace(s, weight=stage.weight * s.weight / whole) for s in parts]
        else:
            shares.append(Share(stage.weight, stage.density))
    return Average(tuple(shares))


def _check_order_can_change(head: Stages, kind: str) -> None:
    if _changes_capacity(head):
        raise UserError(
            f"control {kind!r} would make sparsity or the penalty rise between stages; "
            "use 'density' or 'flat', which keep capacity in place."
        )
    if len(head) < 2:
        raise UserError(
            f"control {kind!r} needs two stages or more before the last, this curriculum has one; "
            "use 'density' or 'flat'."
        )


def _shuffled(head: Stages, seed: int) -> Stages:
    """Rows in the first order drawn for ``seed`` that is not their own."""
    from mindiffusion.noise import Stream, permutation

    _check_order_can_change(head, "shuffled")
    own = list(range(len(head)))
    draw, order = 0, own
    while order == own:
        order = permutation(seed, draw, len(head), stream=Stream.STAGE_ORDER).tolist()
        draw += 1
    return tuple(head[i] for i in order)


def _anti(head: Stages, last: StageConfig) -> Stages:
    del last
    _check_order_can_change(head, "anti")
    return head[::-1]


def _even(head: Stages, last: StageConfig) -> Stages:
    del last
    if len(head) < 2:
        raise UserError(
            "control 'even' needs two stages or more before the last, this curriculum has one."
        )
    weight = math.fsum(stage.weight for stage in head) / len(head)
    return tuple(replace(stage, weight=weight) for stage in head)


def _mirror(head: Stages, last: StageConfig) -> Stages:
    del last
    mirrored = []
    for i, stage in enumerate(head, 1):
        window = _window(stage, "mirror")
        low, high = (round(1.0 - t, _DECIMALS) for t in (window.t_max, window.t_min))
        mirrored.append(replace(stage, name=f"mirror{i}", density=Window(low, high)))
    return tuple(mirrored)


def _flat(head: Stages, last: StageConfig) -> Stages:
    """Windows stretched to the last stage's range, masses by iterative proportional fitting.

    The seed's ladder never trains t < .2 before its last stage, so no masses inside its own windows
    could bring the average to B's exposure. One affine map of all ends does, and keeps the order.
    """
    windows = [_window(stage, "flat") for stage in head]
    whole = _window(last, "flat")
    low, high = min(w.t_min for w in windows), max(w.t_max for w in windows)
    scale = (whole.t_max - whole.t_min) / (high - low)

    def stretched(t: float) -> float:
        return round(whole.t_min + (t - low) * scale, _DECIMALS)

    ends = [(stretched(w.t_min), stretched(w.t_max)) for w in windows]
    edges = sorted({t for pair in ends for t in pair})
    cells = np.diff(edges)
    inside = np.array([[a <= left < b for left in edges[:-1]] for a, b in ends])
    masses = fit_masses(np.array([s.weight for s in head]), cells / cells.sum(), inside)
    return tuple(
        replace(stage, name=f"flat{i}", density=_trimmed(edges, row))
        for i, (stage, row) in enumerate(zip(head, masses, strict=True), 1)
    )


def _trimmed(edges: list[float], masses: NDArray[np.float64]) -> Histogram:
    """The histogram without its empty ends."""
    (inside,) = np.nonzero(masses)
    first, after = int(inside[0]), int(inside[-1]) + 1
    return Histogram(tuple(edges[first : after + 1]), tuple(masses[first:after].tolist()))


def fit_masses(
    weights: NDArray[np.float64], target: NDArray[np.float64], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Mass of each stage in each cell, so that the stages' weighted average is ``target``.

    Iterative proportional fitting from uniform masses: of all solutions the one with the least
    relative entropy to these (Deming & Stephan 1940, Ann. Math. Statist. 11; Csiszár 1975).

    Args:
        weights: (S,) lengths of the stages, > 0.
        target: (K,) shares of the cells, of sum 1.
        inside: (S, K) whether a stage may train a cell.

    Returns:
        (S, K), rows of sum 1, zero where not inside.

    Raises:
        UserError: no such masses exist.
    """
    rows, columns = weights / weights.sum(), target
    mass = inside * columns
    # A gap between windows can't be filled, however long one tries.
    for _ in range(_FITTING_ROUNDS * bool(inside.any(axis=0).all())):
        mass = mass * (columns / mass.sum(axis=0))
        off = np.abs(mass.sum(axis=1) - rows).max()
        mass = mass * (rows / mass.sum(axis=1))[:, None]
        if off < _UNIFORM_WITHIN:
            return np.asarray(mass / mass.sum(axis=1, keepdims=True))
    raise UserError(
        "control 'flat': no masses inside these windows average to uniform, because some windows "
        "are too long for their width; leave this control out."
    )


def _window(stage: StageConfig, kind: str) -> Window:
    if not isinstance(stage.density, Window):
        raise UserError(
            f"control {kind!r} moves time windows, but stage {stage.name!r} has a density of kind "
            f"{stage.density.kind!r}; use 'density', 'shuffled' or 'anti'."
        )
    return stage.density


_MAKERS: dict[str, Callable[[Stages, StageConfig], Stages]] = {
    "density": _density,
    "anti": _anti,
    "flat": _flat,
    "mirror": _mirror,
    "even": _even,
}
