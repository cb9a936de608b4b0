"""What each hidden neuron reads: its cosine with every feature, at the end of training."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmark.rows.frames import arm_order
from benchmark.rows.metric_names import SIMILARITY
from plots.arm_groups import main_arms
from plots.style import PAGE_INCHES, declared_note, new_figure, note_below

MOST_ARMS = 6
_COLOURS: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}


def similarity_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of cosines; they are of one seed."""
    return frame[frame["metric"].str.startswith(SIMILARITY)]


def matrix_of(rows: pd.DataFrame) -> NDArray[np.float64]:
    """(H, 2d) cosines of one arm, neurons by the feature that they read most, then by how much."""
    table = rows.pivot_table(index="level", columns="metric", values="value")
    cosines = table.sort_index(axis=1).to_numpy()
    strongest = np.abs(cosines).argmax(axis=1)
    most = np.abs(cosines).max(axis=1)
    # Neurons that are off have nothing but zeros: they stand last.
    order = np.lexsort((-most, strongest, most == 0))
    return np.asarray(cosines[order])


def similarity(cosines: NDArray[np.float64], ax: Axes) -> Axes:
    """The matrix as colours, with a line between the strong features and the weak ones.

    Args:
        cosines: (H, 2d).
        ax: axes to draw on.
    """
    ax.imshow(cosines, aspect="auto", interpolation="nearest", **_COLOURS)
    features = cosines.shape[1]
    ax.axvline(features / 2 - 0.5, color="black", linewidth=0.8)
    ax.set_xticks([features / 4 - 0.5, 3 * features / 4 - 0.5], ["M₁", "M₂"])
    ax.tick_params(axis="x", length=0)
    ax.set_yticks([])
    return ax


def figure(frame: pd.DataFrame) -> Figure:
    """A panel an arm, of the study's first seed."""
    rows = similarity_rows(frame)
    arms = arm_order(rows)
    shown = main_arms(arms, MOST_ARMS)
    result = new_figure(PAGE_INCHES, 3.0)
    axes = result.subplots(1, len(shown), squeeze=False)[0]
    for arm, ax in zip(shown, axes, strict=True):
        similarity(matrix_of(rows[rows["arm"] == arm]), ax)
        ax.set_title(arm)
    axes[0].set_ylabel("hidden neurons")
    result.colorbar(axes[-1].images[0], ax=list(axes), label="cosine", shrink=0.8)
    notes = [f"seed {rows['seed'].iloc[0]} alone", "columns: features", declared_note(rows)]
    # No table has them: they are in the rows.
    if len(shown) < len(arms):
        notes.append(f"{len(shown)} of {len(arms)} arms shown")
    note_below(result, notes)
    return result
