"""What a network's answer means: the one place where it becomes ε̂.

A parameterization holds no weights: state dicts, masks, penalties and averages are those of the
bare network.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.process import Forward, Level, Prediction, as_factor, given
from mindiffusion.spacing import Spacing


class Parameterization(nn.Module, ABC):
    """Reads a network's answer; what it knows of the data moves with it and is never saved."""

    @abstractmethod
    def eps(self, network: Forward, x_t: Tensor, level: Level) -> Tensor:
        """ε̂ (B, C, H, W) of noisy images x_t (B, C, H, W), in their dtype."""


class EpsPrediction(Parameterization):
    """The network's answer is ε̂ (Ho et al. 2020, 2006.11239)."""

    def eps(self, network: Forward, x_t: Tensor, level: Level) -> Tensor:
        """The answer itself."""
        return network(x_t, network_times(level, x_t)).to(x_t.dtype)


class Preconditioned(Parameterization):
    """The network corrects the best denoiser that is linear and knows no directions.

    Source: Karras et al. 2022, "Elucidating the Design Space", 2206.00364, table 1, around the mean
    picture. With σ = sigma/alpha, y = x_t/alpha − μ and r² = σ² + σ_d²,

        x̂₀ = μ + c_skip·y + c_out·F(c_in·y, t),  c_skip = σ_d²/r², c_out = σ·σ_d/r, c_in = 1/r,

    so ε̂ = (x_t − alpha·x̂₀)/sigma = (σ/r²)·y − (σ_d/r)·F. With z = c_in·y this is

        z = (x_t − alpha·μ)/s,  ε̂ = (sigma/s)·z − (alpha·σ_d/s)·F(z, t),  s² = sigma² + alpha²·σ_d²,

    where nothing is divided by alpha and the squares of both factors add up to 1: at high noise an
    error of F is damped, not magnified, and F = 0 gives the linear denoiser of N(μ, σ_d²).

    Args:
        statistics: μ and σ_d > 0 of the training images.
    """

    def __init__(self, statistics: ImageStatistics) -> None:
        super().__init__()
        mean = torch.from_numpy(statistics.mean).permute(2, 0, 1)[None]
        mean = mean.contiguous(memory_format=torch.channels_last)
        self.register_buffer("mean", mean, persistent=False)
        self.mean: Tensor
        self.std = statistics.std

    def eps(self, network: Forward, x_t: Tensor, level: Level) -> Tensor:
        """The answer between the input's and its own factors."""
        spread = (level.sigma**2 + level.alpha**2 * self.std**2).sqrt()
        alpha, scale, of_input, of_answer = (
            as_factor(factor, x_t)
            for factor in (
                level.alpha, spread, level.sigma / spread, level.alpha * self.std / spread
            )
        )  # fmt: skip
        z = (x_t - alpha * self.mean.to(x_t.dtype)) / scale
        # Under autocast the answer may come in fewer bits; what follows is cheap and exact.
        return of_input * z - of_answer * network(z, network_times(level, x_t)).to(x_t.dtype)


class ParameterizedProcess(nn.Module):
    """What processes share whose networks' answers a parameterization reads.

    Args:
        parameterization: how; None: as ε̂.
    """

    spacing: ClassVar[Spacing | None] = None

    def __init__(self, parameterization: Parameterization | None) -> None:
        super().__init__()
        self.parameterization = parameterization or EpsPrediction()

    def predict(
        self, network: Forward, x_t: Tensor, level: Level, condition: Tensor | None = None
    ) -> Prediction:
        """Read a network's answer to noisy images (B, C, H, W), in their dtype."""
        return Prediction(
            x_t, level, self.parameterization.eps(given(network, condition), x_t, level)
        )

    def pure_noise(self, noise: Tensor) -> Tensor:
        """Standard normal noise itself: at t = 1 sigma is 1, or as good as 1."""
        return noise

    def sde_time(self, level: Level) -> float:
        """The noise time."""
        return level.time


def network_times(level: Level, x_t: Tensor) -> Tensor:
    """What the network is given with images x_t (B, C, H, W): (B,), in their dtype."""
    if level.told.numel() == 1 and level.told.device.type == "cpu":
        # Filled there, not copied over: no step of a sampler waits for a GPU.
        return torch.full((len(x_t),), float(level.told), dtype=x_t.dtype, device=x_t.device)
    return level.told.to(x_t)
