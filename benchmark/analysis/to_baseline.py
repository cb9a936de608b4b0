"""Rows as log ratios to the baseline of the same seed."""

import pandas as pd

from benchmark.analysis.log_ratios import log_quotient
from benchmark.rows.frames import CONDITION
from benchmark.study.arm_names import BASELINE


def log_ratio_to_baseline(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with log(value / B's value) of the same measurement; those without B drop out.

    So do those where either is 0 or below, which has no logarithm. B's own rows
    stay, at 0. The rows' own errors are of another kind and are dropped.
    """
    pair = [*CONDITION, "seed", "sampling_seed", "step", "level"]
    baseline = frame[frame["arm"] == BASELINE][[*pair, "value"]]
    joined = frame.merge(baseline.rename(columns={"value": "baseline"}), on=pair)
    ratio = log_quotient(joined["value"], joined["baseline"])
    joined = joined.assign(value=ratio, error=float("nan")).drop(columns="baseline")
    return joined.dropna(subset="value")
