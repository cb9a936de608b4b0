"""The VP-SDE of Song et al. 2021 (2011.13456, eq. 11 and 32): noise levels without steps between.

ᾱ(t) = exp(−∫β) in closed form. 1 − ᾱ is −expm1(−∫β): the difference would lose digits at low noise.
"""

import torch
from torch import Tensor

from mindiffusion.chain import LinearBeta
from mindiffusion.curriculum.loss_weight import LossWeight, check_spread
from mindiffusion.errors import UserError
from mindiffusion.parameterization import Parameterization, ParameterizedProcess
from mindiffusion.process import Jump, Level, Spacing, clean_level

LOWEST_TIME = 1e-3
"""The lowest level that a sampler asks for; a network saw only a thousandth of its draws below."""
_BINS = 1000


class VPSDEProcess(ParameterizedProcess):
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

    num_levels = None

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
        # It has no table: this buffer alone tells where it is.
        self.register_buffer("place", torch.zeros(()), persistent=False)
        self.place: Tensor

    @property
    def device(self) -> torch.device:
        """Where it makes levels of times that are there."""
        return self.place.device

    def _slope(self, t: Tensor) -> Tensor:
        """d(1 − ᾱ)/dt = β·ᾱ at times t (B,)."""
        return self.schedule.rate(t) * (-self.schedule.integral(t)).exp()

    def level(self, t: Tensor) -> Level:
        """The levels of noise times t (B,) in (0, 1].

        Raises:
            UserError: a time outside; looked at on a CPU only, for a GPU would be waited for.
        """
        t = t.double()
        if t.device.type == "cpu" and not bool(((t > 0) & (t <= 1)).all()):
            raise UserError(
                f"noise times {float(t.min()):g} to {float(t.max()):g}: allowed is (0, 1]."
            )
        return self._at(t)

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

    def grid(self, count: int) -> tuple[Level, ...]:
        """``count`` levels at the middles of equal shares of (0, 1], rising.

        Raises:
            UserError: ``count`` < 1.
        """
        _check(count, "noise levels")
        return self._one_by_one((torch.arange(count).double() + 0.5) / count)

    def fine_grid(self) -> Level:
        """The levels at t = 0, .001 … 1."""
        return self._at(torch.arange(_BINS + 1).double() / _BINS)

    def jumps(self, count: int, spacing: Spacing = "ddim") -> tuple[Jump, ...]:
        """From t = 1 through ``count`` levels, the last at t = .001, to the clean image.

        Raises:
            UserError: ``count`` < 1.
        """
        _check(count, "sampling steps")
        t = torch.linspace(1.0, LOWEST_TIME, count, dtype=torch.float64)
        if spacing == "log_snr" and count > 1:
            # ln(sigma/alpha) = ½ ln(expm1(∫β))
            first, last = self.schedule.integral(t[[0, -1]]).expm1().log().tolist()
            log_ratio = torch.linspace(first, last, count, dtype=torch.float64)
            # The ends stay as they are: rounding must not leave (0, 1].
            t[1:-1] = self.schedule.time(log_ratio.exp().log1p())[1:-1]
        levels = self._one_by_one(t)
        following = (*levels[1:], clean_level())
        return tuple(map(Jump, levels, following, range(count, 0, -1)))

    def chain_jumps(self) -> tuple[Jump, ...]:
        """There is no chain.

        Raises:
            UserError: always.
        """
        raise UserError(
            "a VP-SDE has continuous levels, so none of its samplers goes through every level; use "
            "sampler.name=ddim or euler."
        )

    def rates(self, level: Level) -> tuple[float, float]:
        """−½β(t) and β(t)."""
        beta = float(self.schedule.rate(level.time))
        return -beta / 2, beta

    def _one_by_one(self, times: Tensor) -> tuple[Level, ...]:
        return tuple(self._at(t) for t in times.double().split(1))

    def extra_repr(self) -> str:
        """Constants of the process."""
        return str(self.schedule)


def _check(count: int, what: str) -> None:
    if count < 1:
        raise UserError(f"{count} {what}: give at least 1.")
