"""What training each arm takes: images, operations and seconds, each beside the baseline's."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmark.analysis.statistics import mean_and_interval
from benchmark.reporting.tables.arms import number_of, part_of
from benchmark.reporting.tables.as_text import Table, written
from benchmark.reporting.tables.milestones import MISSING
from benchmark.rows.frames import arm_order
from benchmark.study.arm_names import BASELINE
from benchmark.study.index import FLOPS

_HEADER = (
    "arm", "runs", "images a run", "GFLOP an image", "PFLOP a run", "seconds a run",
    f"seconds against {BASELINE}",
)  # fmt: skip


def training_cost(
    frame: pd.DataFrame, index: Mapping[str, Any]
) -> tuple[list[Table], pd.DataFrame]:
    """A line an arm; finished runs only.

    Args:
        frame: the frame of a study's rows.
        index: the study's index; what it would say stays open where there is none.
    """
    ends = frame[(frame["step"] == frame["total_steps"]) & (frame["train_seconds"] > 0)]
    if ends.empty:
        return [], pd.DataFrame()
    seconds = ends.groupby(["seed", "arm"])["train_seconds"].max().unstack()
    steps = ends.groupby("arm")["total_steps"].max()
    flops = index.get(FLOPS, {})
    numbers = pd.DataFrame(
        [
            {"arm": arm, "runs": int(seconds[arm].notna().sum())}
            | _operations(int(steps[arm]), part_of(index, "arms", arm), flops.get(arm))
            | _seconds(seconds, arm)
            for arm in arm_order(ends)
        ]
    )
    body = tuple(_line(one) for _, one in numbers.iterrows())
    caption = (
        "Operations of the forward and the backward pass, as torch counts them: masked and "
        "penalised networks are computed whole, optimizer, averages and probes of masks come on "
        "top. Seconds are of training alone, without scoring, beside whatever else the machine "
        f"did; ± the 95 % t-interval of the mean over seeds. Against {BASELINE} of "
        "the same seed: geometric mean and range over seeds; the range is mostly the machine's."
    )
    return [Table("What training takes", caption, _HEADER, body)], numbers


def _operations(steps: int, entry: Mapping[str, Any], flops: int | None) -> dict[str, float]:
    batch = number_of(part_of(entry, "config", "training"), "global_batch")
    images, per_image = float(steps * batch), float("nan" if flops is None else flops)
    return {"images": images, "flops_per_image": per_image, "flops": images * per_image}


def _seconds(seconds: pd.DataFrame, arm: str) -> dict[str, float]:
    mean = mean_and_interval(seconds[arm].dropna().to_numpy())
    found = {"seconds": mean.mean, "half_width_95": mean.half_width or np.nan}
    found |= dict.fromkeys(("ratio", "lowest_ratio", "highest_ratio"), np.nan)
    if BASELINE in seconds and arm != BASELINE:
        both = seconds[[arm, BASELINE]].dropna()
        logs = np.log(both[arm].to_numpy() / both[BASELINE].to_numpy())
        if logs.size:
            of_logs = (logs.mean(), logs.min(), logs.max())
            names = ("ratio", "lowest_ratio", "highest_ratio")
            found |= dict(zip(names, map(float, np.exp(of_logs)), strict=True))
    return found


def _line(one: pd.Series) -> tuple[str, ...]:
    half = "" if np.isnan(one["half_width_95"]) else f" ± {written(one['half_width_95'], '.0f')}"
    return (
        str(one["arm"]),
        str(one["runs"]),
        _number(one["images"], ",.0f"),
        _number(one["flops_per_image"] / 1e9, ".4g"),
        _number(one["flops"] / 1e15, ".3g"),
        written(one["seconds"], ".0f") + half,
        _ratio(one),
    )


def _ratio(one: pd.Series) -> str:
    if np.isnan(one["ratio"]):
        return MISSING
    names = ("ratio", "lowest_ratio", "highest_ratio")
    ratio, lowest, highest = (written(one[name], ".2f") for name in names)
    return f"× {ratio} ({lowest} to {highest})"


def _number(value: float, form: str) -> str:
    return MISSING if np.isnan(value) else written(value, form)
