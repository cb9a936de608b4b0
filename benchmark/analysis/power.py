"""How many seeds a comparison needs, and what a given number can see: paired t tests.

Source: the noncentral t distribution (Cohen 1988, ch. 2; docs/methods.md, Power). scipy.stats is
imported where it is used, for it takes a second.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_SEEDS = 1000
_LARGEST_SHIFT = 1e3


def power(effect: float, sd: float, n: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """Probability that a two-sided paired t test sees an effect, by the noncentral t.

    Args:
        effect: true mean of the differences.
        sd: their standard deviation, > 0.
        n: numbers of seeds, each ≥ 2; any shape, which the result has.
        alpha: level of the test.
    """
    from scipy import stats

    seeds = np.asarray(n, dtype=np.float64)
    critical = stats.t.isf(alpha / 2, seeds - 1)
    # Two seeds see what is so large beside its spread; of more, scipy finds no number.
    shift = min(abs(effect) / sd, _LARGEST_SHIFT) * np.sqrt(seeds)
    # The other tail: a significant result of the wrong sign, which is no success.
    return np.asarray(stats.nct.sf(critical, seeds - 1, shift))


def seeds_needed(effect: float, sd: float, alpha: float, target: float = 0.8) -> int | None:
    """Fewest seeds whose ``power`` reaches ``target``; None above 1,000."""
    if sd == 0:
        return 2
    seeds = np.arange(2, MOST_SEEDS + 1)
    enough = power(effect, sd, seeds, alpha) >= target
    return int(seeds[np.argmax(enough)]) if enough.any() else None


def minimum_detectable_effect(sd: float, n: int, alpha: float, target: float = 0.8) -> float:
    """The smallest effect that ``n`` ≥ 2 seeds see with power ``target``, in units of ``sd``'s."""
    from scipy import optimize, stats

    span = float(stats.t.isf(alpha / 2, n - 1) + stats.t.ppf(target, n - 1)) + 10
    return sd * float(
        optimize.brentq(lambda effect: float(power(effect, 1.0, n, alpha)) - target, 0.0, span)
    )
