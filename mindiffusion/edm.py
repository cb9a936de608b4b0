"""EDM (Karras et al. 2022, 2206.00364, table 1): x_t = x + σ·ε, with ln σ drawn from a normal.

Noise times near 1 are close together: σ = 80 is t = 1, σ = 40 is t = 1 − 2e-5. So levels are made
from the smaller of their two tail areas, and a sampler's levels from σ, not from t.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from mindiffusion.chain import LogNormalSigma
from mindiffusion.continuous import ContinuousProcess
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.parameterization import Preconditioned
from mindiffusion.process import Level
from mindiffusion.spacing import Spacing


class EDMProcess(ContinuousProcess):
    """Continuous noise levels with x_t = x + σ·ε: a ``Process``.

    The noise time of σ is its share of plain training's draws that have no more noise. The network
    is told ln(σ)/4, and corrects the denoiser of N(μ, σ_d²). The loss's weight is 1 on its own
    error F, (σ² + σ_d²)/(σ·σ_d)² on that of x̂₀, so (σ² + σ_d²)/σ_d² on that of ε̂.

    Args:
        noise: how ln σ is distributed, and the range of σ.
        statistics: μ and σ_d > 0; zeros and .5 in the paper.
    """

    spacing: ClassVar[Spacing] = "rho"

    def __init__(self, noise: LogNormalSigma, statistics: ImageStatistics) -> None:
        super().__init__(Preconditioned(statistics))
        self.noise = noise
        self._std = statistics.std
        lowest = torch.tensor(math.log(noise.sigma_min), dtype=torch.float64)
        self.lowest_time = float(self._time(lowest))

    def _at(self, t: Tensor) -> Level:
        """Levels of noise times t (B,) in [0, 1]."""
        return self._level(t, self._log_sigma(t))

    def _level(self, t: Tensor, log_sigma: Tensor) -> Level:
        sigma = log_sigma.exp()
        weight = 1.0 + (sigma / self._std) ** 2
        return Level(t, torch.ones_like(t), sigma, log_sigma / 4.0, weight)

    def _log_sigma(self, t: Tensor) -> Tensor:
        """Ln σ at noise times t (B,); −∞ at 0, where no network is asked."""
        below, above = self.noise.shares(t)
        z = torch.where(t < 0.5, torch.special.ndtri(below), -torch.special.ndtri(above))
        return self.noise.log_sigma(z)

    def _time(self, log_sigma: Tensor) -> Tensor:
        """Noise times of ln σ (B,); of more than sigma_max 1."""
        z = self.noise.standard(log_sigma)
        below, above = self.noise.tails
        low = _normal_cdf(z) / below
        high = 1.0 - (_normal_cdf(-z) - above) / below
        return torch.where(z < 0, low, high).clamp(max=1.0)

    def _squares(self, t: Tensor) -> Tensor:
        """σ²."""
        return (2.0 * self._log_sigma(t)).exp()

    def _of_squares(self, squares: Tensor) -> tuple[Level, ...]:
        """Also above sigma_max, where their noise time is 1."""
        parts = (squares.log() / 2.0).split(1)
        return tuple(self._level(self._time(log_sigma), log_sigma) for log_sigma in parts)

    def pure_noise(self, noise: Tensor) -> Tensor:
        """Standard normal noise times sigma_max."""
        return self.noise.sigma_max * noise

    def rates(self, level: Level) -> tuple[float, float]:
        """0 and 2σ, per unit of σ: eq. 1 of the paper with σ(t) = t."""
        return 0.0, 2.0 * float(level.sigma)

    def sde_time(self, level: Level) -> float:
        """σ."""
        return float(level.sigma)

    def extra_repr(self) -> str:
        """Constants of the process."""
        return str(self.noise)


def _normal_cdf(z: Tensor) -> Tensor:
    """Φ(z) to all digits: torch's own ndtr has seven at z = −6.7."""
    return 0.5 * torch.erfc(-z / math.sqrt(2.0))
