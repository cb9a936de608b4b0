"""How alike layers are at two milestones: of each arm and of plain training, or of one run."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from benchmark.rows.frames import arm_order, rows_named
from benchmark.rows.metric_names import CKA
from benchmark.study.arm_names import BASELINE
from plots.arm_groups import main_arms, selection_note
from plots.figures.network_features import layers_in_order
from plots.level_lines import spread
from plots.names import shortened
from plots.style import PAGE_INCHES, declared_note, new_figure, note_below

MOST_ARMS, MOST_LAYERS, MOST_STEPS = 4, 4, 8
NAME = 18
"""Characters of a layer."""
PANEL_INCHES = 1.45


def cka_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of CKA, with columns ``layer`` and ``beside`` (the other milestone's step).

    Of each arm those against another run, where there are such; else those of its own run.
    """
    pattern = f"{CKA}/(?P<layer>[^/]+)/(?P<role>own|other)/(?P<beside>[0-9]{{1,15}})"
    rows = rows_named(frame, pattern)
    rows = rows.assign(beside=rows["beside"].astype("int64"))
    with_other = set(rows.loc[rows["role"] == "other", "arm"])
    return rows[(rows["role"] == "other") | ~rows["arm"].isin(with_other)]


def matrix_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Own step × the other's step: means over noise levels and seeds; NaN where none is.

    Args:
        rows: of one arm and layer.
    """
    table = rows.pivot_table(index="step", columns="beside", values="value", aggfunc="mean")
    own, others = (spread(map(int, axis), MOST_STEPS) for axis in (table.index, table.columns))
    return table.loc[own, others]


def heatmap(table: pd.DataFrame, ax: Axes) -> AxesImage:
    """A square for each pair of steps, the first steps at the lower left; colours from 0 to 1.

    Args:
        table: of ``matrix_of``.
        ax: axes to draw on.
    """
    image = ax.imshow(
        table.to_numpy(), cmap=matplotlib.colormaps["viridis"], vmin=0, vmax=1, origin="lower",
        aspect="auto",
    )  # fmt: skip
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            colour = "white" if value < 0.6 else "black"
            text = f"{value:.2f}".lstrip("0") if 0 <= value < 1 else f"{value:.1f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=5, color=colour)
    ax.set_xticks(range(len(table.columns)), [f"{step:,}" for step in table.columns], rotation=90)
    ax.set_yticks(range(len(table.index)), [f"{step:,}" for step in table.index])
    ax.tick_params(length=0, labelsize=6)
    return image


def figure(frame: pd.DataFrame) -> Figure:
    """A column an arm, a line a layer."""
    rows = cka_rows(frame)
    arms = arm_order(rows)
    shown = main_arms(arms, MOST_ARMS)
    every = layers_in_order(rows[rows["arm"].isin(shown)])
    layers = [every[number] for number in spread(range(len(every)), MOST_LAYERS)]
    width = PAGE_INCHES if len(shown) > 2 else PAGE_INCHES / 2
    result = new_figure(width, PANEL_INCHES * len(layers) + 0.5)
    grid = result.subplots(len(layers), len(shown), squeeze=False)
    image = None
    for arm, column in zip(shown, grid.T, strict=True):
        for layer, ax in zip(layers, column, strict=True):
            own = rows[(rows["arm"] == arm) & (rows["layer"] == layer)]
            if own.empty:
                ax.set_axis_off()
                continue
            image = heatmap(matrix_of(own), ax)
        column[0].set_title(shortened(arm, NAME), loc="left", fontsize=7)
    for layer, ax in zip(layers, grid[:, 0], strict=True):
        ax.set_ylabel(f"{shortened(layer, NAME)}\nstep")
    if image is not None:
        result.colorbar(image, ax=grid, shrink=0.4, aspect=30, label="CKA")
    note_below(result, _notes(rows, arms, shown, every))
    return result


def _notes(rows: pd.DataFrame, arms: list[str], shown: list[str], layers: list[str]) -> list[str]:
    alone = [arm for arm in shown if (rows[rows["arm"] == arm]["role"] == "own").any()]
    levels = ", ".join(f"{level:g}" for level in sorted(set(rows["level"].dropna())))
    notes = [
        "up: the arm's step; to the right: the other milestone's",
        f"in a study the other run is {BASELINE} with the same seed",
        f"mean over the noise times {levels}",
        f"{rows['n_reference'].iloc[0]} held-out images",
        f"n={rows['seed'].nunique()} training seeds",
    ]
    if alone:
        notes.append(f"both of one run: {', '.join(alone)}")
    if len(layers) > MOST_LAYERS:
        notes.append(f"{MOST_LAYERS} of {len(layers)} layers shown")
    return [*notes, *selection_note(shown, arms), declared_note(rows)]
