"""Statistics of results: arrays in, plain numbers and frozen dataclasses out.

Values are logs of distances, lower is better; (A, n) arrays have a row per arm and a column per
training seed. What each formula is and where it comes from: docs/statistics.md. What can be drawn
takes a ``numpy.random.Generator``; everything else is a pure function.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats
from scipy.special import fdtrc, stdtr, stdtrit

from benchmark.many_arms import tail_of_largest
from mindiffusion.errors import UserError

Floats = NDArray[np.float64]
ALPHA = 0.05
# Level at which a contrast of larger spread is kept from the pooled residual: high, for missing one
# costs coverage and a false alarm only width (docs/statistics.md has both, measured).
GUARD_ALPHA = 0.2
SIGN_FLIP_SEEDS = (6, 20)
QUARTILE_SEEDS = 8
BOOTSTRAP_SEEDS, MOST_BY_POINTS = 20, 12


@dataclass(frozen=True)
class Summary:
    """A mean over ``n`` independent values; ``half_width`` is None where n = 1 leaves it open."""

    mean: float
    half_width: float | None
    n: int


@dataclass(frozen=True)
class BlockFit:
    """Additive model of arms and seed blocks: value[a, s] = arm[a] + block[s] + residual.

    ``values`` is (A, n); ``variance`` that of the residual, pooled over arms and seeds, with
    ``df`` = (A − 1)(n − 1) degrees of freedom; NaN where there are none (n = 1).
    """

    values: Floats
    variance: float
    df: int

    @property
    def n(self) -> int:
        """Number of seeds."""
        return self.values.shape[1]


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arm means, its t interval and two-sided p value against 0.

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


@dataclass(frozen=True)
class Dunnett:
    """All other arms minus a control, (A − 1,) in the arms' order, error rates held jointly."""

    estimate: Floats
    low: Floats
    high: Floats
    p: Floats


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


