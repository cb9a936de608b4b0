"""The VP-SDE of Song et al. 2021 (2011.13456, eq. 11 and 32): noise levels without steps between.

ᾱ(t) = exp(−∫β) in closed form. 1 − ᾱ is −expm1(−∫β): the difference would lose digits at low noise.
"""

import torch
from torch import Tensor

from mindiffusion.chain import LOWEST_TIME, LinearBeta
from mindiffusion.continuous import ContinuousProcess
from mindiffusion.curriculum.loss_weight import LossWeight, check_spread
from mindiffusion.parameterization import Parameterization
from mindiffusion.process import Level

_BINS = 1000


class VPSDEProcess(ContinuousProcess):
    """Continuous noise levels with x_t = √ᾱ(t) x + √(1 − ᾱ(t)) ε: a ``Process``.

    The network is told the noise time t in (0, 1].

    Args:
        schedule: its β.
        parameterization: how a network's answer is read.
        loss_weight: factor on the ε-error by noise level; None: 1 at all.
        std: σ_d of the training images, for loss weights that need it.

    Raises:
        UserError: a loss weight that needs σ_d, without.
    """

    lowest_time = LOWEST_TIME

    def __init__(
        self,
        schedule: LinearBeta,
        parameterization: Parameterization | None = None,
        loss_weight: LossWeight | None = None,
        std: float | None = None,
    ) -> None:
        super().__init__(parameterization)
        self.schedule = schedule
        check_spread(loss_weight, std)
        self._loss_weight = loss_weight
        self._std = std or 1.0
        t = torch.arange(_BINS + 1).double() / _BINS
        self._steepest = float(self._slope(t).max())

    def _slope(self, t: Tensor) -> Tensor:
        """d(1 − ᾱ)/dt = β·ᾱ at times t (B,)."""
        return self.schedule.rate(t) * (-self.schedule.integral(t)).exp()

    def _at(self, t: Tensor) -> Level:
        """Levels of noise times t (B,) in [0, 1]."""
        integral = self.schedule.integral(t)
        alpha, sigma = (-0.5 * integral).exp(), (-torch.expm1(-integral)).sqrt()
        return Level(t, alpha, sigma, t, self._weight(t, integral))

    def _weight(self, t: Tensor, integral: Tensor) -> Tensor:
        if self._loss_weight is None:
            return torch.ones_like(t)
        change = self._slope(t) / self._steepest
        return self._loss_weight.at((-integral).exp(), change, self._std)

    def _squares(self, t: Tensor) -> Tensor:
        """(1 − ᾱ)/ᾱ = exp(∫β) − 1."""
        return self.schedule.integral(t).expm1()

    def _of_squares(self, squares: Tensor) -> tuple[Level, ...]:
        return self._one_by_one(self.schedule.time(squares.log1p()).clamp(max=1.0))

    def rates(self, level: Level) -> tuple[float, float]:
        """−½β(t) and β(t)."""
        beta = float(self.schedule.rate(level.time))
        return -beta / 2, beta

    def extra_repr(self) -> str:
        """Constants of the process."""
        return str(self.schedule)
