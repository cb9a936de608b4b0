"""Statistics of results: arrays in, plain numbers and frozen dataclasses out.

Values are places on a scale where lower is better, such as logs of distances. What each formula is
and where it comes from: docs/statistics.md. What can be drawn takes a
``numpy.random.Generator``; everything else is a pure function. scipy.stats is imported where it is
used: it takes a second, and every process that reads rows imports this module.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from mindiffusion.errors import UserError

Floats = NDArray[np.float64]
ALPHA = 0.05
SIGN_FLIP_SEEDS = (6, 20)
QUARTILE_SEEDS = 8
BOOTSTRAP_SEEDS = 20


@dataclass(frozen=True)
class Summary:
    """A mean over ``n`` independent values; ``half_width`` is None where n = 1 leaves it open."""

    mean: float
    half_width: float | None
    n: int


@dataclass(frozen=True)
class Contrast:
    """A mean of contrasts over seeds, its t interval and two-sided p value against 0.

    With ``df`` = 0 (one seed) everything but the estimate is NaN.
    """

    estimate: float
    standard_error: float
    df: int
    low: float
    high: float
    p: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """The t interval of another coverage."""
        half = _t_quantile(confidence, self.df) * self.standard_error
        return self.estimate - half, self.estimate + half


def mean_and_interval(values: ArrayLike, confidence: float = 0.95) -> Summary:
    """Mean and two-sided Student-t interval of independent values.

    Args:
        values: (n,) finite numbers, one per training seed.
        confidence: coverage of the interval, in (0, 1).

    Raises:
        UserError: no value, a value that is not finite, or a confidence outside (0, 1).
    """
    array = _finite(values, "Mean", 1)
    quantile = _t_quantile(confidence, array.size - 1)
    mean = float(array.mean())
    if array.size == 1:
        return Summary(mean, None, 1)
    half_width = quantile * float(array.std(ddof=1)) / float(np.sqrt(array.size))
    return Summary(mean, half_width, int(array.size))


def _t_quantile(confidence: float, df: int) -> float:
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence}: allowed are numbers between 0 and 1, say 0.95.")
    return float(stdtrit(df, (1 + confidence) / 2)) if df else float("nan")


def _finite(values: ArrayLike, what: str, fewest: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise UserError(f"{what} of {array.tolist()}: give a list of one or more finite numbers.")
    if array.size < fewest:
        raise UserError(
            f"{what} of {array.size} seeds: needs {fewest} or more; use the mean and its "
            "t interval, or train more seeds."
        )
    return array


def paired(differences: ArrayLike, confidence: float = 0.95) -> Contrast:
    """The one-sample t test of a contrast's own values, one per seed.

    Seeds are blocks that cancel in each value (Student 1908; Montgomery, "Design and Analysis of
    Experiments", §2.5). Nothing is pooled, so that no other arm can move the interval.

    Args:
        differences: (n,) finite numbers: Σ w_a · value[a, s] of each seed s, with Σ w_a = 0.
        confidence: coverage of the interval, in (0, 1).
    """
    array = _finite(differences, "Paired differences", 1)
    df = array.size - 1
    estimate = float(array.mean())
    error = float(array.std(ddof=1) / np.sqrt(array.size)) if df else float("nan")
    half = _t_quantile(confidence, df) * error
    p = 2 * _beyond(abs(estimate), error, df)
    return Contrast(estimate, error, df, estimate - half, estimate + half, min(p, 1.0))


def _beyond(distance: float, error: float, df: int) -> float:
    """P(error · T > distance) of Student's T; NaN without degrees of freedom."""
    if df == 0:
        return float("nan")
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(df, -distance / error))


