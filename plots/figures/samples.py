"""Samples of every arm (rows) at every milestone (columns), from the strips that rows name."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from benchmark.rows.frames import arm_order, rows_with_strips
from mindiffusion.errors import UserError
from mindiffusion.outside.pictures import BadImage, read_named
from plots.level_lines import spread
from plots.style import PAGE_INCHES, declared_note, new_figure, note_below

MARK = "†"
ROWS_PER_CELL = 2
IMAGES_PER_ROW = 4
# So many milestones side by side; with more arms than that, one row of images each.
MILESTONES, ARMS_IN_TWO_ROWS = 5, 6
# Each pixel becomes a block, so that no viewer blurs the small images.
ENLARGE = 8
MOST_DRAWN = 1 << 26
"""Pixels of a figure's pictures together, also when enlarged."""
GAP = 3


def sample_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """One strip per arm and milestone: the first weights label, sampler and seed by name."""
    rows = rows_with_strips(frame)
    order = ["weights", "sampler", "sampler_steps", "seed", "sampling_seed"]
    rows = rows.sort_values([*order, "samples"], kind="stable")
    if not rows.empty:
        first = rows.iloc[0]
        rows = rows[(rows[order] == first[order]).all(axis=1)]
    return rows.drop_duplicates(["arm", "step"])


