"""DDPM: the chain of noise levels of Ho et al. (2006.11239), its loss and ancestral sampling.

The network is called as ``network(x_t, t)`` with t = k / n_T of an integer level k in 1 … n_T.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mindiffusion.chain import Chain
from mindiffusion.curriculum.loss_weight import LossWeight, check_spread
from mindiffusion.errors import UserError
from mindiffusion.learned_variance import variational_bound, variational_table
from mindiffusion.noise import sample_noise
from mindiffusion.parameterization import Parameterization, ParameterizedProcess
from mindiffusion.process import (
    Jump,
    Level,
    Model,
    Prediction,
    add_noise,
    clean_level,
    eps_error,
    training_losses,
)
from mindiffusion.samplers.ancestral import ancestral_sample
from mindiffusion.schedules import linear_tables
from mindiffusion.spacing import RHO, Spacing


class DDPMProcess(ParameterizedProcess):
    """A chain of n_T noise levels with x_t = √ᾱ_t x + √(1 − ᾱ_t) ε: a ``Process``.

    Only this class uses the integer index of a level.

    Args:
        chain: its noise levels.
        parameterization: how a network's answer is read; None: as ε̂.
        loss_weight: factor on the ε-error by noise level; None: 1 at all.
        std: σ_d of the training images, for loss weights that need it.

    Raises:
        UserError: a loss weight that needs σ_d, without; or betas that make no chain.
    """

    def __init__(
        self,
        chain: Chain,
        parameterization: Parameterization | None = None,
        loss_weight: LossWeight | None = None,
        std: float | None = None,
    ) -> None:
        super().__init__(parameterization)
        self.chain = chain
        self.num_levels = chain.n_T
        check_spread(loss_weight, std)
        alpha_bar = linear_tables(*chain.betas, chain.n_T).alpha_bar
        weights = torch.ones_like(alpha_bar)
        if loss_weight is not None:
            # By NumPy, as ever: the same weights in all bits.
            table = alpha_bar.numpy()
            change = np.diff(1.0 - table, prepend=0.0)
            weights = torch.from_numpy(loss_weight.at(table, change / change[1:].max(), std or 1.0))
        # (n_T + 1, 3): √ᾱ, √(1 − ᾱ) and the loss's weight. The table follows from the config: it
        # moves with the module and is never saved. A sampler's levels are read from the one here.
        self._cpu_table = torch.stack((alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt(), weights), 1)
        self.register_buffer("table", self._cpu_table.clone(), persistent=False)
        self.table: Tensor
        # (n_T, 3) of the levels 1 … n_T.
        self.register_buffer(
            "variational_table", variational_table(alpha_bar[1:]), persistent=False
        )
        self.variational_table: Tensor

    @property
    def device(self) -> torch.device:
        """Where its table lies."""
        return self.table.device

    def level(self, t: Tensor) -> Level:
        """The levels of the chain nearest to noise times t (B,) in (0, 1].

        Raises:
            UserError: a time outside; looked at on a CPU only, for a GPU would be waited for.
        """
        index = self._index(t)
        is_inside = (index >= 1) & (index <= self.num_levels)
        if index.device.type == "cpu" and not bool(is_inside.all()):
            raise UserError(
                f"noise times {float(t.min()):g} to {float(t.max()):g}: levels are t / n_T with "
                f"t from 1 to {self.num_levels}."
            )
        return self._at(index)

    def _index(self, t: Tensor) -> Tensor:
        """Integers of the levels nearest to noise times t (B,)."""
        return torch.round(t.double() * self.num_levels).to(torch.int64)

    def _at(self, index: Tensor) -> Level:
        """Levels of integers in 0 … n_T, (B,) int64."""
        table = self._cpu_table if index.device.type == "cpu" else self.table
        alpha, sigma, weight = table[index].unbind(1)
        t = index.double() / self.num_levels
        return Level(t, alpha, sigma, t, weight)

    def variance_loss(self, said: Prediction, images: Tensor) -> Tensor | None:
        """The variational bound of each image at its level, in bits per value, (B,).

        None if the network says no variance. Source: ``mindiffusion.learned_variance``.
        """
        if said.variance_share is None:
            return None
        index = self._index(said.level.t)
        # One level for all images may lie on the CPU while they do not.
        is_first = (index == 1).to(images.device)
        return variational_bound(said, images, self.variational_table[index - 1], is_first)

    def grid(self, count: int) -> tuple[Level, ...]:
        """``count`` levels at the middles of equal shares of the chain, rising.

        Raises:
            UserError: fewer than ``count`` levels exist, or ``count`` < 1.
        """
        n_T = self.num_levels
        if not 1 <= count <= n_T:
            raise UserError(f"{count} noise levels asked for; allowed is 1 to n_T = {n_T}.")
        # Halves go up.
        return self._one_by_one((n_T * (2 * i + 1) + count) // (2 * count) for i in range(count))

    def fine_grid(self) -> Level:
        """All levels 0 … n_T of the chain."""
        return self._at(torch.arange(self.num_levels + 1))

    def level_at(self, sigma: float) -> Level:
        """The level of the chain whose ln(sigma/alpha) is nearest to ln ``sigma``."""
        (level,) = self._one_by_one(1 + _nearest(self._log_ratio, np.log([sigma])))
        return level

    def jumps(self, count: int, spacing: Spacing = "ddim", rho: float = RHO) -> tuple[Jump, ...]:
        """From n_T to the clean image through ``count`` levels.

        Those of "ddim" are n_T·i/count, rounded half up. The others go from n_T to 1; they are the
        nearest ones, or the nearest that are left.

        Raises:
            UserError: more steps than levels, or none.
        """
        n_T = self.num_levels
        if not 1 <= count <= n_T:
            raise UserError(f"{count} sampling steps: allowed are 1 to n_T = {n_T}.")
        if spacing == "ddim":
            indices = [(2 * n_T * i + count) // (2 * count) for i in range(count, 0, -1)]
        else:
            indices = self._down_to_one(count, self._scale(spacing, rho))
        return self._jumps_through(indices, clean_level())

    @property
    def _log_ratio(self) -> NDArray[np.float64]:
        """ln(sigma/alpha) of the levels 1 … n_T, (n_T,), rising."""
        alpha, sigma, _ = self._cpu_table[1:].numpy().T
        return np.asarray(np.log(sigma / alpha))

    def _scale(self, spacing: Spacing, rho: float) -> NDArray[np.float64]:
        """What a spacing is even in, at the levels 1 … n_T, (n_T,), rising."""
        if spacing == "time":
            return np.arange(1.0, self.num_levels + 1)
        return self._log_ratio if spacing == "log_snr" else np.exp(self._log_ratio / rho)

    def _down_to_one(self, count: int, scale: NDArray[np.float64]) -> list[int]:
        """``count`` falling indices from n_T to 1, even on a scale (n_T,)."""
        wanted = np.linspace(scale[-1], scale[0], count)[::-1]
        indices = [0]
        # From the lowest up: where several want one level, they take those above it.
        for index in (1 + _nearest(scale, wanted)).tolist():
            indices.append(max(index, indices[-1] + 1))
        # Pushed up so, the highest may have left the chain.
        most = range(self.num_levels - count + 1, self.num_levels + 1)
        return [min(index, end) for index, end in zip(indices[1:], most, strict=True)][::-1]

    def rates(self, level: Level) -> tuple[float, float]:
        """−½β and β with β = n_T·β_t: the chain as a VP-SDE (Song et al. 2021, appendix B)."""
        index = round(level.time * self.num_levels)
        before, here = self._cpu_table[index - 1 : index + 1, 0] ** 2
        beta = self.num_levels * (1.0 - float(here / before))
        return -beta / 2, beta

    def chain_jumps(self) -> tuple[Jump, ...]:
        """Through every level, n_T … 1; the last step ends at level 0, which has a little noise."""
        return self._jumps_through(range(self.num_levels, 0, -1), *self._one_by_one([0]))

    def _jumps_through(self, indices: Sequence[int], end: Level) -> tuple[Jump, ...]:
        levels = self._one_by_one(indices)
        following = (*levels[1:], end)
        return tuple(Jump(*each) for each in zip(levels, following, indices, strict=True))

    def _one_by_one(self, indices: Iterable[int]) -> tuple[Level, ...]:
        return tuple(self._at(torch.tensor([index])) for index in indices)

    def extra_repr(self) -> str:
        """Constants of the process."""
        return str(self.chain)


def _nearest(scale: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where rising values (N,) are nearest to each of those wanted (K,); of two the lower."""
    above = np.searchsorted(scale, wanted).clip(1, len(scale) - 1)
    return above - (wanted - scale[above - 1] <= scale[above] - wanted)


