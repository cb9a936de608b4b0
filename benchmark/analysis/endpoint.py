"""The one number every verdict is about: a metric at each arm's last step, seed by seed.

It is a distance on a ratio scale unless the study's file names another metric or scale.
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.analysis.scales import Scale, scale_of
from benchmark.rows.frames import (
    CONDITION,
    all_distance_rows,
    arm_order,
    cells_of,
    distance_rows,
)
from benchmark.rows.metric_names import base_name, is_smoke, noun_of
from benchmark.rows.provenance import is_committed
from benchmark.study.terms import USUAL, Terms
from mindiffusion.errors import UserError

# Of distances with equally many images: the net that everybody has, without a download.
_FIRST_NET = "FD-EffNet-Lite0"
PREREGISTERED = "prereg-"
# What a declared study may do with (docs/PREREG.md): images, and the error of one set, as a part of
# the distance.
_DECLARED_IMAGES, _DECLARED_ERROR = 1024, 0.01
# Cells that a sentence names.
MOST_NAMED = 4


@dataclass(frozen=True)
class Endpoint:
    """A measure at each arm's last step, on its scale.

    ``values`` has a row per training seed and a column per arm: the measure on ``scale``, where
    lower is better, a mean over ``sampling_seeds``, NaN where a cell is missing. ``condition``
    holds the fields that all its rows share (``frames.CONDITION``). ``is_smoke``: it is of too few
    images to be judged by. ``declared`` is "exploratory" unless all rows name one preregistration.
    ``uncommitted`` counts the cells that were measured by code that no commit holds. ``left_out``
    says in sentences which measurements of the same cells do not count, and why.
    """

    metric: str
    scale: Scale
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
    def noun(self) -> str:
        """What it is in a sentence: "distance", "score", "error" or "share"."""
        return noun_of(self.metric)

    @property
    def is_of_images(self) -> bool:
        """Whether it is made of generated images."""
        return int(str(self.condition["n_generated"])) > 0

    @property
    def provisional(self) -> str:
        """``provisional: 19 of 40 cells were measured by uncommitted code``; empty if none was."""
        if not self.uncommitted:
            return ""
        cells = int(self.values.notna().sum().sum())
        return f"provisional: {self.uncommitted} of {cells} cells were measured by uncommitted code"


def primary_endpoint(frame: pd.DataFrame, terms: Terms = USUAL) -> Endpoint | None:
    """The primary metric at each arm's last step; None if no arm got there.

    Of several ways to measure it only those count that more than half of the cells share, so that
    one cell measured otherwise, or one that lacks its last rows, changes nothing for the others.
    Of these the one with the number of images that the study declares comes first, then the one
    with the most images, then EfficientNet-Lite0, then the one with the most cells, then averaged
    weights before raw ones.

    Args:
        frame: the frame of a study's rows, in any order.
        terms: what the study's file fixed beforehand.
    """
    measured = primary_rows(frame, terms)
    rows = at_last_step(measured)
    if rows.empty:
        return None
    parts = [part for _, part in rows.groupby(list(CONDITION), sort=True)]
    counts = [len(cells_of(part)) for part in parts]
    # A majority; where no way of measuring has one, as many as the most common has.
    enough = min(len(cells_of(rows)) // 2 + 1, max(counts))
    shared = [part for part, count in zip(parts, counts, strict=True) if count >= enough]
    chosen = min(shared, key=lambda part: _preference(part, terms.num_generated))
    every = rows if terms.endpoint.metric else at_last_step(all_distance_rows(frame))
    endpoint = endpoint_of(chosen, scale_of(terms, measured))
    left_out = (*_left_out(every, chosen), *endpoint.left_out)
    return dataclasses.replace(endpoint, left_out=left_out)


def primary_rows(frame: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """Rows of the declared metric, with whatever number of images; else of the usual distance."""
    declared = terms.endpoint.metric
    return frame[frame["metric"].map(base_name) == declared] if declared else distance_rows(frame)


def _left_out(rows: pd.DataFrame, chosen: pd.DataFrame) -> tuple[str, ...]:
    """Metrics that do not count though they have more images or other cells than those that do.

    Args:
        rows: all that could count, at the last step.
        chosen: those that count.
    """
    metric, count = chosen["metric"].iloc[0], chosen["n_generated"].iloc[0]
    counted, texts = cells_of(chosen), []
    for other, part in rows[rows["metric"] != metric].groupby("metric", sort=True):
        cells = cells_of(part)
        if part["n_generated"].iloc[0] <= count and not str(other).startswith("FID@"):
            cells -= counted
        if cells:
            texts.append(
                f"{other} of {_named(cells)} is left out, since the cells are compared by {metric}."
            )
    return tuple(texts)


def _named(cells: Collection[tuple[str, int]]) -> str:
    named = ", ".join(f"{arm} (seed {seed})" for arm, seed in sorted(cells)[:MOST_NAMED])
    return f"{named} and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else named


def _preference(part: pd.DataFrame, declared: int | None) -> tuple[object, ...]:
    first = part.iloc[0]
    return (
        int(first["n_generated"]) != declared,
        -int(first["n_generated"]),
        not first["metric"].startswith(_FIRST_NET),
        -len(cells_of(part)),
        not first["weights"].startswith("ema"),
        -int(first["metric_version"]),
        *(str(first[name]) for name in CONDITION),
    )


def at_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of finished runs at their last step; arms not trained on all noise levels are out."""
    return rows[rows["full_range"] & (rows["step"] == rows["total_steps"])]


