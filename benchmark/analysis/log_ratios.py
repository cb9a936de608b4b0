"""Log ratios of measures: how they are made, and how they read in percent.

Rows hold any finite number, and an interval of two seeds may be 12 times as wide as what they
differ by: what is made of them here is finite, or NaN where there is none.
"""

import math

import numpy as np
import pandas as pd

MOST_PERCENT = 9999
BEYOND = f"> {MOST_PERCENT} %"
"""How a change reads that is larger than any that matters; none is below −100 %."""
_MOST = math.log1p(MOST_PERCENT / 100)
# Of these exp is a finite number.
_LARGEST = 700.0


def factor(log_ratio: float) -> float:
    """A log ratio as a ratio; an enormous one as the largest that is a number, NaN as NaN."""
    return math.exp(min(log_ratio, _LARGEST))


def percent_change(log_ratio: float) -> float:
    """A log ratio as a change in percent: log 1.03 → 3; enormous ones as in ``factor``."""
    return 100 * math.expm1(min(log_ratio, _LARGEST))


def is_beyond(log_ratio: float) -> bool:
    """Whether a change is so large that it reads as ``BEYOND``."""
    return log_ratio > _MOST


def quotient(values: pd.Series, by: pd.Series) -> pd.Series:
    """Values over others, row by row; NaN where that is no number."""
    return (values / by).replace([np.inf, -np.inf], np.nan)


def log_quotient(values: pd.Series, by: pd.Series) -> pd.Series:
    """Logs of values over others, row by row; NaN where either is 0 or below."""
    ratios = (values.where(values > 0) / by.where(by > 0)).to_numpy(dtype=np.float64)
    return pd.Series(np.log(ratios), index=values.index)
