"""A number of a set of images with its error: the set's groups are left out one at a time.

Source: the delete-one-group jackknife (Busing, Meijer and van der Leeden 1999); here for groups of
nearly equal size, so that all count alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUPS = 10
"""Of images. A class needs as many, so that each group has an image of each class."""


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error over groups of images."""

    value: float
    standard_error: float


def groups_of(count: int) -> NDArray[np.int64]:
    """The group of each of ``count`` images, (count,): in turn, so that groups differ by one."""
    return np.arange(count) % GROUPS


def leaving_groups_out(
    measure: Callable[[NDArray[np.bool_]], float], groups: NDArray[np.int64]
) -> Estimate:
    """The measure of all images, and its jackknife error, √((G − 1)/G · Σ (x_g − x̄)²).

    Args:
        measure: which images are kept, (N,) bool → the number.
        groups: the group of each image, (N,); two groups or more.
    """
    value = measure(np.ones(len(groups), dtype=bool))
    found = np.unique(groups)
    left_out = np.array([measure(groups != group) for group in found])
    spread = np.square(left_out - left_out.mean()).sum()
    return Estimate(value, float(np.sqrt((len(found) - 1) / len(found) * spread)))
