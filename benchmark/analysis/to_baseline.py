"""Rows as changes from the baseline of the same seed."""

import pandas as pd

from benchmark.analysis.scales import SIGN_ALONE, Scale
from benchmark.rows.frames import CONDITION
from benchmark.study.arm_names import BASELINE


def change_from_baseline(frame: pd.DataFrame, scale: Scale = SIGN_ALONE) -> pd.DataFrame:
    """Rows with the change from B's value of the same measurement; those without B drop out.

    So do those where either has no place on the scale. B's own rows stay, at 0. The rows' own
    errors are of another kind and are dropped.

    Args:
        frame: rows of one metric, or of several on a scale of ratios.
        scale: of their values.
    """
    pair = [*CONDITION, "seed", "sampling_seed", "step", "level"]
    baseline = frame[frame["arm"] == BASELINE][[*pair, "value"]]
    joined = frame.merge(baseline.rename(columns={"value": "baseline"}), on=pair)
    change = scale.between(joined["value"], joined["baseline"])
    joined = joined.assign(value=change, error=float("nan")).drop(columns="baseline")
    return joined.dropna(subset="value")
