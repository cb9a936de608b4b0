"""Losses and samplers written plainly, one class for each process.

Formulas are those of the papers (docs/methods.md). Arguments have one meaning in all of them:
``network`` is called as ``network(x, told)``, ``x`` are images (B, C, H, W) in [-1, 1], ``shape``
is that of the images to draw, ``calls`` is the number of network calls.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from benchmark.speed.rivals.reference_loop import plain_ddim
from mindiffusion.chain import Chain, LinearBeta, LogNormalSigma
from mindiffusion.config.process import DDPMConfig, EDMConfig, ProcessConfig, VPSDEConfig
from mindiffusion.errors import UserError
from mindiffusion.process import Forward
from mindiffusion.schedules import linear_tables

_SIGMA_DATA, _RHO = 0.5, 7.0
"""Of EDM's paper."""


class PlainProcess(Protocol):
    """What a plain program needs of a process.

    Attributes:
        sampler: how it draws, in words.
    """

    sampler: ClassVar[str]

    def loss(self, network: Forward, x: Tensor) -> Tensor:
        """The mean loss of a batch with fresh noise, a scalar."""

    def sample(
        self, network: Forward, shape: tuple[int, ...], calls: int, device: torch.device
    ) -> Tensor:
        """Images (B, C, H, W)."""


@dataclass(frozen=True)
class PlainVPSDE:
    """The VP-SDE with its noise predicted: Song et al. 2021, eq. 11 and 13."""

    sampler: ClassVar[str] = "Euler's method"
    schedule: LinearBeta

    def loss(self, network: Forward, x: Tensor) -> Tensor:
        """Mean squared error of the noise."""
        t, noise = torch.rand(len(x), device=x.device), torch.randn_like(x)
        alpha_bar = (-self.schedule.integral(t)).exp().view(-1, 1, 1, 1)
        x_t = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
        return mse_loss(network(x_t, t), noise)

    @torch.no_grad()
    def sample(
        self, network: Forward, shape: tuple[int, ...], calls: int, device: torch.device
    ) -> Tensor:
        """The probability-flow ODE in even steps of t."""
        x = torch.randn(shape, device=device)
        for t, following in itertools.pairwise(torch.linspace(1.0, 0.0, calls + 1).tolist()):
            beta, integral = self.schedule.rate(t), torch.tensor(self.schedule.integral(t))
            eps = network(x, torch.full((shape[0],), t, device=device))
            x = x + (t - following) * beta / 2 * (x - eps / float((-torch.expm1(-integral)).sqrt()))
        return x


@dataclass(frozen=True)
class PlainEDM:
    """EDM: Karras et al. 2022, table 1, with σ_data .5."""

    sampler: ClassVar[str] = "Euler's method"
    noise: LogNormalSigma

    def _denoised(self, network: Forward, y: Tensor, sigma: Tensor) -> Tensor:
        """The clean images that ``y`` (B, C, H, W) at σ (B,) come from: eq. 7."""
        s = sigma.view(-1, 1, 1, 1)
        total = s**2 + _SIGMA_DATA**2
        answer = network(y / total.sqrt(), sigma.log() / 4)
        return _SIGMA_DATA**2 / total * y + s * _SIGMA_DATA / total.sqrt() * answer

    def loss(self, network: Forward, x: Tensor) -> Tensor:
        """Weighted squared error of the clean image: eq. 8."""
        log_sigma = self.noise.log_sigma(torch.randn(len(x), device=x.device))
        sigma = log_sigma.exp()
        s = sigma.view(-1, 1, 1, 1)
        weight = (s**2 + _SIGMA_DATA**2) / (s * _SIGMA_DATA) ** 2
        y = x + s * torch.randn_like(x)
        return (weight * (self._denoised(network, y, sigma) - x) ** 2).mean()

    @torch.no_grad()
    def sample(
        self, network: Forward, shape: tuple[int, ...], calls: int, device: torch.device
    ) -> Tensor:
        """The probability-flow ODE through the paper's levels (eq. 5), to σ = 0."""
        ends = (self.noise.sigma_max ** (1 / _RHO), self.noise.sigma_min ** (1 / _RHO))
        sigmas = [*(torch.linspace(*ends, calls) ** _RHO).tolist(), 0.0]
        x = sigmas[0] * torch.randn(shape, device=device)
        for sigma, following in itertools.pairwise(sigmas):
            clean = self._denoised(network, x, torch.full((shape[0],), sigma, device=device))
            x = x + (following - sigma) * (x - clean) / sigma
        return x


@dataclass(frozen=True)
class PlainDDPM:
    """DDPM's chain with its noise predicted: Ho et al. 2020, algorithm 1."""

    sampler: ClassVar[str] = "stochastic DDIM"
    chain: Chain

    def loss(self, network: Forward, x: Tensor) -> Tensor:
        """Mean squared error of the noise."""
        n_T = self.chain.n_T
        level, noise = torch.randint(1, n_T + 1, (len(x),), device=x.device), torch.randn_like(x)
        alpha_bar = _alpha_bar(self.chain, x.device)[level].view(-1, 1, 1, 1)
        x_t = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
        return mse_loss(network(x_t, level / n_T), noise)

    def sample(
        self, network: Forward, shape: tuple[int, ...], calls: int, device: torch.device
    ) -> Tensor:
        """DDIM with its noise, through even steps of the chain."""
        levels = [math.ceil(self.chain.n_T * i / calls) for i in range(calls, 0, -1)]
        return plain_ddim(network, _alpha_bar(self.chain, device), shape, levels)


@functools.lru_cache
def _alpha_bar(chain: Chain, device: torch.device) -> Tensor:
    """ᾱ of the levels 0 … n_T, (n_T + 1,)."""
    return linear_tables(*chain.betas, chain.n_T).alpha_bar.float().to(device)


PLAIN_PROCESSES: dict[type[ProcessConfig], Callable[[Any], PlainProcess]] = {
    VPSDEConfig: lambda process: PlainVPSDE(process.noise),
    EDMConfig: lambda process: PlainEDM(process.noise),
    DDPMConfig: lambda process: PlainDDPM(process.noise),
}
"""The plain program of each process, made of its config."""


def plain_process(process: ProcessConfig) -> PlainProcess:
    """The plain program of a process.

    Raises:
        UserError: there is none.
    """
    if type(process) not in PLAIN_PROCESSES:
        raise UserError(
            f"speed has no plain program for the process {process.kind}; leave process.kind out."
        )
    return PLAIN_PROCESSES[type(process)](process)