def page_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells of a page: up to five of the milestones that most arms have, and every arm's end.

    The end of a shorter run stands in the column of the others' end; its ``total_steps`` tells.
    """
    cells = sample_cells(frame)
    ended = cells["step"] == cells["total_steps"]
    cells = cells.assign(step=cells["step"].where(~ended, cells["total_steps"].max()))
    held_by = cells.groupby("step")["arm"].transform("nunique")
    steps = cells[2 * held_by >= cells["arm"].nunique()]["step"]
    return cells[cells["step"].isin(spread(steps, MILESTONES))]


def read_strip(study_dir: Path, name: str) -> NDArray[np.uint8]:
    """The images of a strip.

    Args:
        study_dir: the folder that the name is relative to.
        name: as a row has it.

    Returns:
        (k, size, size, 3) uint8.

    Raises:
        UserError: no such picture, or a width that is no multiple of the height.
    """
    pixels = read_picture(study_dir, name)
    size, width = pixels.shape[:2]
    if width % size:
        raise UserError(
            f"{study_dir / name} is {width}x{size}; a strip is k square images side by side."
        )
    return pixels.reshape(size, width // size, size, 3).swapaxes(0, 1)


def read_picture(study_dir: Path, name: str) -> NDArray[np.uint8]:
    """A picture that a row names, (H, W, 3) uint8.

    Args:
        study_dir: the folder that the name is relative to; what lies outside is not read.
        name: as the row has it.

    Raises:
        UserError: no such picture.
    """
    try:
        return np.asarray(read_named(study_dir, name)[1].image)
    except BadImage as error:
        raise UserError(
            f"{study_dir / name} {error}; a row names it as its strip of samples, so restore it or "
            "sample that milestone again."
        ) from None


def missing_strips(cells: pd.DataFrame, study_dir: Path) -> list[Path]:
    """The pictures that a figure's cells name and that can't be read, in the order of the cells."""
    missing = []
    for name in cells["samples"]:
        try:
            read_named(study_dir, name)
        except BadImage:
            missing.append(study_dir / name)
    return missing


def white(height: int, width: int) -> NDArray[np.uint8]:
    """A canvas (height, width, 3).

    Raises:
        UserError: larger than any figure is drawn.
    """
    if height * width > MOST_DRAWN:
        raise UserError(
            f"the pictures together are {width}x{height}; at most {MOST_DRAWN:,} pixels are drawn. "
            "Look at the strips themselves."
        )
    return np.full((height, width, 3), 255, dtype=np.uint8)


def enlarged(canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A canvas with each pixel as a block, as large as may be drawn."""
    most = math.isqrt(MOST_DRAWN // (canvas.shape[0] * canvas.shape[1]))
    return canvas.repeat(min(ENLARGE, most), axis=0).repeat(min(ENLARGE, most), axis=1)


def tile(images: NDArray[np.uint8], rows: int, columns: int = IMAGES_PER_ROW) -> NDArray[np.uint8]:
    """The first rows x columns images as one picture; a short strip leaves white places.

    Args:
        images: (k, size, size, 3) uint8.
        rows: how many rows of images.
        columns: how many images side by side.

    Returns:
        (rows * size, columns * size, 3) uint8.
    """
    places, size = rows * columns, images.shape[1]
    cell = white(places * size, size).reshape(places, size, size, 3)
    count = min(places, len(images))
    cell[:count] = images[:count]
    grid = cell.reshape(rows, columns, size, size, 3).swapaxes(1, 2)
    return grid.reshape(rows * size, columns * size, 3)


def rows_per_cell(arms: list[str]) -> int:
    """Rows of images that an arm gets at each milestone, so that all arms fit a page."""
    return ROWS_PER_CELL if len(arms) <= ARMS_IN_TWO_ROWS else 1


def samples(cells: pd.DataFrame, study_dir: Path, ax: Axes) -> Axes:
    """Draw the cells' strips as one picture; each column holds the same sampling noise.

    Args:
        cells: what ``sample_cells`` returns, at least one row.
        study_dir: the folder the strips' paths are relative to.
        ax: axes to draw on.
    """
    arms, steps = arm_order(cells), sorted(set(cells["step"]))
    canvas, height, width = None, 0, 0
    for _, row in cells.iterrows():
        picture = tile(read_strip(study_dir, row["samples"]), rows_per_cell(arms))
        if canvas is None:
            height, width = picture.shape[:2]
            canvas = white(len(arms) * (height + GAP) - GAP, len(steps) * (width + GAP) - GAP)
        if picture.shape[:2] != (height, width):
            raise UserError(f"Samples of {row['arm']} are of another size than those before.")
        top = arms.index(row["arm"]) * (height + GAP)
        left = steps.index(row["step"]) * (width + GAP)
        canvas[top : top + height, left : left + width] = picture
        if not row["full_range"]:
            _frame_hollow(ax, left, top, width, height)
    assert canvas is not None
    extent = (0, canvas.shape[1], canvas.shape[0], 0)
    ax.imshow(enlarged(canvas), extent=extent, interpolation="antialiased")
    _label(ax, cells, arms, steps, (height + GAP, width + GAP, height, width))
    return ax


def _frame_hollow(ax: Axes, left: int, top: int, width: int, height: int) -> None:
    box = Rectangle((left, top), width, height, fill=False, edgecolor="black", linewidth=0.7)
    box.set_linestyle((0, (3, 2)))
    box.set_clip_on(False)
    ax.add_patch(box)


def _label(
    ax: Axes,
    cells: pd.DataFrame,
    arms: list[str],
    steps: list[int],
    sizes: tuple[int, int, int, int],
) -> None:
    down, right, height, width = sizes
    hollow = set(cells[~cells["full_range"]]["step"])
    names = [f"step {step:,}{MARK if step in hollow else ''}" for step in steps]
    ax.set_xticks([column * right + width / 2 for column in range(len(steps))], names)
    ax.set_yticks([row * down + height / 2 for row in range(len(arms))], arms)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    ax.spines[:].set_visible(False)


def figure(frame: pd.DataFrame, study_dir: Path) -> Figure:
    """All arms at up to five of the milestones that have samples, in the width of a page."""
    cells = page_cells(frame)
    first = cells.iloc[0]
    arms, steps = arm_order(cells), sorted(set(cells["step"]))
    cell_inches = (PAGE_INCHES - 0.4) / len(steps)
    ratio = rows_per_cell(arms) / IMAGES_PER_ROW
    result = new_figure(PAGE_INCHES, cell_inches * ratio * 1.03 * len(arms) + 0.22)
    samples(cells, study_dir, result.subplots())
    sampler = f"{first['sampler']} {first['sampler_steps']} steps"
    notes = [
        "same sampling noise in each column",
        f"seed {first['seed']}, {first['weights']}, {sampler}",
    ]
    hollow = cells[~cells["full_range"]]
    if not hollow.empty:
        names = ", ".join(arm_order(hollow))
        notes.append(f"{MARK} dashed frame ({names}): not all noise levels trained yet")
    shorter = cells[(cells["total_steps"] < cells["step"])].drop_duplicates("arm")
    for arm, total in zip(shorter["arm"], shorter["total_steps"], strict=True):
        notes.append(f"{arm} ends at step {total:,}")
    note_below(result, [*notes, declared_note(cells)])
    return result
