"""Which noise levels are hard: convergence by interval, and the orders of all yardsticks."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from plots.style import PAGE_INCHES, new_figure, note_below

Floats = NDArray[np.float64]
_MAP, _DIVERGING = "viridis", "RdBu_r"
_LIGHTEST = 0.9
"""Of the colours of lines: a lighter yellow is hard to see on white."""
_MOST_NUMBERS = 20
"""Intervals or yardsticks whose cells have room for a number."""
_SMALL = 6
_BELOW, _ABOVE = -0.5, 1.5
"""The part of the scale of convergence that is drawn."""


@dataclass(frozen=True, eq=False)
class Order:
    """One yardstick.

    Attributes:
        title: its name.
        values: (N,) by interval from low noise to high; more is harder, NaN is not known.
        correlation: rank correlation of difficulty with low noise; may be NaN.
        interval: of that correlation, if there is one.
    """

    title: str
    values: Floats
    correlation: float
    interval: tuple[float, float] | None


def convergence(steps: Floats, excess: Floats, labels: Sequence[str], ax: Axes) -> Axes:
    """Relative excess (N, K) over training steps (K,), a line an interval."""
    colours = matplotlib.colormaps[_MAP](np.linspace(0, _LIGHTEST, len(excess)))
    for number, (curve, colour) in enumerate(zip(excess, colours, strict=True)):
        # Names of the two ends suffice: colours between them are in order.
        is_end = number in (0, len(excess) - 1)
        name = f"t {labels[number]}" if is_end else None
        ax.plot(np.append(0.5, steps), np.append(1.0, curve), color=colour, lw=1.2, label=name)
    ax.axhline(0.5, color="0.6", lw=0.6, ls=":")
    ax.axhline(0.0, color="0.6", lw=0.6)
    ax.set_xscale("log")
    drawn = excess[np.isfinite(excess)]
    if drawn.size:
        ax.set_ylim(max(_BELOW, min(-0.05, drawn.min())), min(_ABOVE, max(1.05, drawn.max())))
    ax.set_xlabel("training steps (left end: untrained)")
    ax.set_ylabel("excess over the linear denoiser, ε")
    ax.legend(loc="upper right", fontsize=_SMALL)
    return ax


def ranks_of(values: Floats) -> Floats:
    """Ranks (N,) of difficulty, 1 for the hardest; equal ones share a rank, NaN stays."""
    ranks = np.full(len(values), np.nan)
    (known,) = np.nonzero(~np.isnan(values))
    for i in known:
        above = (values[known] > values[i]).sum()
        equal = (values[known] == values[i]).sum()
        ranks[i] = above + (equal + 1) / 2
    return ranks


def rank_map(orders: Sequence[Order], labels: Sequence[str], ax: Axes) -> Axes:
    """Ranks of the intervals by each yardstick, 1 is the hardest."""
    ranks = np.array([ranks_of(order.values) for order in orders])
    ax.imshow(ranks, cmap=_MAP, aspect="auto", vmin=1, vmax=max(2, len(labels)))
    _numbers(ax, ranks, "g", len(labels) / 2)
    ax.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontsize=_SMALL)
    ax.set_yticks(
        range(len(orders)),
        [f"{order.title}  {number}" for number, order in enumerate(orders, 1)],
        fontsize=_SMALL,
    )
    ax.set_xlabel("noise time")
    ax.set_title("rank of difficulty, 1 = hardest", loc="left")
    return ax


def correlations(orders: Sequence[Order], ax: Axes) -> Axes:
    """Rank correlation of difficulty with low noise, with its interval; rows as in the map."""
    for number, order in enumerate(orders):
        if np.isnan(order.correlation):
            continue
        if order.interval is not None:
            ax.plot(order.interval, (number, number), color="0.5", lw=1.5)
        ax.plot(order.correlation, number, "o", color="black", ms=4)
    ax.axvline(0.0, color="0.6", lw=0.6)
    ax.set_xlim(-1.08, 1.08)
    ax.set_ylim(len(orders) - 0.5, -0.5)
    ax.yaxis.set_major_locator(NullLocator())
    ax.set_xticks((-1, 0, 1))
    ax.set_xlabel("rank correlation\nwith low noise")
    return ax


def agreement(matrix: Floats, ax: Axes) -> Axes:
    """Rank correlations (Y, Y) of the yardsticks with each other."""
    ax.imshow(matrix, cmap=_DIVERGING, vmin=-1, vmax=1)
    _numbers(ax, matrix, ".1f", 2)
    names = [str(number + 1) for number in range(len(matrix))]
    ax.set_xticks(range(len(matrix)), names, fontsize=_SMALL)
    ax.set_yticks(range(len(matrix)), names, fontsize=_SMALL)
    ax.set_title("rank correlation of yardsticks", loc="left")
    return ax


def _numbers(ax: Axes, values: Floats, form: str, dark_from: float) -> None:
    """Numbers in the cells of a map; white where the cell is dark."""
    if max(values.shape) > _MOST_NUMBERS:
        return
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            is_dark = (value < dark_from) if form == "g" else abs(value) > 0.6
            ax.text(
                column, row, f"{value:{form}}", ha="center", va="center", fontsize=5,
                color="white" if is_dark else "black",
            )  # fmt: skip


def figure(
    steps: Floats,
    excess: Floats,
    labels: Sequence[str],
    orders: Sequence[Order],
    matrix: Floats,
    notes: Sequence[str],
) -> Figure:
    """Four panels: convergence, agreement of yardsticks; ranks, correlations with low noise.

    Args:
        steps: (K,) training steps, > 0.
        excess: (N, K) relative excess of each interval's net, in ε-error.
        labels: N names of the intervals, from low noise to high.
        orders: Y yardsticks.
        matrix: (Y, Y) their rank correlations with each other.
        notes: what stands below.
    """
    result = new_figure(PAGE_INCHES, 5.6)
    halves = result.subfigures(2, 1, height_ratios=(1, 1.1))
    assert isinstance(halves, np.ndarray)
    above, below = halves
    left, right = above.subplots(1, 2, width_ratios=(1.25, 1))
    convergence(steps, excess, labels, left)
    agreement(matrix, right)
    ranks, beside = below.subplots(1, 2, width_ratios=(4, 1))
    rank_map(orders, labels, ranks)
    correlations(orders, beside)
    note_below(result, [*notes, "medians over seeds, lines at the right: 95 % t-intervals"])
    return result