def holm(p: ArrayLike) -> Floats:
    """P values adjusted for their number, family-wise (Holm 1979): (k,) in, (k,) out.

    The i-th smallest times k − i + 1, made monotone, at most 1.
    """
    array = np.asarray(p, dtype=np.float64)
    order = np.argsort(array)
    scaled = array[order] * np.arange(array.size, 0, -1)
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def sign_flip(differences: ArrayLike) -> float | None:
    """Exact two-sided p value of the mean when signs are exchangeable (Fisher 1935, §21).

    All 2^n sign patterns are counted. Below 6 values the smallest p possible, 2 / 2^n, is above
    .05, and above 20 there are too many patterns: None.

    Args:
        differences: (n,) finite numbers.
    """
    array = _finite(differences, "Sign flips", 1)
    if not SIGN_FLIP_SEEDS[0] <= array.size <= SIGN_FLIP_SEEDS[1]:
        return None
    sums = np.zeros(1)
    for value in array:
        sums = np.concatenate([sums + value, sums - value])
    # Sums that differ by rounding alone count as ties.
    enough = abs(array.sum()) - 1e-12 * np.abs(array).sum()
    return float(np.mean(np.abs(sums) >= enough))


def equivalence(contrast: Contrast, margin: float) -> float:
    """P value of equivalence within ±margin: two one-sided tests (Schuirmann 1987).

    Below .05 exactly where the 90 % interval lies within the margins.
    """
    gaps = (contrast.estimate + margin, margin - contrast.estimate)
    return max(_below(gap, contrast) for gap in gaps)


def _below(gap: float, contrast: Contrast) -> float:
    p = _beyond(abs(gap), contrast.standard_error, contrast.df)
    return p if gap >= 0 else 1 - p


def verdict(
    contrast: Contrast, margin: float, direction: Literal[-1, 0, 1]
) -> Literal["supported", "refuted", "equal", "undecided"]:
    """What an interval says of a claim: docs/methods.md, Verdict of an interval.

    - equal: equivalence within ±margin; a claimed effect is thereby refuted, and the word says how.
    - supported: the whole interval lies beyond the margin on the claimed side.
    - refuted: the whole interval lies on the other side of 0; with ``direction`` 0, which claims
      that there is no difference, on either side.
    - undecided: none of these, one seed included.

    Args:
        contrast: a change with its interval.
        margin: smallest effect of interest, ≥ 0, on the same scale.
        direction: sign of the claimed effect, 0 for none.
    """
    if equivalence(contrast, margin) < ALPHA:
        return "equal"
    low, high = sorted((direction * contrast.low, direction * contrast.high))
    if direction and low > margin:
        return "supported"
    if direction and high < 0:
        return "refuted"
    if direction == 0 and (contrast.low > 0 or contrast.high < 0):
        return "refuted"
    return "undecided"


def realised_correlation(values: ArrayLike) -> Floats:
    """Pearson correlation of arms over seeds: (A, n) → (A, A).

    Pairs reduce the variance of a difference only where it is above 0.

    Raises:
        UserError: fewer than three seeds, whose correlation is ±1 whatever the arms, or a number
            that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 3 or not np.isfinite(array).all():
        raise UserError(
            f"Correlation of values of shape {array.shape}: give finite numbers, a row per arm and "
            "a column for each of three or more seeds."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.corrcoef(array))


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half of 8 or more values (Agarwal et al. 2021)."""
    from scipy import stats

    return float(stats.trim_mean(_finite(values, "Interquartile mean", QUARTILE_SEEDS), 0.25))


def probability_of_improvement(values: ArrayLike, baseline: ArrayLike) -> float:
    """P(a run's value is below a baseline run's), ties by half; 8 or more of each.

    Mann and Whitney's U over the number of pairs (Agarwal et al. 2021, eq. 2).
    """
    from scipy import stats

    what = "Probability of improvement"
    own, other = (_finite(array, what, QUARTILE_SEEDS) for array in (values, baseline))
    larger = stats.mannwhitneyu(other, own, method="asymptotic").statistic
    return float(larger) / (own.size * other.size)


def bootstrap_interval(
    values: ArrayLike, rng: np.random.Generator, confidence: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval (BCa) of the mean of 20 or more values.

    With fewer it covers too little: docs/methods.md, Bootstrap of few seeds.
    """
    from scipy import stats

    array = _finite(values, "Bootstrap interval", BOOTSTRAP_SEEDS)
    found = stats.bootstrap((array,), np.mean, confidence_level=confidence, rng=rng)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