class DDPM(nn.Module):
    """A noise-predicting network with its forward and reverse process, as minDiffusion has it.

    Args:
        eps_model: the network, ``eps_model(x, t)`` with t (B,) in (0, 1].
        betas: (β₁, β₂) of the linear schedule.
        n_T: number of noise levels.
        process: one of these levels with a parameterization or a loss weight; None: plain.

    Raises:
        UserError: a process of other levels.
    """

    def __init__(
        self,
        eps_model: nn.Module,
        betas: tuple[float, float],
        n_T: int,
        process: DDPMProcess | None = None,
    ) -> None:
        super().__init__()
        self.eps_model = eps_model
        self.process = process or DDPMProcess(Chain(betas, n_T))
        if self.process.chain != Chain((betas[0], betas[1]), n_T):
            raise UserError(
                f"betas {betas} with n_T {n_T}, and a process of {self.process.chain}: give the "
                "same, or no process."
            )

    def noise_times(self, u: Tensor) -> Tensor:
        """Noise times in (0, 1] of uniforms u (B,): t = 1 + ⌊u·n_T⌋, over n_T."""
        n_T = self.process.num_levels
        return (1.0 + torch.floor(u.double() * n_T)) / n_T

    def per_sample_loss(self, x: Tensor, u: Tensor, noise: Tensor) -> Tensor:
        """Weighted mean squared ε-error of each image, (B,), with what learns a variance, if any.

        Args:
            x: (B, C, H, W) in [-1, 1].
            u: (B,) uniforms in [0, 1), turned into noise times.
            noise: (B, C, H, W), standard normal.
        """
        level = self.process.level(self.noise_times(u))
        model = Model(self.eps_model, self.process)
        said = model(add_noise(x, level, noise), level)
        of_variance = self.process.variance_loss(said, x)
        return training_losses(eps_error(said, noise), level, of_variance)

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
        """Ancestral sampling through the full chain; images are keyed by (seed, index).

        Args:
            n_sample: number of images.
            size: (C, H, W).
            device: where to sample.
            seed: sampling seed.
            first_index: image index of the first sample.
            on_step: called before every network call; may raise to leave.

        Returns:
            (n_sample, C, H, W) float32, about [-1, 1], not clipped.
        """
        index = torch.arange(first_index, first_index + n_sample, device=device)
        start, noise = sample_noise(seed, index, size)
        model = Model(self.eps_model, self.process)
        return ancestral_sample(model, self.process.chain_jumps(), start, noise, on_step)
