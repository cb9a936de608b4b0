"""What a network's answer means: the one place where a network becomes an ε-predictor.

Loss, samplers, profiles and stitching know ε-predictors alone. A parameterization holds no weights:
state dicts, masks, penalties and averages are those of the bare network.
"""

import functools
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.stitching import EpsModel


class Parameterization(nn.Module, ABC):
    """Turns a network into an ε-predictor; tables move with the process and are never saved."""

    @abstractmethod
    def predictor(self, network: EpsModel) -> EpsModel:
        """The network as ``predictor(x_t, t / n_T) → ε̂``.

        Args:
            network: called with images (B, C, H, W) and t / n_T (B,) in (0, 1].
        """


class EpsPrediction(Parameterization):
    """The network's answer is ε̂ (Ho et al. 2020, 2006.11239)."""

    def predictor(self, network: EpsModel) -> EpsModel:
        """The network itself."""
        return network


class Preconditioned(Parameterization):
    """The network corrects the best denoiser that is linear and knows no directions.

    Source: Karras et al. 2022, "Elucidating the Design Space", 2206.00364, table 1, around the mean
    picture. With σ = √(1−ᾱ)/√ᾱ, y = x_t/√ᾱ − μ and r² = σ² + σ_d²,

        x̂₀ = μ + c_skip·y + c_out·F(c_in·y, t),  c_skip = σ_d²/r², c_out = σ·σ_d/r, c_in = 1/r,

    so ε̂ = (x_t − √ᾱ·x̂₀)/√(1−ᾱ) = (σ/r²)·y − (σ_d/r)·F. With z = c_in·y this is

        z = (x_t − √ᾱ·μ)/s,  ε̂ = (√(1−ᾱ)/s)·z − (√ᾱ·σ_d/s)·F(z, t),  s² = 1 − ᾱ + ᾱ·σ_d²,

    where nothing is divided by √ᾱ and the squares of both factors add up to 1: at high noise an
    error of F is damped, not magnified, and F = 0 gives the linear denoiser of N(μ, σ_d²).

    Args:
        alpha_bar: ᾱ_0 … ᾱ_{n_T}, (n_T + 1,) float64.
        statistics: μ and σ_d > 0 of the training images.
    """

    def __init__(self, alpha_bar: Tensor, statistics: ImageStatistics) -> None:
        super().__init__()
        signal = alpha_bar.sqrt()
        spread = (1.0 - alpha_bar + alpha_bar * statistics.std**2).sqrt()
        mean = torch.from_numpy(statistics.mean).permute(2, 0, 1)[None]
        tables = {
            "mean": mean.contiguous(memory_format=torch.channels_last),
            "signal": signal,
            "spread": spread,
            "of_input": (1.0 - alpha_bar).sqrt() / spread,
            "of_answer": signal * statistics.std / spread,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)
        self.mean: Tensor
        self.signal: Tensor
        self.spread: Tensor
        self.of_input: Tensor
        self.of_answer: Tensor

    def predictor(self, network: EpsModel) -> EpsModel:
        """The network between its input's and its answer's factors, in the dtype of x_t."""
        return functools.partial(self._predict, network)

    def _predict(self, network: EpsModel, x_t: Tensor, time: Tensor) -> Tensor:
        level = torch.round(time * (len(self.signal) - 1)).to(torch.int64)
        signal, spread, of_input, of_answer = (
            table[level].to(x_t.dtype).view(-1, 1, 1, 1)
            for table in (self.signal, self.spread, self.of_input, self.of_answer)
        )
        z = (x_t - signal * self.mean.to(x_t.dtype)) / spread
        # Under autocast the answer may come in fewer bits; what follows is cheap and exact.
        return of_input * z - of_answer * network(z, time).to(x_t.dtype)
