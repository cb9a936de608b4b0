"""Noise schedules: what two networks must share to denoise one image in turns."""

from dataclasses import dataclass
from typing import Any


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
