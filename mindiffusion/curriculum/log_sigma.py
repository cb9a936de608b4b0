"""Densities on the clock of ln σ, with σ = √(1 − ᾱ)/√ᾱ of the process: EDM's, and Laplace's.

``clock.py`` turns them into densities of noise time when a run is planned.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy import special

from mindiffusion.curriculum.noise_time import Intervals

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_Mean = Annotated[float, Field(ge=-100, le=100)]
_Spread = Annotated[float, Field(gt=0, ge=1e-3, le=1e3)]


@dataclass(frozen=True, config=_STRICT)
class LogSigmaNormal:
    """ln σ ~ N(mean, std²), with σ = √(1 − ᾱ)/√ᾱ of the process.

    EDM draws noise so, with (−1.2, 1.2) (Karras et al. 2022, 2206.00364, table 1); logit-normal
    times of a rectified flow, σ = t/(1 − t), are the same with (m, s) (Esser et al. 2024,
    2403.03206, section 3.1).

    Attributes:
        mean: of ln σ.
        std: of ln σ, > 0.
    """

    mean: _Mean
    std: _Spread
    kind: Literal["log_sigma_normal"] = "log_sigma_normal"
    clock: ClassVar[str] = "log_sigma"

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        return ((0.0, 1.0),)

    def cdf(self, log_sigma: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the draws with ln σ up to each value."""
        return np.asarray(special.ndtr((log_sigma - self.mean) / self.std))


@dataclass(frozen=True, config=_STRICT)
class LogSigmaLaplace:
    """ln σ ~ Laplace(mean, scale): Hang et al. 2024, "Improved Noise Schedule", 2407.03297.

    There it is log-SNR = −2 ln σ with mean 0 and scale .5, so half of both here.

    Attributes:
        mean: of ln σ.
        scale: of ln σ, > 0: it lies within scale · ln 2 of the mean in half of the draws.
    """

    mean: _Mean
    scale: _Spread
    kind: Literal["log_sigma_laplace"] = "log_sigma_laplace"
    clock: ClassVar[str] = "log_sigma"

    @property
    def intervals(self) -> Intervals:
        """Parts of [0, 1] with mass."""
        return ((0.0, 1.0),)

    def cdf(self, log_sigma: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the draws with ln σ up to each value."""
        off = (log_sigma - self.mean) / self.scale
        tail = 0.5 * np.exp(-np.abs(off))
        return np.asarray(np.where(off < 0, tail, 1.0 - tail))


OnLogSigma = LogSigmaNormal | LogSigmaLaplace
"""All of them."""
