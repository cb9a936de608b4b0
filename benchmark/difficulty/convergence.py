"""How a network's held-out error falls towards its floor, and how soon it is half-way.

Formulas: docs/difficulty.md.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNITS: dict[str, Callable[[Floats], Floats]] = {
    "eps": np.ones_like,
    "x0": lambda ratio: ratio**2,
    "v": lambda ratio: 1.0 + ratio**2,
}
"""Unit of an error → its size for an ε-error of 1, by σ = sigma/alpha (L,).

v = (alpha·ε − sigma·x)/√(alpha² + sigma²), Salimans & Ho 2022 (2202.00512), for any process."""


def in_unit(errors: Floats, ratio: Floats, unit: str) -> Floats:
    """Mean over noise levels of errors in another unit.

    Args:
        errors: (…, L) mean squared ε-errors.
        ratio: (L,) σ = sigma/alpha.
        unit: of ``UNITS``.

    Returns:
        (…,) mean squared errors in that unit.
    """
    return np.asarray((errors * UNITS[unit](ratio)).mean(axis=-1))


def relative_excess(losses: Floats, start: float, floor: float) -> Floats:
    """(L − floor)/(start − floor): 1 at the start, 0 at the floor, below 0 under it.

    Args:
        losses: (K,) errors.
        start: of the untrained network.
        floor: of the linear denoiser.

    Returns:
        (K,); NaN where the start is not above the floor, so that there is no way to go.
    """
    way = start - floor
    return np.asarray((losses - floor) / way if way > 0 else np.full(losses.shape, np.nan))


def steps_to_half(steps: Floats, excess: Floats) -> float:
    """The step at which a relative excess first reaches ½.

    Between measured steps it is taken as straight, from 1 at step 0.

    Args:
        steps: (K,) > 0, rising.
        excess: (K,), of ``relative_excess``.

    Returns:
        Steps; infinite if ½ is not reached, NaN if the excess is not known.
    """
    if np.isnan(excess).any():
        return float("nan")
    steps, excess = np.append(0.0, steps), np.append(1.0, excess)
    (below,) = np.nonzero(excess <= 0.5)
    if not below.size:
        return float("inf")
    last = int(below[0])
    share = (excess[last - 1] - 0.5) / (excess[last - 1] - excess[last])
    return float(steps[last - 1] + share * (steps[last] - steps[last - 1]))


def shares_above(excess: Floats) -> Floats:
    """Each interval's share of all that is above the floor; below 0 where it is below.

    Args:
        excess: (…, N) errors minus floors.

    Returns:
        (…, N): those above 0 add up to 1; NaN where none is.
    """
    above = np.clip(excess, 0.0, None).sum(axis=-1, keepdims=True)
    return np.asarray(excess / np.where(above > 0, above, np.nan))
