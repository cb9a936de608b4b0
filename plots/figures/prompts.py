"""Pictures of every arm at milestones (rows) by prompt (columns), with the prompts' words."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmark.rows.frames import arm_order
from benchmark.rows.metric_names import FLIP, PROMPT, PROMPT_CHANGED
from plots.figures.samples import (
    enlarged,
    of_first_condition,
    read_strip,
    sample_cells,
    white,
)
from plots.level_lines import spread
from plots.style import PAGE_INCHES, declared_note, new_figure, note_below

MOST_PROMPTS, MOST_STEPS = 6, 3
_GAP = 3
_LABEL_INCHES = 0.9
_CHARACTERS = 110
"""Of a line of the page in the prompts' type size."""
_WORDS_INCHES = 0.1
"""Of one of these lines."""
_CHANGED = "one word changed"


def words_of(frame: pd.DataFrame, start: str) -> dict[int, str]:
    """The prompts of a strip's images by their places, as rows' names have them."""
    names = frame["metric"][frame["metric"].str.startswith(start)].drop_duplicates()
    parts = (name.removeprefix(start).partition("/") for name in sorted(names))
    return {int(place): words for place, _, words in parts if place.isdecimal()}


def prompt_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Strips of the first prompts at some milestones, then of the changed ones at the end.

    Returns:
        Rows with a column ``label``, in the order in which they are shown; none of a study whose
        networks are told no prompts.
    """
    if not words_of(frame, PROMPT):
        return frame.iloc[:0].assign(label="")
    own = sample_cells(frame)
    own = own[own["step"].isin(spread(own["step"], MOST_STEPS))]
    last = frame["step"] == frame["total_steps"]
    flips = frame[frame["metric"].str.startswith(f"{FLIP}@") & frame["samples"].notna() & last]
    flips = of_first_condition(flips).drop_duplicates("arm")
    labels = [f"step {step:,}" for step in own["step"]] + [_CHANGED] * len(flips)
    cells = pd.concat([own, flips]).assign(label=labels)
    places = {arm: place for place, arm in enumerate(arm_order(cells))}
    order = cells["arm"].map(places)
    return cells.iloc[order.argsort(kind="stable")] if len(cells) else cells


def figure(frame: pd.DataFrame, study_dir: Path) -> Figure:
    """All arms, in the width of a page."""
    cells = prompt_cells(frame)
    strips = [read_strip(study_dir, name)[:MOST_PROMPTS] for name in cells["samples"]]
    count = min(MOST_PROMPTS, *map(len, strips))
    canvas, tops = _pasted([strip[:count] for strip in strips], list(cells["arm"]))
    above, below = (_wrapped(words_of(frame, start), count) for start in (PROMPT, PROMPT_CHANGED))
    lines = sum(max(text.count("\n") + 1 for text in some) for some in (above, below))
    inches = (PAGE_INCHES - _LABEL_INCHES) * canvas.shape[0] / canvas.shape[1]
    result = new_figure(PAGE_INCHES, inches + _WORDS_INCHES * lines + 0.2)
    ax = result.subplots()
    extent = (0, canvas.shape[1], canvas.shape[0], 0)
    ax.imshow(enlarged(canvas), extent=extent, interpolation="antialiased")
    side = strips[0].shape[1]
    middles = [k * (side + _GAP) + side / 2 for k in range(count)]
    ax.set_xticks(middles, above, fontsize=6)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    for middle, text in zip(middles, below, strict=True):
        ax.text(middle, canvas.shape[0] + 2, text, ha="center", va="top", fontsize=6)
    names = [f"{arm}, {label}" for arm, label in zip(cells["arm"], cells["label"], strict=True)]
    ax.set_yticks([top + side / 2 for top in tops], names, fontsize=6)
    ax.spines[:].set_visible(False)
    first = cells.iloc[0]
    sampler = f"{first['sampler']} {first['sampler_steps']} steps"
    notes = ["same noise in each column"]
    notes += ["below the pictures: the changed prompts"] if any(below) else []
    notes += [f"seed {first['seed']}, {first['weights']}, {sampler}", declared_note(cells)]
    note_below(result, notes)
    return result


def _wrapped(words: dict[int, str], count: int) -> list[str]:
    """The words of the first so many places in lines; nothing where there are none."""
    wide = max(12, _CHARACTERS // count)
    return [textwrap.fill(words.get(place, ""), wide) for place in range(count)]


def _pasted(
    strips: list[NDArray[np.uint8]], arms: list[str]
) -> tuple[NDArray[np.uint8], list[int]]:
    """Strips below each other, with a wider gap between arms; and where each begins."""
    side, count = strips[0].shape[1], len(strips[0])
    tops, top = [], 0
    for place, arm in enumerate(arms):
        top += 2 * _GAP * (place > 0 and arm != arms[place - 1])
        tops.append(top)
        top += side + _GAP
    canvas = white(top - _GAP, count * (side + _GAP) - _GAP)
    for begin, strip in zip(tops, strips, strict=True):
        for k, image in enumerate(strip):
            left = k * (side + _GAP)
            canvas[begin : begin + side, left : left + side] = image
    return canvas, tops
