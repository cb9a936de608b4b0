"""Exposure: how much a time density trains each noise level, relative to training all alike."""

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 20


def relative_exposure(probabilities: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Upper edge of each bin of t / n_T with the density there relative to uniform.

    Args:
        probabilities: (n_T,) of the levels 1 … n_T. Level t stands for ((t − 1)/n_T, t/n_T].
    """
    cumulative = np.concatenate([[0.0], np.cumsum(probabilities)])
    ends = np.linspace(0.0, 1.0, len(cumulative))
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    # A bin without a level would show differences of the sum's rounding, of 1e-16.
    values = np.round(np.diff(np.interp(edges, ends, cumulative)) * NUM_BINS, 9)
    return list(zip(np.round(edges[1:], 9).tolist(), values.tolist(), strict=True))