def fit_blocks(values: ArrayLike) -> BlockFit:
    """Fit arms and seed blocks by least squares: means of complete cells.

    The randomised complete block design (Fisher 1935; Montgomery, "Design and Analysis of
    Experiments", §4.1). Seeds with a missing cell must be left out before.

    Args:
        values: (A, n) finite numbers, A ≥ 2.

    Raises:
        UserError: fewer than two arms, no seed, or a number that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1 or not np.isfinite(array).all():
        raise UserError(
            f"Blocks of shape {array.shape}: give finite numbers, two or more arms by one or more "
            "seeds, each arm with every seed."
        )
    arms, seeds = array.shape
    df = (arms - 1) * (seeds - 1)
    residual = array - array.mean(axis=1, keepdims=True) - array.mean(axis=0) + array.mean()
    variance = float((residual**2).sum() / df) if df else float("nan")
    return BlockFit(array, variance, df)


def _checked_weights(fit: BlockFit, weights: ArrayLike) -> Floats:
    array = np.asarray(weights, dtype=np.float64)
    arms = fit.values.shape[0]
    if array.shape != (arms,) or not np.any(array) or abs(array.sum()) > 1e-9:
        raise UserError(
            f"Contrast weights {array.tolist()}: give one for each of the {arms} arms, not all 0, "
            "with sum 0."
        )
    return array


def contrast(fit: BlockFit, weights: ArrayLike, confidence: float = 0.95) -> Contrast:
    """Σ w_a · mean_a with the pooled residual: standard error √(variance · Σ w² / n).

    Args:
        fit: of A arms and n seeds.
        weights: (A,) that sum to 0; seed blocks cancel.
        confidence: coverage of the interval, in (0, 1).
    """
    array = _checked_weights(fit, weights)
    error = float(np.sqrt(fit.variance * (array**2).sum() / fit.n))
    return _t_contrast(float(array @ fit.values.mean(axis=1)), error, fit.df, confidence)


def paired(differences: ArrayLike, confidence: float = 0.95) -> Contrast:
    """The one-sample t test of a contrast's own values, one per seed; nothing is pooled.

    Args:
        differences: (n,) finite numbers.
        confidence: coverage of the interval, in (0, 1).
    """
    array = _finite(differences, "Paired differences", 1)
    df = array.size - 1
    error = float(array.std(ddof=1) / np.sqrt(array.size)) if df else float("nan")
    return _t_contrast(float(array.mean()), error, df, confidence)


def _t_contrast(estimate: float, error: float, df: int, confidence: float) -> Contrast:
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


def spread_test(fit: BlockFit, weights: ArrayLike) -> float:
    """One-sided p value: do this contrast's values scatter more than the other residuals?

    The contrast's own sum of squares, with n − 1 degrees of freedom, is independent of the rest
    of the residual's, with (A − 2)(n − 1): an F test. NaN where either has none.
    """
    array = _checked_weights(fit, weights)
    own = float((array @ fit.values).var() * fit.n / (array**2).sum())
    df_own = fit.n - 1
    df_rest = fit.df - df_own
    if df_own == 0 or df_rest == 0:
        return float("nan")
    rest = fit.variance * fit.df - own
    # What rounding leaves of identical values is no scatter.
    if rest <= 1e-12 * own:
        return 0.0 if own > 0 else 1.0
    return float(fdtrc(df_own, df_rest, (own / df_own) / (rest / df_rest)))


def guarded_contrast(
    fit: BlockFit, weights: ArrayLike, confidence: float = 0.95
) -> tuple[Contrast, bool]:
    """The pooled contrast, or the paired one where pooling would flatter it.

    The pooled residual assumes one spread for all arms. Where this contrast's own values scatter
    more than the rest explains (``spread_test`` below .2), the paired t takes its place: a rule
    fixed beforehand that can only widen what is claimed.

    Returns:
        The contrast, and whether it is the pooled one.
    """
    if spread_test(fit, weights) < GUARD_ALPHA:
        return paired(_checked_weights(fit, weights) @ fit.values, confidence), False
    return contrast(fit, weights, confidence), True


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


def dunnett(
    fit: BlockFit, control: int, rng: np.random.Generator, confidence: float = 0.95
) -> Dunnett:
    """All arms against one, with jointly held error rates (Dunnett 1955).

    In complete blocks the t statistics of the differences to a control are a multivariate t with
    correlation ½ and the residual's degrees of freedom. Its probabilities are integrated by
    randomised points, good to about 1e-4; those of many arms, which would take minutes, by nodes.

    Args:
        fit: of A arms and n ≥ 2 seeds.
        control: row of the control.
        rng: seeds the integration.
        confidence: joint coverage of the intervals, in (0, 1).

    Raises:
        UserError: one seed, which has no residual.
    """
    if fit.df == 0:
        raise UserError("Dunnett's comparisons of one seed: give two or more.")
    means = fit.values.mean(axis=1)
    estimate = np.delete(means, control) - means[control]
    error = float(np.sqrt(2 * fit.variance / fit.n))
    correlation = np.full((estimate.size, estimate.size), 0.5) + 0.5 * np.eye(estimate.size)
    # One seed for all calls: the critical value is sought on one smooth function.
    seed = int(rng.integers(2**31))

    def outside(t: float) -> float:
        """P(max |T| > t)."""
        if estimate.size > MOST_BY_POINTS:
            return tail_of_largest(t, estimate.size, fit.df)
        bound = np.full(estimate.size, t)
        inside = stats.multivariate_t.cdf(
            bound, shape=correlation, df=fit.df, lower_limit=-bound, random_state=seed
        )
        return 1 - float(inside)

    level = 1 - confidence  # between one comparison's quantile and Bonferroni's:
    bracket = stats.t.isf(np.array([level / 2, level / 2 / estimate.size]), fit.df)
    critical = optimize.brentq(
        lambda t: outside(t) - level, bracket[0] * 0.99, bracket[1] * 1.01, xtol=1e-5
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num(np.abs(estimate) / error, nan=0.0, posinf=1e9)
    p = np.clip([outside(value) for value in t], 0, 1)
    return Dunnett(estimate, estimate - critical * error, estimate + critical * error, p)


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
    """What an interval says of a claim, by METHODS §7.

    - equal: equivalence within ±margin; a claimed effect is thereby refuted, and the word says how.
    - supported: the whole interval lies beyond the margin on the claimed side.
    - refuted: the whole interval lies on the other side of 0; with ``direction`` 0, which claims
      that there is no difference, on either side.
    - undecided: none of these, one seed included.

    Args:
        contrast: log ratio with its interval.
        margin: smallest effect of interest, a log ratio ≥ 0.
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
        UserError: fewer than three seeds, whose correlation is ±1 whatever the arms.
    """
    array = fit_blocks(values).values
    if array.shape[1] < 3:
        raise UserError(f"Correlation over {array.shape[1]} seeds: give three or more.")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.corrcoef(array))


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half of 8 or more values (Agarwal et al. 2021)."""
    return float(stats.trim_mean(_finite(values, "Interquartile mean", QUARTILE_SEEDS), 0.25))


def probability_of_improvement(values: ArrayLike, baseline: ArrayLike) -> float:
    """P(a run's value is below a baseline run's), ties by half; 8 or more of each.

    Mann and Whitney's U over the number of pairs (Agarwal et al. 2021, eq. 2).
    """
    what = "Probability of improvement"
    own, other = (_finite(array, what, QUARTILE_SEEDS) for array in (values, baseline))
    larger = stats.mannwhitneyu(other, own, method="asymptotic").statistic
    return float(larger) / (own.size * other.size)


def bootstrap_interval(
    values: ArrayLike, rng: np.random.Generator, confidence: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval (BCa) of the mean of 20 or more values.

    With fewer it covers too little: percentile intervals of 3/5/8 seeds cover .76/.84/.89.
    """
    array = _finite(values, "Bootstrap interval", BOOTSTRAP_SEEDS)
    found = stats.bootstrap((array,), np.mean, confidence_level=confidence, rng=rng)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
