"""The one number every verdict is about: a distance at each arm's last step, seed by seed."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.provenance import CHANGED
from benchmark.results import CONDITION, arm_order, distance_rows, is_smoke
from benchmark.terms import Terms
from mindiffusion.errors import UserError

# Of distances with equally many images: the net that everybody has, without a download.
_FIRST_NET = "FD-EffNet-Lite0"
PREREGISTERED = "prereg-"
# Cells that a sentence names.
MOST_NAMED = 4


@dataclass(frozen=True)
class Endpoint:
    """A measure at each arm's last step, as logs.

    ``values`` has a row per training seed and a column per arm: the log of the measure, a mean
    over ``sampling_seeds``, NaN where a cell is missing. ``condition`` holds the
    fields that all its rows share (``results.CONDITION``). ``declared`` is "exploratory" unless
    all rows name one preregistration. ``uncommitted`` counts the cells that were measured by code
    with changes that no commit has. ``left_out`` says in sentences which measurements of the same
    cells do not count, and why.
    """

    metric: str
    condition: Mapping[str, object]
    step_rule: str
    values: pd.DataFrame
    is_smoke: bool
    sampling_seeds: tuple[int, ...]
    declared: str
    uncommitted: int = 0
    left_out: tuple[str, ...] = ()

    @property
    def is_declared(self) -> bool:
        """Whether the rows are of a preregistered study."""
        return self.declared.startswith(PREREGISTERED)

    @property
    def provisional(self) -> str:
        """``provisional: 19 of 40 cells were measured by uncommitted code``; empty if none was."""
        if not self.uncommitted:
            return ""
        cells = int(self.values.notna().sum().sum())
        return f"provisional: {self.uncommitted} of {cells} cells were measured by uncommitted code"


def primary_endpoint(frame: pd.DataFrame, terms: Terms | None = None) -> Endpoint | None:
    """The primary distance at each arm's last step; None if no arm got there.

    Its number of images is the one that the study declares, or, where it declares none or no cell
    has that yet, the largest that more than half of the cells share, so that one cell with more
    images, or one that lacks its last ones, changes nothing for the others. Between distances with
    equally many images, the one by EfficientNet-Lite0 comes first, then the one with the most
    cells, then averaged weights before raw ones.

    Args:
        frame: the frame of a study's rows, in any order.
        terms: what the study's file fixed beforehand; None: nothing.
    """
    rows = at_last_step(distance_rows(frame))
    if rows.empty:
        return None
    count = _images_that_count(rows, None if terms is None else terms.num_generated)
    parts = [part for _, part in rows[rows["n_generated"] == count].groupby(list(CONDITION))]
    endpoint = endpoint_of(min(parts, key=_preference))
    return dataclasses.replace(endpoint, left_out=_left_out(rows, count))


def _images_that_count(rows: pd.DataFrame, declared: int | None) -> int:
    """Of how many images the distance is that all cells are compared by."""
    cells = {
        count: len(_cells(rows[rows["n_generated"] == count]))
        for count in map(int, rows["n_generated"].unique())
    }
    if declared in cells:
        return declared
    most = max(cells.values())
    half = len(_cells(rows)) / 2
    return max(count for count, number in cells.items() if number > half or number == most)


def _cells(rows: pd.DataFrame) -> set[tuple[str, int]]:
    return set(zip(rows["arm"], rows["seed"], strict=True))


def _left_out(rows: pd.DataFrame, count: int) -> tuple[str, ...]:
    """Of which cells there are distances with more images than count, or with others alone."""
    counted, texts = _cells(rows[rows["n_generated"] == count]), []
    for other in sorted(set(rows["n_generated"]) - {count}):
        cells = _cells(rows[rows["n_generated"] == other])
        if other < count:
            cells -= counted
        if cells:
            named = ", ".join(f"{arm} (seed {seed})" for arm, seed in sorted(cells)[:MOST_NAMED])
            more = f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
            texts.append(
                f"Distances from {other:,} images are left out, since the cells are compared by "
                f"those from {count:,}: {named}{more}."
            )
    return tuple(texts)


def _preference(part: pd.DataFrame) -> tuple[object, ...]:
    first = part.iloc[0]
    return (
        not first["metric"].startswith(_FIRST_NET),
        -part.groupby(["arm", "seed"]).ngroups,
        not first["weights"].startswith("ema"),
        -int(first["metric_version"]),
        *(str(first[name]) for name in CONDITION),
    )


def at_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of finished runs at their last step; arms not trained on all noise levels are out."""
    return rows[rows["full_range"] & (rows["step"] == rows["total_steps"])]


