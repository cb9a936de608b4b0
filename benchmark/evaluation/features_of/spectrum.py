"""Spectra: singular values at some ranks, and by how many directions a spectrum is carried."""

import numpy as np

from benchmark.evaluation.features_of.layers import FloatArray

EFFECTIVE_RANK = "effective-rank"
"""Its name in rows, where ranks have numbers."""


def shown_ranks(most: int) -> tuple[int, ...]:
    """The ranks 1, 2, 4, 8 … up to ``most``: as much as a figure with a logarithmic axis shows."""
    return tuple(2**k for k in range(most.bit_length()) if 2**k <= most)


def effective_rank(sum_of_squares: float, sum_of_fourths: float) -> float:
    """(Σ s²)² / Σ s⁴ of singular values s: k for k equal values, 1 for one; 0 where all are 0.

    It is the participation ratio of the squares, and the same on random orthogonal axes. Unlike
    the entropy of a spectrum it follows from two traces, which products with few vectors estimate.
    """
    return sum_of_squares**2 / sum_of_fourths if sum_of_fourths > 0 else 0.0


def effective_rank_of(values: FloatArray) -> float:
    """The effective rank of all singular values (r,) of a matrix."""
    squares = np.square(values / max(float(values.max(initial=0.0)), np.finfo(np.float64).tiny))
    return effective_rank(float(squares.sum()), float(np.square(squares).sum()))
