"""DDPM: the ε-prediction loss and ancestral sampling of Ho et al. (2006.11239).

The network is called as ``eps_model(x_t, t / n_T)`` with t an integer in 1 … n_T; what it says
becomes ε̂ by the process's parameterization. Sampling uses σ_t² = β_t, as minDiffusion does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mindiffusion.chain import Chain
from mindiffusion.noise import Stream, normals
from mindiffusion.parameterization import EpsPrediction, Parameterization
from mindiffusion.schedules import linear_tables
from mindiffusion.stitching import EpsModel, network_at


@dataclass(frozen=True)
class NoisyBatch:
    """What the forward process made of a batch.

    Attributes:
        x_t: (B, C, H, W), noisy images.
        level: (B,) int64 in 1 … n_T.
        time: (B,) float, level / n_T, the network's input.
    """

    x_t: Tensor
    level: Tensor
    time: Tensor


class DDPM(nn.Module):
    """A noise-predicting network with its forward and reverse process.

    Args:
        eps_model: the bare network, ``eps_model(x, t)`` with t (B,) in (0, 1]; callers that want
            ε̂ ask ``predictor``.
        betas: (β₁, β₂) of the linear schedule.
        n_T: number of noise levels.
        parameterization: how the network's answer is read; None: as ε̂.
    """

    def __init__(
        self,
        eps_model: nn.Module,
        betas: tuple[float, float],
        n_T: int,
        parameterization: Parameterization | None = None,
    ) -> None:
        super().__init__()
        self.eps_model = eps_model
        self.parameterization = parameterization or EpsPrediction()
        self.betas = betas
        self.n_T = n_T
        tables = linear_tables(betas[0], betas[1], n_T)
        # Tables follow from the config: moved with the module, never saved.
        self.register_buffer("beta", tables.beta, persistent=False)
        self.register_buffer("alpha_bar", tables.alpha_bar, persistent=False)
        self.beta: Tensor
        self.alpha_bar: Tensor

    @property
    def predictor(self) -> EpsModel:
        """The ε-predictor ``predictor(x_t, t / n_T) → ε̂`` (B, C, H, W): the network as it is read.

        With t / n_T (B,) in (0, 1].
        """
        return self.parameterization.predictor(self.eps_model)

    @property
    def chain(self) -> Chain:
        """Its noise levels."""
        return Chain(self.betas, self.n_T)

    def noise_times(self, u: Tensor) -> Tensor:
        """Noise times in (0, 1] of uniforms u (B,): t = 1 + ⌊u·n_T⌋, over n_T."""
        return (1.0 + torch.floor(u.double() * self.n_T)) / self.n_T

    def add_noise(self, x: Tensor, time: Tensor, noise: Tensor) -> NoisyBatch:
        """x_t = √ᾱ_t x + √(1 − ᾱ_t) ε, at the level nearest to ``time``.

        Args:
            x: (B, C, H, W) in [-1, 1].
            time: (B,) in (0, 1].
            noise: (B, C, H, W), standard normal.
        """
        level = torch.round(time * self.n_T).to(torch.int64)
        alpha_bar = self.alpha_bar[level]
        signal, sigma = (
            root.to(x.dtype).view(-1, 1, 1, 1)
            for root in (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())
        )
        return NoisyBatch(signal * x + sigma * noise, level, level.to(x.dtype) / self.n_T)

    def noisy_batch(self, x: Tensor, u: Tensor, noise: Tensor) -> NoisyBatch:
        """Noisy images at the noise times of uniforms.

        Args:
            x: (B, C, H, W) in [-1, 1].
            u: (B,) uniforms in [0, 1), turned into noise times.
            noise: (B, C, H, W), standard normal.
        """
        return self.add_noise(x, self.noise_times(u), noise)

    def eps_error(self, noisy: NoisyBatch, noise: Tensor) -> Tensor:
        """Mean squared ε-error of each image, (B,), in the noise's dtype."""
        prediction = self.predictor(noisy.x_t, noisy.time)
        return (prediction.to(noise.dtype) - noise).square().flatten(1).mean(1)

    def per_sample_loss(self, x: Tensor, u: Tensor, noise: Tensor) -> Tensor:
        """Mean squared ε-error of each image, (B,); arguments as for ``noisy_batch``."""
        return self.eps_error(self.noisy_batch(x, u, noise), noise)

    def forward(self, x: Tensor, u: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """The training loss, a scalar: mean squared ε-error at random noise times.

        Args:
            x: (B, C, H, W) in [-1, 1].
            u: (B,) uniforms behind t; drawn from torch's generator if not given.
            noise: (B, C, H, W); likewise.
        """
        u = torch.rand(len(x), device=x.device) if u is None else u
        noise = torch.randn_like(x) if noise is None else noise
        return self.per_sample_loss(x, u, noise).mean()

    @torch.no_grad()
    def sample(
        self,
        n_sample: int,
        size: tuple[int, int, int],
        device: torch.device | str,
        *,
        seed: int = 0,
        first_index: int = 0,
        on_step: Callable[[], object] = lambda: None,
    ) -> Tensor:
        """Ancestral sampling through the full chain t = n_T … 1.

        Args:
            n_sample: number of images.
            size: (C, H, W).
            device: where to sample.
            seed: sampling seed.
            first_index: image index of the first sample; image k has noise of its own, keyed by
                (seed, k), so that it is the same in any batch.
            on_step: called before every network call; may raise to leave.

        Returns:
            (n_sample, C, H, W) float32, about [-1, 1], not clipped.
        """
        index = torch.arange(first_index, first_index + n_sample, device=device)
        x = normals(seed, Stream.SAMPLE_START, index, 0, size)
        for t in range(self.n_T, 0, -1):
            on_step()
            noise = normals(seed, Stream.SAMPLE_STEP, index, t, size) if t > 1 else 0.0
            time = torch.full((n_sample,), t / self.n_T, device=device)
            eps = network_at(self.predictor, t)(x, time).float()
            beta, alpha_bar = float(self.beta[t]), float(self.alpha_bar[t])
            mean = (x - beta / (1.0 - alpha_bar) ** 0.5 * eps) / (1.0 - beta) ** 0.5
            x = mean + beta**0.5 * noise
        return x

    def extra_repr(self) -> str:
        """Constants of the process."""
        constants: dict[str, Any] = {"betas": self.betas, "n_T": self.n_T}
        return ", ".join(f"{name}={value}" for name, value in constants.items())