def endpoint_of(rows: pd.DataFrame) -> Endpoint:
    """The endpoint of rows of one condition, at least one, each at its arm's last step.

    Only sampling seeds that all cells have count, so that every cell is a mean over the same.

    Raises:
        UserError: a value of 0 or below, which has no logarithm, or no shared sampling seed.
    """
    first = rows.iloc[0]
    if (rows["value"] <= 0).any():
        lowest = rows.sort_values("value").iloc[0]
        raise UserError(
            f"{first['metric']}: arm {lowest['arm']!r} has {lowest['value']:g}; ratios need values "
            "above 0, so find out what went wrong in that cell and measure it again."
        )
    by_cell = rows.groupby(["arm", "seed"])["sampling_seed"].agg(set)
    shared = functools.reduce(set.intersection, by_cell)
    if not shared:
        raise UserError(
            f"{first['metric']}: no sampling seed is shared by all cells; score every arm and seed "
            "with the same ones."
        )
    rows = rows[rows["sampling_seed"].isin(shared)]
    declared = set(rows["declared"])
    return Endpoint(
        metric=str(first["metric"]),
        condition={name: first[name] for name in CONDITION},
        step_rule=_step_rule(rows),
        values=rows.assign(value=np.log(rows["value"])).pivot_table(
            index="seed", columns="arm", values="value"
        ),
        is_smoke="@" in first["metric"] and is_smoke(int(first["n_generated"])),
        sampling_seeds=tuple(sorted(shared)),
        declared=declared.pop() if len(declared) == 1 else "exploratory",
        uncommitted=len(_cells(rows[rows["git"].str.endswith(CHANGED)])),
    )


def rows_like(frame: pd.DataFrame, endpoint: Endpoint) -> pd.DataFrame:
    """The frame's rows of the endpoint's condition, at whatever step."""
    same = pd.Series(True, index=frame.index)
    for name, value in endpoint.condition.items():
        same &= frame[name] == value
    return frame[same]


def missing_cells(
    frame: pd.DataFrame, endpoint: Endpoint, index: Mapping[str, Any]
) -> dict[str, list[int]]:
    """By arm: those of its seeds that are not measured at the last step, hollow or not.

    Args:
        frame: the frame of the study's rows.
        endpoint: what is measured.
        index: the study's, which says which cells there should be; without one, every arm with
            rows should have every seed.
    """
    same = rows_like(frame, endpoint)
    same = same[same["step"] == same["total_steps"]]
    measured = set(zip(same["arm"], same["seed"], strict=True))
    planned = {(cell["arm"], cell["seed"]) for cell in index.get("cells", ())} or {
        (arm, seed) for arm in arm_order(frame) for seed in endpoint.values.index
    }
    absent: dict[str, list[int]] = {}
    for arm, seed in sorted(planned - measured):
        absent.setdefault(arm, []).append(int(seed))
    return absent


def _step_rule(rows: pd.DataFrame) -> str:
    """Which step is meant, in words: most arms' last one, then those of other lengths."""
    steps = rows.groupby("arm")["total_steps"].max()
    usual = int(steps.mode().max())
    others = [f"{arm}: {int(step)}" for arm, step in steps.items() if step != usual]
    return "; ".join([f"each arm's last step, {usual}", *others])
