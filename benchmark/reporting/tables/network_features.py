"""Tables of what is measured on networks themselves: silhouettes, probes, effective ranks."""

import pandas as pd

from benchmark.reporting.tables.as_text import Table
from benchmark.reporting.tables.milestones import (
    by_prefix,
    full_numbers,
    milestone_tables,
    stack,
)
from benchmark.rows.frames import mean_over_levels, rows_named, split_conditions
from benchmark.rows.metric_names import JACOBIAN, PROBE, SILHOUETTE, SPECTRUM

_OF_ATTRIBUTES = f"(?P<kind>{SILHOUETTE}|{PROBE})/(?P<layer>[^/]+)/(?P<attribute>[^/]+)"
_RANK = "effective-rank"


def network_features(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """By milestone: means over layers and noise levels; layers apart are in a figure and in rows.

    Args:
        frame: of a study's rows.
    """
    tables: list[Table] = []
    numbers: list[pd.DataFrame] = []
    of_layers = rows_named(frame, _OF_ATTRIBUTES)
    for (kind, attribute), rows in of_layers.groupby(["kind", "attribute"], sort=True):
        what = f" (mean over {rows['layer'].nunique()} layers and {_levels(rows)})"
        # One metric for all layers: what is averaged is one column.
        for part in split_conditions(rows.assign(metric=f"{kind}/{attribute}")):
            mean = mean_over_levels(part)
            tables += milestone_tables(mean, what)
            numbers.append(full_numbers(mean, f"{kind}/{attribute}{what}"))
    for part in split_conditions(frame[frame["metric"] == f"{JACOBIAN}/{_RANK}"]):
        mean, what = mean_over_levels(part), f" (mean over {_levels(part)})"
        tables += milestone_tables(mean, what)
        numbers.append(full_numbers(mean, f"{JACOBIAN}/{_RANK}{what}"))
    of_samples, their_numbers = by_prefix(frame, (f"{SPECTRUM}/{_RANK}@",))
    return [*tables, *of_samples], stack([*numbers, their_numbers])


def _levels(rows: pd.DataFrame) -> str:
    return f"{rows['level'].nunique()} noise levels"