def endpoint_of(rows: pd.DataFrame, scale: Scale) -> Endpoint:
    """The endpoint of rows of one condition, at least one, each at its arm's last step.

    Every cell is a mean over the same sampling seeds: as many as more than half of the cells have.
    A cell that lacks one of them is left out, and changes nothing for the others.

    Args:
        rows: what is measured.
        scale: on which it is compared.

    Raises:
        UserError: a value that has no place on the scale.
    """
    first = rows.iloc[0]
    if not scale.takes(rows["value"]).all():
        lowest = rows.sort_values("value", kind="stable").iloc[0]
        raise UserError(
            f"{first['metric']}: arm {lowest['arm']!r} has {lowest['value']:g}; ratios need values "
            "above 0, so find out what went wrong in that cell and measure it again."
        )
    sampling_seeds = _sampling_seeds(rows)
    left_out = _without_all_of(rows, sampling_seeds)
    rows = of_sampling_seeds(rows, sampling_seeds)
    declarations = set(rows["declared"])
    declared = declarations.pop() if len(declarations) == 1 else "exploratory"
    return Endpoint(
        metric=str(first["metric"]),
        scale=scale,
        condition={name: first[name] for name in CONDITION},
        step_rule=_step_rule(rows),
        values=rows.assign(value=scale.on(rows["value"])).pivot_table(
            index="seed", columns="arm", values="value"
        ),
        is_smoke="@" in first["metric"] and _is_smoke(rows, declared),
        sampling_seeds=sampling_seeds,
        declared=declared,
        uncommitted=len(cells_of(rows[~rows["git"].map(is_committed)])),
        left_out=left_out,
    )


def _is_smoke(rows: pd.DataFrame, declared: str) -> bool:
    """Whether fewer images are behind an endpoint than it may be judged by.

    2,048 are enough, in a declared study also 1,024 if all errors of a set are below 1 % of it.
    """
    images = int(rows["n_generated"].iloc[0])
    is_exact = bool((rows["error"] < _DECLARED_ERROR * rows["value"]).all())
    may_be_few = declared.startswith(PREREGISTERED) and images >= _DECLARED_IMAGES and is_exact
    return is_smoke(images) and not may_be_few


def unmeasured(metric: str, scale: Scale, declared: str) -> Endpoint:
    """The endpoint of a metric that no row has: no arm and no seed has a value."""
    return Endpoint(metric, scale, {}, "", pd.DataFrame(), False, (), declared)


def _sampling_seeds(rows: pd.DataFrame) -> tuple[int, ...]:
    """The most common sampling seeds, as many as more than half of the cells have together.

    Where no sampling seed has a majority, as many as those cells have that have the most common.
    """
    found = map(int, rows["sampling_seed"].unique())
    cells = {seed: cells_of(rows[rows["sampling_seed"] == seed]) for seed in found}
    by_count = sorted(cells, key=lambda seed: (-len(cells[seed]), seed))
    chosen, whole = [], cells_of(rows)
    enough = min(len(whole) // 2 + 1, len(cells[by_count[0]]))
    for seed in by_count:
        if len(whole & cells[seed]) >= enough:
            whole &= cells[seed]
            chosen.append(seed)
    return tuple(sorted(chosen))


def of_sampling_seeds(rows: pd.DataFrame, sampling_seeds: Collection[int]) -> pd.DataFrame:
    """Rows of these sampling seeds, of those cells that have them all at the row's step."""
    rows = rows[rows["sampling_seed"].isin(sampling_seeds)]
    counts = rows.groupby(["arm", "seed", "step"])["sampling_seed"].transform("nunique")
    return rows[counts == len(sampling_seeds)]


def _without_all_of(rows: pd.DataFrame, sampling_seeds: tuple[int, ...]) -> tuple[str, ...]:
    """What does not count because cells have other sampling seeds than these, in sentences."""
    metric, names = rows["metric"].iloc[0], ", ".join(map(str, sampling_seeds))
    lacking = cells_of(rows) - cells_of(of_sampling_seeds(rows, sampling_seeds))
    further = rows[~rows["sampling_seed"].isin(sampling_seeds)]
    more = cells_of(further) - lacking
    texts = []
    if lacking:
        texts.append(
            f"{metric} of {_named(lacking)} is left out: the cells are means over the sampling "
            f"seeds {names}, and not all of these are there. Score it again."
        )
    if more:
        others = ", ".join(map(str, sorted(set(further["sampling_seed"]))))
        texts.append(
            f"Further sampling seeds ({others}) of {_named(more)} do not count, since at most half "
            "of the cells have them too."
        )
    return tuple(texts)


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
    same = of_sampling_seeds(same[same["step"] == same["total_steps"]], endpoint.sampling_seeds)
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
