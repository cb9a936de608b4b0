"""The process of the two-feature toy: x_t = x + σ·ε with σ = (1 − s)/s, on the noise-time clock.

s is the toy's own time, 1 where a sample is clean. It is turned into noise time once, in
``chain.LinearPath``. The toy draws 50 levels, one of which is clean; here levels are continuous and
none is clean, since at σ = 0 the input is the answer.
"""

import torch
from torch import Tensor

from mindiffusion.chain import LOWEST_TIME, LinearPath
from mindiffusion.continuous import ContinuousProcess
from mindiffusion.parameterization import EpsPrediction, X0Prediction
from mindiffusion.process import Level


class LinearPathProcess(ContinuousProcess):
    """Continuous noise levels x + σ·ε, σ from 0 to (1 − lowest)/lowest: a ``Process``.

    The network is told the noise time t in (0, 1]. The loss is the plain squared error of what it
    answers: of x̂₀ that is σ² times the ε-error, as alpha is 1.

    Args:
        path: its levels.
        answers_x0: whether the network answers the clean image; otherwise the noise.
    """

    lowest_time = LOWEST_TIME

    def __init__(self, path: LinearPath, answers_x0: bool) -> None:
        super().__init__(X0Prediction() if answers_x0 else EpsPrediction())
        self.path = path
        self._answers_x0 = answers_x0

    def _at(self, t: Tensor) -> Level:
        """Levels of noise times t (B,) in [0, 1]."""
        sigma = self.path.sigma(t)
        one = torch.ones_like(t)
        return Level(t, one, sigma, t, sigma.square() if self._answers_x0 else one)

    def _squares(self, t: Tensor) -> Tensor:
        """σ²."""
        return torch.as_tensor(self.path.sigma(t)).square()

    def _of_squares(self, squares: Tensor) -> tuple[Level, ...]:
        return self._one_by_one(self.path.time(squares.sqrt()).clamp(max=1.0))

    def pure_noise(self, noise: Tensor) -> Tensor:
        """Standard normal noise times the largest σ."""
        return float(self.path.sigma(1.0)) * noise

    def rates(self, level: Level) -> tuple[float, float]:
        """0 and d(σ²)/dt = 2σ·dσ/dt, with dσ/dt = (1 − lowest)·(1 + σ)²."""
        sigma = float(level.sigma)
        return 0.0, 2.0 * sigma * (1.0 - self.path.lowest) * (1.0 + sigma) ** 2

    def extra_repr(self) -> str:
        """Constants of the process."""
        return str(self.path)
