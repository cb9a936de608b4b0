"""What one arm's network is shown in each stage, and how much of it is in use."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmark.rows.frames import arm_order, curriculum_frame
from benchmark.rows.metric_names import STAGE_MEDIAN
from benchmark.study.arm_catalogue import by_importance
from mindiffusion.errors import UserError
from plots.figures.samples import GAP, enlarged, read_strip, tile, white
from plots.style import PAGE_INCHES, declared_note, new_figure, note_below

FEW_STAGES = 5
PANEL_INCHES = 0.42
_ON, _OFF = "0.35", "0.9"


def stage_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The stages of one arm's first seed, each with its strip and its share of units that are on.

    It is the first arm by importance whose mask grows; where there is none, the first one with
    stages; none where no arm has two stages.

    Returns:
        The rows of ``t_median``, by step, with columns ``share_on`` (NaN where the network has
        no units to switch) and ``penalty_lambda``.
    """
    rows = frame[(frame["metric"] == STAGE_MEDIAN) & frame["samples"].notna()]
    rows = rows[rows["seed"] == rows.groupby("arm")["seed"].transform("min")]
    rows = rows.sort_values(["step", "samples"]).drop_duplicates(["arm", "step"])
    capacity = curriculum_frame(frame).rename(columns={"from_step": "step"})
    on = capacity["active_channels"]
    capacity["share_on"] = on / on.groupby([capacity["arm"], capacity["seed"]]).transform("max")
    known = ["share_on", "penalty_lambda"]
    rows = rows.merge(capacity[["arm", "seed", "step", *known]], how="left")
    staged = [arm for arm, own in rows.groupby("arm") if len(own) > 1]
    masked = [arm for arm in staged if (rows[rows["arm"] == arm]["share_on"] < 1).any()]
    chosen = by_importance(arm_order(rows[rows["arm"].isin(masked or staged)]))[:1]
    return rows[rows["arm"].isin(chosen)]


def _columns(num_stages: int) -> int:
    """Images side by side in a stage: all stages share the width of a page."""
    return 4 if num_stages <= FEW_STAGES else 2


def _canvas(cells: pd.DataFrame, study_dir: Path) -> tuple[NDArray[np.uint8], int]:
    """The stages' strips side by side, and the width of one."""
    strips = [read_strip(study_dir, name) for name in cells["samples"]]
    if len({strip.shape for strip in strips}) > 1:
        raise UserError(f"pictures of the stages of {cells['arm'].iloc[0]} differ in size.")
    columns = _columns(len(strips))
    parts = [tile(strip, -(-len(strip) // columns), columns) for strip in strips]
    height, width = parts[0].shape[:2]
    canvas = white(height, len(parts) * (width + GAP) - GAP)
    for number, part in enumerate(parts):
        left = number * (width + GAP)
        canvas[:, left : left + width] = part
    return canvas, width


def pictures(cells: pd.DataFrame, study_dir: Path, ax: Axes) -> Axes:
    """The stages' strips side by side, the noisiest image of each first.

    Args:
        cells: what ``stage_cells`` returns, at least one row.
        study_dir: the folder that the strips' paths are relative to.
        ax: axes to draw on.
    """
    canvas, width = _canvas(cells, study_dir)
    extent = (0, canvas.shape[1], canvas.shape[0], 0)
    ax.imshow(enlarged(canvas), extent=extent, interpolation="antialiased", aspect="auto")
    centres = [number * (width + GAP) + width / 2 for number in range(len(cells))]
    ax.set_xticks(centres, [f"from step\n{step:,}" for step in cells["step"]])
    ax.set_yticks([])
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    ax.spines[:].set_visible(False)
    return ax


def units(cells: pd.DataFrame, ax: Axes) -> Axes:
    """A bar for each stage, dark as far as units of the network are on.

    Args:
        cells: as of ``pictures``.
        ax: axes to draw on.
    """
    places = np.arange(len(cells))
    share = cells["share_on"].fillna(1.0).to_numpy()
    ax.barh(np.zeros(len(cells)), share * 0.96, 0.8, left=places, color=_ON)
    ax.barh(np.zeros(len(cells)), (1 - share) * 0.96, 0.8, left=places + share * 0.96, color=_OFF)
    ax.set_xlim(0, len(cells) - 0.04)
    ax.set_xticks(places + 0.48, [f"{part:.0%}" for part in share])
    ax.set_yticks([0], ["on"])
    ax.tick_params(length=0, pad=2)
    ax.spines[:].set_visible(False)
    return ax


def figure(frame: pd.DataFrame, study_dir: Path) -> Figure:
    """The pictures above, the bars below; no bars where all of a network is always on."""
    cells = stage_cells(frame)
    canvas, _ = _canvas(cells, study_dir)
    inches = (PAGE_INCHES - 0.4) * canvas.shape[0] / canvas.shape[1]
    has_bars = bool((cells["share_on"] < 1).any())
    heights = [inches + 0.3, *([PANEL_INCHES] if has_bars else [])]
    result = new_figure(PAGE_INCHES, sum(heights) + 0.1)
    axes = result.subplots(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
    pictures(cells, study_dir, axes[0])
    if has_bars:
        units(cells, axes[1])
    first = cells.iloc[0]
    notes = [
        f"arm {first['arm']}, seed {first['seed']}",
        "each picture stands for an equal share of the stage's draws",
        *(["bars: units of the network that are on"] if has_bars else []),
        declared_note(cells),
    ]
    note_below(result, notes)
    return result
