"""Means over training seeds with their intervals: the points of every curve."""

from collections.abc import Sequence

import pandas as pd

from benchmark.analysis.statistics import mean_and_interval

_KINDS_OF_SUMMARY = {
    "mean": "float64", "half_width": "float64", "seeds": "int64", "full_range": "bool",
    "error": "float64",
}  # fmt: skip


def over_seeds(frame: pd.DataFrame, by: Sequence[str] = ("arm", "step")) -> pd.DataFrame:
    """Mean and 95 % Student-t interval over training seeds, a row per ``by`` group.

    Sampling seeds are averaged within their training seed first: their spread is another one.

    Returns:
        Columns ``by``, ``mean``, ``half_width`` (NaN for one seed), ``seeds`` (their number),
        ``full_range`` (True only if every seed's is) and ``error`` (the metric's own standard
        error where the mean is of one measurement, else NaN).
    """
    per_seed = frame.groupby([*by, "seed"], sort=True).agg(
        value=("value", "mean"),
        full_range=("full_range", "all"),
        error=("error", "first"),
        measurements=("value", "size"),
    )
    rows: list[tuple[object, ...]] = []
    for group, part in per_seed.groupby(list(by), sort=True):
        summary = mean_and_interval(part["value"].to_numpy())
        half = float("nan") if summary.half_width is None else summary.half_width
        error = part["error"].iloc[0] if part["measurements"].sum() == 1 else float("nan")
        full = bool(part["full_range"].all())
        rows.append((*group, summary.mean, half, summary.n, full, float(error)))
    # Without rows too, each column is of its kind.
    kinds = {name: frame[name].dtype for name in by} | _KINDS_OF_SUMMARY
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)
