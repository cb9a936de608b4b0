"""How arms limit capacity, and what came of it: masks beside penalties."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmark.analysis.over_seeds import over_seeds
from benchmark.reporting.tables.arms import part_of, sequence, text_of
from benchmark.reporting.tables.as_text import Table, written
from benchmark.reporting.tables.milestones import MISSING
from benchmark.rows.frames import arm_order, curriculum_frame
from benchmark.rows.metric_names import BIRTH_EFFECT, MASK_EFFECT, REALISED_SPARSITY
from benchmark.study.index import NETWORKS

_WORDS = ("mechanism", "location", "control", "values")
_OF_A_MASK = "A mask: share of its units that are switched off."
_NOTES = {
    MASK_EFFECT: _OF_A_MASK,
    BIRTH_EFFECT: _OF_A_MASK,
    "group-norm-": (
        "A penalty: share of its weight groups whose norm is below 1 % of the norm at the start."
    ),
}
"""What realised sparsity is a share of, by the rows that only a network with such a limit has."""


def capacity(frame: pd.DataFrame, index: Mapping[str, Any]) -> tuple[list[Table], pd.DataFrame]:
    """How each arm with a mask or a penalty works, then the sparsity it reached by place and step.

    Args:
        frame: the frame of a study's rows.
        index: the study's index, or an empty one.
    """
    rows = frame[frame["metric"].str.startswith(REALISED_SPARSITY)]
    if rows.empty:
        return [], pd.DataFrame()
    rows = rows.assign(place=rows["metric"].str.removeprefix(REALISED_SPARSITY))
    numbers = over_seeds(rows, ("arm", "place", "step")).drop(columns=["error", "full_range"])
    numbers = numbers.rename(columns={"half_width": "half_width_95"})
    order = {arm: k for k, arm in enumerate(arm_order(rows))}
    known = {arm: list(_limit(index, arm).get("places", ())) for arm in order}
    keys = pd.DataFrame(
        {
            "arm": numbers["arm"].map(order),
            "place": [
                known[arm].index(place) if place in known[arm] else len(known[arm])
                for arm, place in zip(numbers["arm"], numbers["place"], strict=True)
            ],
            "name": numbers["place"],
            "step": numbers["step"],
        }
    )
    numbers = numbers.loc[keys.sort_values(["arm", "place", "name", "step"]).index].reset_index(
        drop=True
    )
    return [_mechanisms(frame, rows, index), *_realised(frame, numbers)], numbers


def _limit(index: Mapping[str, Any], arm: str) -> Mapping[str, Any]:
    """What an arm's network says of its limit; empty where an older version wrote the index."""
    return part_of(index, NETWORKS, arm, "capacity_limit")


def _mechanisms(frame: pd.DataFrame, rows: pd.DataFrame, index: Mapping[str, Any]) -> Table:
    stages = curriculum_frame(frame)
    body = []
    for arm in arm_order(rows):
        mine = stages[stages["arm"] == arm]
        first = mine[mine["seed"] == mine["seed"].min()]
        values = (text_of(_limit(index, arm).get(name)) for name in _WORDS)
        by_stage = (sequence(first["active_channels"]), sequence(first["penalty_lambda"]))
        body.append((arm, *values, *(by_stage if len(first) else (MISSING, MISSING))))
    header = ("arm", *_WORDS, "active channels", "λ")
    caption = f"{frame['study'].iloc[0]} on {frame['dataset'].iloc[0]}; by stage, left to right."
    return Table("How capacity is limited", caption, header, tuple(body))


def _realised(frame: pd.DataFrame, numbers: pd.DataFrame) -> list[Table]:
    """A table for each arm: places by milestones, in percent."""
    tables = []
    for arm in arm_order(numbers):
        mine = numbers[numbers["arm"] == arm]
        steps = sorted(set(mine["step"]))
        cells = {(one.place, one.step): _percent(one) for one in mine.itertuples()}
        metrics = frame.loc[frame["arm"] == arm, "metric"]
        notes = (note for rows, note in _NOTES.items() if metrics.str.startswith(rows).any())
        places = list(dict.fromkeys(mine["place"]))
        caption = f"Percent, {int(mine['seeds'].max())} training seeds, ± 95 % Student-t interval."
        tables.append(
            Table(
                title=f"Realised sparsity of {arm} by place and training step",
                caption=caption,
                header=("place", *(f"step {step}" for step in steps)),
                body=tuple(
                    (place, *(cells.get((place, step), MISSING) for step in steps))
                    for place in places
                ),
                notes=tuple(notes),
            )
        )
    return tables


def _percent(row: Any) -> str:
    text = written(100 * row.mean, ".1f")
    return text if row.seeds == 1 else f"{text} ± {written(100 * row.half_width_95, '.1f')}"
