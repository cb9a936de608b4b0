"""Statistics of results: arrays in, plain numbers and arrays out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from mindiffusion.errors import UserError


@dataclass(frozen=True)
class Summary:
    """A mean over ``n`` independent values; ``half_width`` is None where n = 1 leaves it open."""

    mean: float
    half_width: float | None
    n: int


def mean_and_interval(values: ArrayLike, confidence: float = 0.95) -> Summary:
    """Mean and two-sided Student-t interval of independent values.

    Args:
        values: (n,) finite numbers, one per training seed.
        confidence: coverage of the interval, in (0, 1).

    Raises:
        UserError: no value, a value that is not finite, or a confidence outside (0, 1).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise UserError(f"Mean of {array.tolist()}: give a list of one or more finite numbers.")
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence}: allowed are numbers between 0 and 1, say 0.95.")
    mean = float(array.mean())
    if array.size == 1:
        return Summary(mean, None, 1)
    quantile = float(stdtrit(array.size - 1, (1 + confidence) / 2))
    half_width = quantile * float(array.std(ddof=1)) / float(np.sqrt(array.size))
    return Summary(mean, half_width, int(array.size))
