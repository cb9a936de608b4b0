"""The samples nearest to a training image, each over its nearest: is any of them a copy?"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.rows.frames import arm_order
from benchmark.rows.metric_names import MEMORISED_PIXELS, is_smoke
from plots.figures.samples import enlarged, read_picture, white
from plots.style import PAGE_INCHES, declared_note, new_figure, note_below

GAP = 3


def closest_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: the last milestone, of the first seed and sampling seed with a picture."""
    rows = frame[frame["metric"].str.startswith(MEMORISED_PIXELS) & frame["samples"].notna()]
    rows = rows[rows["step"] == rows["step"].max()]
    return rows.sort_values(["seed", "sampling_seed", "sampler"]).drop_duplicates("arm")


def closest(cells: pd.DataFrame, study_dir: Path, ax: Axes) -> Axes:
    """Draw the arms' pictures one below the other: samples above, nearest training images below.

    Args:
        cells: what ``closest_cells`` returns, at least one row.
        study_dir: the folder that the pictures' paths are relative to.
        ax: axes to draw on.
    """
    arms = arm_order(cells)
    names, values = (dict(zip(cells["arm"], cells[k], strict=True)) for k in ("samples", "value"))
    pictures = [read_picture(study_dir, names[arm]) for arm in arms]
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    canvas = white(len(arms) * (height + GAP) - GAP, width)
    for number, picture in enumerate(pictures):
        top = number * (height + GAP)
        canvas[top : top + picture.shape[0], : picture.shape[1]] = picture
    extent = (0, canvas.shape[1], canvas.shape[0], 0)
    ax.imshow(enlarged(canvas), extent=extent)
    shares = [f"{arm}\n{values[arm]:.1%}" for arm in arms]
    ax.set_yticks([number * (height + GAP) + height / 2 for number in range(len(arms))], shares)
    ax.set_xticks([])
    ax.tick_params(length=0, pad=2)
    ax.spines[:].set_visible(False)
    return ax


def figure(frame: pd.DataFrame, study_dir: Path) -> Figure:
    """All arms' closest pairs, in the width of a page."""
    cells = closest_cells(frame)
    first = cells.iloc[0]
    picture = read_picture(study_dir, first["samples"])
    inches = (PAGE_INCHES - 0.5) * picture.shape[0] / picture.shape[1] * 1.05
    result = new_figure(PAGE_INCHES, inches * len(cells) + 0.3)
    closest(cells, study_dir, result.subplots())
    notes = [
        "above: samples nearest to a training image, in pixels; below: that image or its mirror",
        "percent: share of samples nearer than 1 % of unseen real images are",
        f"step {first['step']:,}, seed {first['seed']}, n = {first['n_generated']}",
        *(["smoke: n < 2048 images"] if is_smoke(int(first["n_generated"])) else []),
        declared_note(cells),
    ]
    note_below(result, notes)
    return result
