"""What a network's answer means: the one place where it becomes ε̂, and a learned variance.

A parameterization holds no weights: state dicts, masks, penalties and averages are those of the
bare network.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.errors import UserError
from mindiffusion.process import Forward, Level, Prediction, as_factor, from_x0, given
from mindiffusion.spacing import Spacing


class Parameterization(nn.Module, ABC):
    """Reads a network's answer; what it knows of the data moves with it and is never saved."""

    @abstractmethod
    def read(self, network: Forward, x_t: Tensor, level: Level) -> Prediction:
        """What a network says of noisy images x_t (B, C, H, W), in their dtype.

        Raises:
            UserError: as for ``answer_to``.
        """


class EpsPrediction(Parameterization):
    """The network's answer is ε̂ (Ho et al. 2020, 2006.11239)."""

    def read(self, network: Forward, x_t: Tensor, level: Level) -> Prediction:
        """The answer itself."""
        eps, share = answer_to(network, x_t, level)
        return Prediction(x_t, level, eps, variance_share=share)


class X0Prediction(Parameterization):
    """The network's answer is x̂₀, the clean image; ε̂ follows from it."""

    def read(self, network: Forward, x_t: Tensor, level: Level) -> Prediction:
        """ε̂ = (x_t − alpha·x̂₀)/sigma."""
        x0, share = answer_to(network, x_t, level)
        return replace(from_x0(x_t, level, x0), variance_share=share)


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

    def read(self, network: Forward, x_t: Tensor, level: Level) -> Prediction:
        """The answer between the input's and its own factors."""
        spread = (level.sigma**2 + level.alpha**2 * self.std**2).sqrt()
        alpha, scale, of_input, of_answer = (
            as_factor(factor, x_t)
            for factor in (
                level.alpha, spread, level.sigma / spread, level.alpha * self.std / spread
            )
        )  # fmt: skip
        z = (x_t - alpha * self.mean.to(x_t.dtype)) / scale
        answer, share = answer_to(network, z, level)
        return Prediction(x_t, level, of_input * z - of_answer * answer, variance_share=share)


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
        return self.parameterization.read(given(network, condition), x_t, level)

    def variance_loss(self, said: Prediction, images: Tensor) -> Tensor | None:
        """None: there is no variance to be learned, but in a chain."""
        return None

    def pure_noise(self, noise: Tensor) -> Tensor:
        """Standard normal noise itself: at t = 1 sigma is 1, or as good as 1."""
        return noise

    def sde_time(self, level: Level) -> float:
        """The noise time."""
        return level.time


def answer_to(network: Forward, x: Tensor, level: Level) -> tuple[Tensor, Tensor | None]:
    """A network's answer to x (B, C, H, W), and where it learns the variance its share of that.

    Of 2C channels the last C say the variance: numbers v, whose share is (v + 1)/2, not limited to
    [0, 1]. In Nichol and Dhariwal 2021 (2102.09672, eq. 15) the answer is itself the share; the map
    from v is that of their public code.

    Returns:
        (B, C, H, W) in the dtype of x, and (B, C, H, W) or None.

    Raises:
        UserError: neither C nor 2C channels.
    """
    # Under autocast the answer may come in fewer bits; what follows is cheap and exact.
    answer, channels = network(x, network_times(level, x)).to(x.dtype), x.shape[1]
    if answer.shape[1] == channels:
        return answer, None
    if answer.shape[1] != 2 * channels:
        raise UserError(
            f"a network answered images of {channels} channels with {answer.shape[1]}; build one "
            f"with {channels}, or {2 * channels} if it is to learn the variance."
        )
    first, variance = answer.chunk(2, dim=1)
    return first, (variance + 1.0) / 2.0


def network_times(level: Level, x_t: Tensor) -> Tensor:
    """What the network is given with images x_t (B, C, H, W): (B,), in their dtype."""
    if level.told.numel() == 1 and level.told.device.type == "cpu":
        # Filled there, not copied over: no step of a sampler waits for a GPU.
        return torch.full((len(x_t),), float(level.told), dtype=x_t.dtype, device=x_t.device)
    return level.told.to(x_t)
