"""What training costs: time and memory traffic an image over width, side, batch and ranks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from benchmark.study.arm_catalogue import CATALOGUE, by_importance
from plots.arm_lines import arm_lines
from plots.style import PAGE_INCHES, arm_style, new_figure, note_below

Rows = Sequence[Mapping[str, Any]]
_ARMS = by_importance(arm.name for arm in CATALOGUE if arm.importance is not None)
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def by_width(rows: Rows, key: str, label: str, ax: Axes) -> Axes:
    """A cost over base width, a line for each image side, both axes logarithmic.

    Args:
        rows: rows of ``benchmark speed --part scaling``.
        key: the cost, such as "milliseconds_per_image".
        label: its name and unit.
        ax: where to draw.
    """
    widths = pd.DataFrame([row for row in rows if row["swept"] == "width"])
    names = {side: f"{side}×{side}" for side in sorted(set(widths["side"]))}
    looks = {name: _look(index) for index, name in enumerate(names.values())}
    lines = widths.assign(arm=widths["side"].map(names), mean=widths[key], half_width=np.nan)
    arm_lines(lines, "n_feat", looks, ax)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(PLAIN)
    ax.yaxis.set_minor_locator(NullLocator())
    _powers(ax, "n_feat", widths["n_feat"])
    ax.set_ylabel(label)
    return ax


def by_count(rows: Rows, swept: str, key: str, label: str, ax: Axes) -> Axes:
    """Images a second over batch or ranks: medians, bars from the lowest to the highest.

    Args:
        rows: rows of ``benchmark speed --part scaling``.
        swept: "batch" or "ranks".
        key: the column that is swept.
        label: its name.
        ax: where to draw.
    """
    line = sorted((row[key], row["images_per_second"]) for row in rows if row["swept"] == swept)
    x = [count for count, _ in line]
    rate = [spread["median"] for _, spread in line]
    below = [spread["median"] - spread["low"] for _, spread in line]
    above = [spread["high"] - spread["median"] for _, spread in line]
    ax.errorbar(x, rate, yerr=(below, above), capsize=2, **_look(0))
    _powers(ax, label, x)
    ax.set_ylabel("images / s")
    ax.set_ylim(bottom=0)
    return ax


def figure(rows: Rows) -> Figure:
    """Four panels: time and traffic by width, speed by batch and by ranks."""
    result = new_figure(PAGE_INCHES, 4.2)
    grid = result.subplots(2, 2)
    by_width(rows, "milliseconds_per_image", "ms / image", grid[0, 0])
    by_width(rows, "megabytes_per_image", "MB / image (counted)", grid[0, 1])
    by_count(rows, "batch", "global_batch", "global batch", grid[1, 0])
    by_count(rows, "ranks", "ranks", "ranks", grid[1, 1])
    grid[0, 0].legend(title="image side")
    centre = next(row for row in rows if row["swept"] == "batch")
    widths = next(row for row in rows if row["swept"] == "width")
    note_below(
        result,
        [
            f"above: batch {widths['global_batch']}, one rank",
            f"below: n_feat {centre['n_feat']}, {centre['side']}×{centre['side']}",
            "medians, bars: lowest to highest",
        ],
    )
    return result


def _look(index: int) -> dict[str, Any]:
    """The look that the arm of that importance has in the figures of a study."""
    return arm_style(_ARMS[index], _ARMS)


def _powers(ax: Axes, label: str, values: Iterable[int]) -> None:
    """A base-2 axis with a tick at each value."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(PLAIN)
    ax.set_xlabel(label)
