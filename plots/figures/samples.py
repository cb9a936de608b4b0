"""Samples of every arm (rows) at every milestone (columns), from the strips that rows name."""

import math
from dataclasses import dataclass
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
# Fewer columns are no larger than three, so that all arms fit a page.
FEWEST_COLUMNS = 3
# Each pixel becomes a block, so that no viewer blurs the small images.
ENLARGE = 8
MOST_DRAWN = 1 << 26
"""Pixels of a figure's pictures together, also when enlarged."""
GAP = 3


def of_first_condition(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the first weights label, sampler and seeds by name, in the order of strips."""
    order = ["weights", "sampler", "sampler_steps", "seed", "sampling_seed"]
    rows = rows.sort_values([*order, "samples"], kind="stable")
    return rows if rows.empty else rows[(rows[order] == rows.iloc[0][order]).all(axis=1)]


def sample_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """One strip per arm and milestone, of the first condition."""
    return of_first_condition(rows_with_strips(frame)).drop_duplicates(["arm", "step"])


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


def rows_per_cell(num_arms: int) -> int:
    """Rows of images that an arm gets in each column, so that all arms fit a page."""
    return ROWS_PER_CELL if num_arms <= ARMS_IN_TWO_ROWS else 1


@dataclass(frozen=True)
class Sheet:
    """Strips of arms (rows) and of what else tells them apart (columns), as one picture.

    Attributes:
        canvas: (H, W, 3) uint8; places without a strip are white.
        height: of a place.
        width: of a place.
    """

    canvas: NDArray[np.uint8]
    height: int
    width: int

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Top and left of a place."""
        return row * (self.height + GAP), column * (self.width + GAP)


def sheet_of(cells: pd.DataFrame, column: str, study_dir: Path) -> Sheet:
    """Paste the strips of cells side by side.

    Args:
        cells: at least one row; at most one for each arm and value of ``column``.
        column: its values, in the order in which they first stand there, are the columns.
        study_dir: the folder the strips' paths are relative to.

    Raises:
        UserError: no such picture, or pictures of different sizes.
    """
    arms, columns = arm_order(cells), list(dict.fromkeys(cells[column]))
    sheet: Sheet | None = None
    for _, row in cells.iterrows():
        picture = tile(read_strip(study_dir, row["samples"]), rows_per_cell(len(arms)))
        size = picture.shape[:2]
        if sheet is None:
            shape = [
                n * (k + GAP) - GAP for n, k in zip((len(arms), len(columns)), size, strict=True)
            ]
            sheet = Sheet(white(*shape), *size)
        if size != (sheet.height, sheet.width):
            raise UserError(f"Samples of {row['arm']} are of another size than those before.")
        top, left = sheet.corner(arms.index(row["arm"]), columns.index(row[column]))
        sheet.canvas[top : top + sheet.height, left : left + sheet.width] = picture
    assert sheet is not None
    return sheet


def show_sheet(ax: Axes, sheet: Sheet, arms: list[str], names: list[str]) -> None:
    """Draw a sheet with the names of its rows and columns."""
    extent = (0, sheet.canvas.shape[1], sheet.canvas.shape[0], 0)
    ax.imshow(enlarged(sheet.canvas), extent=extent, interpolation="antialiased")
    lefts = [sheet.corner(0, column)[1] for column in range(len(names))]
    tops = [sheet.corner(row, 0)[0] for row in range(len(arms))]
    ax.set_xticks([left + sheet.width / 2 for left in lefts], names)
    ax.set_yticks([top + sheet.height / 2 for top in tops], arms)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    ax.spines[:].set_visible(False)


def samples(cells: pd.DataFrame, study_dir: Path, ax: Axes) -> Axes:
    """Draw the cells' strips as one picture; each column holds the same sampling noise.

    Args:
        cells: what ``sample_cells`` returns, at least one row.
        study_dir: the folder the strips' paths are relative to.
        ax: axes to draw on.
    """
    cells = cells.sort_values("step", kind="stable")
    arms, steps = arm_order(cells), sorted(set(cells["step"]))
    sheet = sheet_of(cells, "step", study_dir)
    hollow = cells[~cells["full_range"]]
    marked = set(hollow["step"])
    names = [f"step {step:,}{MARK if step in marked else ''}" for step in steps]
    show_sheet(ax, sheet, arms, names)
    for arm, step in zip(hollow["arm"], hollow["step"], strict=True):
        _frame_hollow(ax, sheet, *sheet.corner(arms.index(arm), steps.index(step)))
    return ax


def _frame_hollow(ax: Axes, sheet: Sheet, top: int, left: int) -> None:
    size = (sheet.width, sheet.height)
    box = Rectangle((left, top), *size, fill=False, edgecolor="black", linewidth=0.7)
    box.set_linestyle((0, (3, 2)))
    box.set_clip_on(False)
    ax.add_patch(box)


def sheet_inches(num_arms: int, num_columns: int) -> float:
    """Height of a sheet in the width of a page, with the names of its columns."""
    cell_inches = (PAGE_INCHES - 0.4) / max(num_columns, FEWEST_COLUMNS)
    ratio = rows_per_cell(num_arms) / IMAGES_PER_ROW
    return cell_inches * ratio * 1.03 * num_arms + 0.22


def figure(frame: pd.DataFrame, study_dir: Path) -> Figure:
    """All arms at up to five of the milestones that have samples, in the width of a page."""
    cells = page_cells(frame)
    first = cells.iloc[0]
    arms, steps = arm_order(cells), sorted(set(cells["step"]))
    result = new_figure(PAGE_INCHES, sheet_inches(len(arms), len(steps)))
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
