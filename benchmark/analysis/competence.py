"""Has the baseline learned enough for its study to say anything about training?

A network that denoises worse than a linear filter has not yet learned what makes the pictures; what
a curriculum does to it says nothing about diffusion models. So the held-out ε-MSE of plain training
(B) is held against two denoisers that need no network: the best linear one (Wiener's filter of the
training images, ``benchmark.evaluation.metrics.linear_oracle``) and always answering with the mean
picture.
docs/statistics.md, "The gate", says what is asked and why.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.analysis.log_ratios import factor
from benchmark.rows.metric_names import EPS_MSE, EPS_MSE_LINEAR, EPS_MSE_MEAN
from benchmark.study.arm_names import BASELINE
from benchmark.study.terms import Gate

Floats = NDArray[np.float64]
_LAST_PART = 0.1
_PREDICTORS = (EPS_MSE, EPS_MSE_LINEAR, EPS_MSE_MEAN)
# Rounding alone must not fail a share that was asked for.
_TINY = 1e-9


@dataclass(frozen=True)
class Competence:
    """B's held-out ε-MSE by noise level, beside the two denoisers that need no network.

    Attributes:
        step: B's newest milestone with a profile.
        total_steps: of its whole training.
        seeds: training seeds behind the means.
        level: (L,) noise times, rising.
        error: (L,) B's ε-MSE, a mean over seeds; > 0.
        linear: (L,) that of the best linear denoiser.
        mean: (L,) that of the mean picture.
        mean_word: what the mean is of, such as "mean picture".
        slope: log of ``oracle_ratio`` at ``step`` minus the same a tenth of the steps earlier; NaN
            with one milestone.
    """

    step: int
    total_steps: int
    seeds: int
    level: Floats
    error: Floats
    linear: Floats
    mean: Floats
    slope: float
    mean_word: str = "mean picture"

    @property
    def oracle_ratio(self) -> float:
        """B's ε-MSE over the linear denoiser's, a geometric mean over the levels."""
        return factor(float(np.log(self.error / self.linear).mean()))

    @property
    def below_oracle(self) -> float:
        """Share of the levels at which B is better than the best linear denoiser."""
        return float((self.error < self.linear).mean())

    @property
    def below_mean(self) -> float:
        """Share of the levels at which B is better than the mean picture."""
        return float((self.error < self.mean).mean())

    @property
    def path(self) -> Floats:
        """(L,) each level's share of the sampler's way, in units of ln σ; of sum 1.

        With σ² = (1 − ᾱ)/ᾱ the mean picture's ε-MSE is the spread of the images over σ², exactly:
        ln σ is −½ of its logarithm and a constant. A level stands for half the way to each of its
        neighbours.
        """
        log_sigma = -0.5 * np.log(self.mean)
        edges = np.concatenate(
            [log_sigma[:1], (log_sigma[1:] + log_sigma[:-1]) / 2, log_sigma[-1:]]
        )
        lengths = np.abs(np.diff(edges))
        whole = lengths.sum()
        return lengths / whole if whole > 0 else np.full(len(lengths), 1 / len(lengths))

    @property
    def below_oracle_on_path(self) -> float:
        """As ``below_oracle``, each level weighted by its share of the sampler's way."""
        return float(self.path[self.error < self.linear].sum())

    @property
    def below_mean_on_path(self) -> float:
        """As ``below_mean``, each level weighted by its share of the sampler's way."""
        return float(self.path[self.error < self.mean].sum())

    @property
    def gain(self) -> Floats:
        """(L,) share of the possible gain, (L_mean − L) / (L_mean − L_linear); NaN without any.

        0: no better than the mean picture; 1: as good as the best linear denoiser.
        """
        possible = self.mean - self.linear
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (self.mean - self.error) / possible
        return np.where(possible > 0, share, np.nan)

    def passed(self, gate: Gate) -> bool:
        """Whether B has learned enough for verdicts."""
        return self.oracle_ratio <= gate.oracle_ratio and self.below_mean >= gate.below_mean - _TINY


def competence(frame: pd.DataFrame) -> Competence | None:
    """How far B has come at its newest milestone; None without its profile.

    Args:
        frame: the frame of a study's rows.
    """
    profile = _profile(frame)
    if profile.empty:
        return None
    step = int(profile["step"].max())
    last = profile[profile["step"] == step]
    by_level = last.groupby("level")[list(_PREDICTORS)].mean()
    error, linear, mean = by_level.to_numpy(dtype=np.float64).T
    return Competence(
        step=step,
        total_steps=int(last["total_steps"].max()),
        seeds=int(last["seed"].nunique()),
        level=by_level.index.to_numpy(dtype=np.float64),
        error=error,
        linear=linear,
        mean=mean,
        slope=_slope(profile, step),
        # Of what is no image no number of images is kept.
        mean_word="mean picture" if (profile["n_reference"] > 0).all() else "mean sample",
    )


def _profile(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per seed, sampling seed, milestone and level of B, a column per predictor.

    The primary average's; raw weights only where there is no average. An error of 0 has no
    logarithm, and rows of other levels than the two other denoisers' have nothing to be held
    against: both are left out.
    """
    own = frame[(frame["arm"] == BASELINE) & frame["metric"].isin(_PREDICTORS)]
    own = own[(own["value"] > 0) & own["full_range"]]
    of_network = own["metric"] == EPS_MSE
    names = sorted(set(own.loc[of_network, "weights"]), key=lambda name: (name == "raw", name))
    own = own[~of_network | (own["weights"] == (names[0] if names else ""))]
    # Some milestones may have been scored again with other numbers of images.
    own = own[own["n_reference"] == own["n_reference"].mode().max()]
    cell = ["seed", "sampling_seed", "step", "total_steps", "level", "n_reference"]
    table = own.pivot_table(index=cell, columns="metric", values="value")
    return table.reindex(columns=list(_PREDICTORS)).dropna().reset_index()


def _slope(profile: pd.DataFrame, step: int) -> float:
    """Change of the log oracle ratio over the last tenth of the steps before ``step``."""
    logs = np.log(profile.groupby(["step", "level"])[[EPS_MSE, EPS_MSE_LINEAR]].mean())
    curve = (logs[EPS_MSE] - logs[EPS_MSE_LINEAR]).groupby("step").mean()
    begun = (1 - _LAST_PART) * step
    if begun < curve.index.min():
        return math.nan
    return float(curve.loc[step] - np.interp(begun, curve.index, curve))
