"""Noise schedules: what two networks must share to denoise one image in turns."""

import math
from dataclasses import dataclass
from typing import Any

LOWEST_TIME = 1e-3
"""Of a VP-SDE, noise time of the lowest level that a sampler asks for; a network saw only a
thousandth of its draws below."""


@dataclass(frozen=True)
class Chain:
    """The noise levels of a process. How a network was trained and is read is its own affair.

    Attributes:
        betas: (β₁, β₂) of the linear schedule.
        n_T: number of noise levels.
    """

    betas: tuple[float, float]
    n_T: int

    def __str__(self) -> str:
        return f"betas {self.betas}, n_T {self.n_T}"


@dataclass(frozen=True)
class LinearBeta:
    """The noise of a VP-SDE (Song et al. 2021, 2011.13456, eq. 32): ᾱ(t) = exp(−∫β), t in [0, 1].

    Attributes:
        beta_min: β(0).
        beta_max: β(1).
    """

    beta_min: float
    beta_max: float

    def rate(self, t: Any) -> Any:
        """β at times t in [0, 1]: a number, or an array or a tensor of them."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral(self, t: Any) -> Any:
        """∫β from 0 to times t, likewise."""
        return self.beta_min * t + (self.beta_max - self.beta_min) / 2 * t**2

    def time(self, integral: Any) -> Any:
        """The times t at which ∫β is so large, likewise: the inverse of ``integral``."""
        # This root of the quadratic has no difference of near numbers, and β may be constant.
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * slope * integral) ** 0.5)

    def __str__(self) -> str:
        return f"beta from {self.beta_min} to {self.beta_max}, continuous"


@dataclass(frozen=True)
class LogNormalSigma:
    """The noise of EDM (Karras et al. 2022, 2206.00364, table 1): ln σ ~ N(mean, std²).

    Samplers go from ``sigma_max`` to ``sigma_min``. More noise than ``sigma_max`` is not drawn, so
    the noise time is t = Φ(z)/Φ(z_max) with z = (ln σ − mean)/std, and sigma_max is t = 1.

    Attributes:
        mean: of ln σ.
        std: of ln σ, > 0.
        sigma_min: σ of the lowest level that a sampler asks for.
        sigma_max: the largest σ.
    """

    mean: float
    std: float
    sigma_min: float
    sigma_max: float

    def standard(self, log_sigma: Any) -> Any:
        """Z of ln σ: a number, or an array or a tensor of them."""
        return (log_sigma - self.mean) / self.std

    def log_sigma(self, z: Any) -> Any:
        """Ln σ of z, likewise: the inverse of ``standard``."""
        return self.mean + self.std * z

    @property
    def tails(self) -> tuple[float, float]:
        """Φ(z_max) and 1 − Φ(z_max), which a difference would leave with ten digits."""
        z = self.standard(math.log(self.sigma_max)) / math.sqrt(2.0)
        return 0.5 * math.erfc(-z), 0.5 * math.erfc(z)

    def shares(self, t: Any) -> tuple[Any, Any]:
        """Φ(z) and 1 − Φ(z) at noise times t in [0, 1], likewise; use the one that is small.

        z = Φ⁻¹(Φ(z)) would be exact to 1e-10 only near sigma_max, where Φ is 1 − 2e-6.
        """
        below, above = self.tails
        return t * below, (1 - t) + t * above

    @property
    def lowest_time(self) -> float:
        """Noise time of ``sigma_min``."""
        z = self.standard(math.log(self.sigma_min)) / math.sqrt(2.0)
        return 0.5 * math.erfc(-z) / self.tails[0]

    def __str__(self) -> str:
        return (
            f"ln sigma of mean {self.mean} and spread {self.std}, sigma from {self.sigma_min} to "
            f"{self.sigma_max}, continuous"
        )


@dataclass(frozen=True)
class LinearPath:
    """The noise of x + σ·ε with σ = (1 − s)/s, where s falls from 1 to ``lowest`` with noise time.

    s is the share of the data on the straight path s·x + (1 − s)·ε of flow matching (Lipman et al.
    2023, 2210.02747), of which this is the same noise over a data factor of 1. There time is s and
    runs from noise to data; noise time is t = (1 − s)/(1 − lowest), so t = 1 is the most noise.

    Attributes:
        lowest: s at noise time 1, in (0, 1).
    """

    lowest: float

    def sigma(self, t: Any) -> Any:
        """σ at noise times t in [0, 1]: a number, or an array or a tensor of them."""
        return (1.0 - self.lowest) * t / (1.0 - (1.0 - self.lowest) * t)

    def time(self, sigma: Any) -> Any:
        """The noise times of σ ≥ 0, likewise: the inverse of ``sigma``; above 1 out of range."""
        return sigma / ((1.0 + sigma) * (1.0 - self.lowest))

    def __str__(self) -> str:
        return f"sigma (1 - s)/s with s from 1 to {self.lowest}, continuous"
