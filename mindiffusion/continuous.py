"""What processes of continuous noise levels share: their grids, and the levels of a sampler."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from mindiffusion.errors import UserError
from mindiffusion.parameterization import Parameterization, ParameterizedProcess
from mindiffusion.process import Jump, Level, clean_level
from mindiffusion.spacing import EVEN_IN_TIME, RHO, Spacing

_BINS = 1000


class ContinuousProcess(ParameterizedProcess, ABC):
    """A ``Process`` whose levels are all noise times in (0, 1].

    Args:
        parameterization: how a network's answer is read; None: as ε̂.

    Attributes:
        lowest_time: noise time of the lowest level that a sampler asks for.
    """

    num_levels: ClassVar[None] = None
    lowest_time: float

    def __init__(self, parameterization: Parameterization | None) -> None:
        super().__init__(parameterization)
        # There is no table: this buffer alone tells where the process is.
        self.register_buffer("place", torch.zeros(()), persistent=False)
        self.place: Tensor

    @abstractmethod
    def _at(self, t: Tensor) -> Level:
        """Levels of noise times t (B,) float64 in [0, 1]."""

    @abstractmethod
    def _squares(self, t: Tensor) -> Tensor:
        """(sigma/alpha)² at noise times t (N,) float64 in (0, 1]."""

    @abstractmethod
    def _of_squares(self, squares: Tensor) -> tuple[Level, ...]:
        """The levels whose (sigma/alpha)² is (N,) float64, one by one."""

    @property
    def device(self) -> torch.device:
        """Where it makes levels of times that are there."""
        return self.place.device

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

    def level_at(self, sigma: float) -> Level:
        """The level whose sigma/alpha is ``sigma`` > 0, as far as it has one; of shape (1,)."""
        (level,) = self._of_squares(torch.tensor([sigma], dtype=torch.float64).square())
        return level

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

    def jumps(self, count: int, spacing: Spacing = "ddim", rho: float = RHO) -> tuple[Jump, ...]:
        """From t = 1 through ``count`` levels, the last at ``lowest_time``, to the clean image.

        Raises:
            UserError: ``count`` < 1.
        """
        _check(count, "sampling steps")
        t = torch.linspace(1.0, self.lowest_time, count, dtype=torch.float64)
        levels = self._one_by_one(t)
        if spacing not in EVEN_IN_TIME and count > 1:
            squares = _spaced(self._squares(t[[0, -1]]), count, spacing, rho)
            # The ends stay as they are: rounding must not leave (0, 1].
            levels = (levels[0], *self._of_squares(squares)[1:-1], levels[-1])
        following = (*levels[1:], clean_level())
        return tuple(map(Jump, levels, following, range(count, 0, -1)))

    def chain_jumps(self) -> tuple[Jump, ...]:
        """There is no chain.

        Raises:
            UserError: always.
        """
        raise UserError(
            "this process has continuous levels, so none of its samplers goes through every level; "
            "use sampler.name=ddim or euler."
        )

    def _one_by_one(self, times: Tensor) -> tuple[Level, ...]:
        return tuple(self._at(t) for t in times.double().split(1))


def _spaced(squares: Tensor, count: int, spacing: Spacing, rho: float) -> Tensor:
    """``count`` values of (sigma/alpha)² between two ends (2,), even in what a spacing names."""
    scale = squares ** (0.5 / rho) if spacing == "rho" else squares.log()
    first, last = scale.tolist()
    even = torch.linspace(first, last, count, dtype=torch.float64)
    return even ** (2.0 * rho) if spacing == "rho" else even.exp()


def _check(count: int, what: str) -> None:
    if count < 1:
        raise UserError(f"{count} {what}: give at least 1.")
