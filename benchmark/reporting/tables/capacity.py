"""How arms limit capacity, and what came of it: the channel mask (CS) beside the penalty (CR)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmark.analysis.over_seeds import over_seeds
from benchmark.reporting.tables.arms import part_of, sequence
from benchmark.reporting.tables.as_text import Table, written
from benchmark.reporting.tables.milestones import MISSING
from benchmark.rows.frames import arm_order, curriculum_frame
from benchmark.rows.metric_names import REALISED_SPARSITY

BOTTLENECK = "bottleneck"
_MASK = {
    "mechanism": "hard mask",
    "location": "bottleneck channels",
    "control": "regrowth by saliency at each stage",
    "values": "0 or 1",
}
_PENALTY = {
    "mechanism": "group-L1 penalty",
    "location": "output channels of all convolutions",
    "control": "λ of each stage",
    "values": "continuous",
}
_NORMS = "group-norm-"
"""Rows of what a penalty acts on."""
_SILENT = "bottleneck channels, innermost skip, time embedding"
_ORDER = ("bottleneck", "init_conv", "down1", "down2", "down3", "up0", "up1", "up2", "up3", "out")
_NOTE = (
    "Bottleneck: share of its channels that are masked. Other places: share of output channels "
    "whose weights fell below 1 % of their norm at the start."
)


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
    rank = {place: k for k, place in enumerate(_ORDER)}
    order = {arm: k for k, arm in enumerate(arm_order(rows))}
    keys = pd.DataFrame(
        {
            "arm": numbers["arm"].map(order),
            "place": numbers["place"].map(lambda place: rank.get(place, len(rank))),
            "name": numbers["place"],
            "step": numbers["step"],
        }
    )
    numbers = numbers.loc[keys.sort_values(["arm", "place", "name", "step"]).index].reset_index(
        drop=True
    )
    return [_mechanisms(frame, rows, index), *_realised(rows, numbers)], numbers


def _mechanisms(frame: pd.DataFrame, rows: pd.DataFrame, index: Mapping[str, Any]) -> Table:
    stages = curriculum_frame(frame)
    body = []
    for arm in arm_order(rows):
        mine = stages[stages["arm"] == arm]
        first = mine[mine["seed"] == mine["seed"].min()]
        has_norms = frame.loc[frame["arm"] == arm, "metric"].str.startswith(_NORMS).any()
        is_masked = not (has_norms or (first["penalty_lambda"] > 0).any())
        facts = _MASK if is_masked else _PENALTY
        model = part_of(index, "arms", arm, "config", "model")
        location = facts["location"]
        if is_masked:
            # The mask says itself where it is; only of this place do we know what its units are.
            (place, *_) = sorted(set(rows.loc[rows["arm"] == arm, "place"]))
            location = location if place == BOTTLENECK else place
            location = _SILENT if model.get("placement") == "silent" else location
        control = facts["control"]
        if is_masked and model.get("regrow_method") == "random":
            control = "random regrowth at each stage"
        values = (facts["mechanism"], location, control, facts["values"])
        by_stage = (sequence(first["active_channels"]), sequence(first["penalty_lambda"]))
        body.append((arm, *values, *(by_stage if len(first) else (MISSING, MISSING))))
    header = ("arm", "mechanism", "location", "control", "values", "active channels", "λ")
    caption = f"{frame['study'].iloc[0]} on {frame['dataset'].iloc[0]}; by stage, left to right."
    return Table("How capacity is limited", caption, header, tuple(body))


def _realised(rows: pd.DataFrame, numbers: pd.DataFrame) -> list[Table]:
    """A table for each arm: places by milestones, in percent."""
    tables = []
    for arm in arm_order(rows):
        mine = numbers[numbers["arm"] == arm]
        steps = sorted(set(mine["step"]))
        cells = {(one.place, one.step): _percent(one) for one in mine.itertuples()}
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
                notes=(_NOTE,),
            )
        )
    return tables


def _percent(row: Any) -> str:
    text = written(100 * row.mean, ".1f")
    return text if row.seeds == 1 else f"{text} ± {written(100 * row.half_width_95, '.1f')}"
