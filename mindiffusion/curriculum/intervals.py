"""Where noise levels are cut into intervals: evenly, or so that levels of one interval are alike.

The cost of an interval is the sum of the distances of its levels' values from that of its centre
(Go et al. 2023, "Addressing Negative Transfer", 2306.00354, section 4.2). Dynamic programming finds
the intervals of least cost, one-level intervals among them.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Centre = Literal["floor", "half_even"]
"""Which level of [l, r] is its centre, counted from 0: ⌊(l + r)/2⌋, or (l + r + 1)/2 rounded, with
halves to even numbers. The second is above the middle of every interval of an even length."""


def interval_costs(values: NDArray[np.float64], centre: Centre) -> NDArray[np.float64]:
    """Cost of every interval [l, r] of levels: Σ |values − value of the centre|.

    Args:
        values: (T,) one for each level, falling.
        centre: which level is the centre.

    Returns:
        (T, T) at [l, r]; infinite where l > r.
    """
    count = len(values)
    left, right = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    sums = np.concatenate([[0.0], np.cumsum(values)])
    if centre == "floor":
        middle = (left + right) // 2
    else:
        # That of one level alone may round to the next one, which is not inside.
        middle = np.minimum(np.rint((left + right + 1) / 2).astype(np.int64), right)
    before = sums[middle + 1] - sums[left] - (middle + 1 - left) * values[middle]
    after = (right - middle) * values[middle] - (sums[right + 1] - sums[middle + 1])
    return np.where(left <= right, before + after, np.inf)


@lru_cache(maxsize=32)
def least_cost_starts(values: tuple[float, ...], count: int, centre: Centre) -> tuple[int, ...]:
    """First levels, counted from 0, of the intervals of least total cost.

    Args:
        values: one for each level, falling.
        count: number of intervals, at most that of the levels.
        centre: which level is the centre of an interval.

    Returns:
        (count,) rising, the first of them 0; of equal costs the lowest starts.
    """
    cost = interval_costs(np.array(values), centre)
    # best[r]: least cost of the levels 0 … r in the intervals so far.
    best, starts = cost[0], []
    for _ in range(count - 1):
        total = np.concatenate([[np.inf], best[:-1]])[:, None] + cost
        starts.append(total.argmin(axis=0))
        best = total.min(axis=0)
    found, last = [], len(values) - 1
    for start_of in reversed(starts):
        found.append(int(start_of[last]))
        last = found[-1] - 1
    return (0, *reversed(found))
