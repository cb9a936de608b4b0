"""What a study can see: spread, pairing and the smallest effect its seeds would detect."""

import math

import numpy as np
import pandas as pd

from benchmark.analysis.endpoint import Endpoint
from benchmark.analysis.power import minimum_detectable_effect
from benchmark.analysis.statistics import (
    QUARTILE_SEEDS,
    interquartile_mean,
    probability_of_improvement,
    realised_correlation,
)
from benchmark.rows.frames import arm_order
from benchmark.study.arm_names import BASELINE

_COLUMNS = (
    "arm",
    "seeds",
    "mean",
    "interquartile_mean",
    "sd",
    "correlation",
    "minimum_detectable_effect",
    "probability_of_improvement",
)


def sensitivity(endpoint: Endpoint, alpha: float) -> pd.DataFrame:
    """How each arm's values lie beside B's of the same seeds, and what such a comparison can see.

    Args:
        endpoint: what is measured.
        alpha: level of the test.

    Returns:
        A row per arm but B with ``seeds`` shared with it. Of the changes from B: ``mean``,
        ``interquartile_mean`` (from 8 seeds on), ``sd`` (from 2), and the smallest true one that
        a paired test would detect with 80 % power at that level (from 2).
        ``correlation`` of the arm with B over seeds (from 3): pairs pay where it is above 0.
        ``probability_of_improvement``: a run of the arm ends better than a run of B, whatever
        their seeds (from 8). NaN where there are too few seeds; no rows without B.
    """
    if BASELINE not in endpoint.values:
        return pd.DataFrame(columns=list(_COLUMNS))
    arms = arm_order(pd.DataFrame({"arm": endpoint.values.columns.drop(BASELINE)}))
    tables = {arm: endpoint.values[[arm, BASELINE]].dropna().to_numpy().T for arm in arms}
    lines = [(arm, *_line(table, alpha)) for arm, table in tables.items() if table.size]
    return pd.DataFrame(lines, columns=list(_COLUMNS))


def _line(table: np.ndarray, alpha: float) -> tuple[float, ...]:
    """The row of an arm from (2, n) values on their scale: its own and B's."""
    n = table.shape[1]
    changes = table[0] - table[1]
    sd = float(changes.std(ddof=1)) if n > 1 else math.nan
    many = n >= QUARTILE_SEEDS
    return (
        n,
        float(changes.mean()),
        interquartile_mean(changes) if many else math.nan,
        sd,
        float(realised_correlation(table)[0, 1]) if n > 2 else math.nan,
        minimum_detectable_effect(sd, n, alpha) if n > 1 else math.nan,
        probability_of_improvement(*table) if many else math.nan,
    )
