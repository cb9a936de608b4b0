"""How noise is added and how a network's output is read: what every process offers.

Everything that is trained, drawn or measured uses one type, a ``Level``, and one clock: the noise
time t in (0, 1] is the share of plain training's draws that have no more noise. Densities, logs,
rows, τ and exposure count in t, whatever the process.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from mindiffusion.classes import NOT_TOLD
from mindiffusion.errors import UserError
from mindiffusion.spacing import RHO, Spacing

Forward = Callable[..., Tensor]
"""A network's forward: (B, C, H, W) and what it is told of the noise (B,) → (B, C, H, W), or, if it
learns the variance too, (B, 2C, H, W). A network that knows of conditions also takes ``condition``.
How images were augmented is bound before a process sees it (``augment.told_changes``)."""
# Noise times are quotients of whole numbers; two of the same level may differ by their rounding.
_SAME_TIME = 1e-9
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, eq=False)
class Level:
    """Noise levels, one per image or one for all images: x_t = alpha·x + sigma·ε.

    All are float64 of shape (B,), or (1,) where one level is for all images.

    Attributes:
        t: noise time in (0, 1]; 0 is the lower end of a process, which is clean or nearly so.
        alpha: factor of the image, above 0: also at t = 1 an image is left to be found.
        sigma: factor of the noise; 0 only at t = 0.
        told: what the network is given.
        weight: factor on the ε-error in the loss; 1 except with P2, Min-SNR, EDM and the like.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    told: Tensor
    weight: Tensor

    @property
    def time(self) -> float:
        """The noise time of a level of shape (1,); waits for the device if it lies on a GPU."""
        return float(self.t)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of noisy images: x_t = alpha·x̂₀ + sigma·ε̂. All (B, C, H, W).

    Attributes:
        x_t: the noisy images.
        level: their levels.
        eps: ε̂, the noise in them.
        known_x0: x̂₀ where it was said first; None: it follows from ε̂.
        variance_share: where the log of the variance of a chain's next step lies: 0 is the limit
            log β̃, 1 the limit log β, and it may lie outside them. None: the network has learned
            none (``mindiffusion.learned_variance``).
    """

    x_t: Tensor
    level: Level
    eps: Tensor
    known_x0: Tensor | None = None
    variance_share: Tensor | None = None

    @property
    def x0(self) -> Tensor:
        """x̂₀ = (x_t − sigma·ε̂)/alpha, the clean images; computed only when it is read."""
        if self.known_x0 is not None:
            return self.known_x0
        alpha, sigma = factors(self.level, self.x_t)
        return (self.x_t - sigma * self.eps) / alpha


Denoiser = Callable[..., Prediction]
"""(B, C, H, W) noisy images and their levels → what is said of them. A denoiser that knows of
conditions also takes ``condition``, what the images show."""


def given(ask: Callable[..., _Answer], condition: Tensor | None) -> Callable[..., _Answer]:
    """A network or a denoiser with a condition, one entry for each image; None: as it is.

    So a function that knows of no conditions can be asked where there are none.
    """
    return ask if condition is None else functools.partial(ask, condition=condition)


@dataclass(frozen=True, eq=False)
class Jump:
    """One step of a sampler.

    Attributes:
        level: where it starts, one level for all images.
        following: where it ends; less noise.
        key: identifies the noise that the step adds; unique within a sampler.
    """

    level: Level
    following: Level
    key: int


def clean_level() -> Level:
    """No noise: where a sampler ends."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return Level(zero, one, zero, zero, one)


class Process(Protocol):
    """How noise is added and how an output is read. It holds no network and no density.

    ``grid``, ``fine_grid`` and the jumps lie on the CPU, whatever the device.
    """

    @property
    def num_levels(self) -> int | None:
        """Number of noise levels; None: they are continuous."""

    @property
    def spacing(self) -> Spacing | None:
        """How a sampler's levels are spaced here if its config does not say it.

        None: as is usual for the sampler.
        """

    @property
    def device(self) -> torch.device:
        """Where its tables lie; levels of times there are made without waiting for it."""

    def to(self, device: torch.device) -> Self:
        """The process itself, with its tables on a device."""

    def level(self, t: Tensor) -> Level:
        """The levels of noise times t (B,) in (0, 1]; counted levels are the nearest to t.

        σ = sigma/alpha rises with t and is finite. The loss is plain where weights are 1.

        Raises:
            UserError: a time outside; looked at on a CPU only, for a GPU would be waited for.
        """

    def predict(
        self, network: Forward, x_t: Tensor, level: Level, condition: Tensor | None = None
    ) -> Prediction:
        """Read a network's answer to noisy images (B, C, H, W)."""

    def variance_loss(self, said: Prediction, images: Tensor) -> Tensor | None:
        """What is added to the ε-error of each image so that the variance is learned, (B,).

        Args:
            said: of these images with noise.
            images: (B, C, H, W), the clean ones.

        Returns:
            None where nothing is learned: the network says no variance, or the process has none.
        """

    def grid(self, count: int) -> tuple[Level, ...]:
        """``count`` levels at the middles of equal shares of plain training's draws, rising.

        Raises:
            UserError: ``count`` < 1, or more than there are levels.
        """

    def fine_grid(self) -> Level:
        """A grid that is fine enough for sums over all noise levels, at t = 0, 1/N, 2/N … 1.

        The first level is the lower end (t = 0), where no network is asked.
        """

    def level_at(self, sigma: float) -> Level:
        """The level whose sigma/alpha is ``sigma`` > 0, of shape (1,).

        Of counted levels it is the nearest one in ln σ. A process may have more noise than at
        t = 1; if it has not, more than that is t = 1.
        """

    def pure_noise(self, noise: Tensor) -> Tensor:
        """Where a sampler starts, at t = 1: standard normal noise (B, C, H, W), times sigma."""

    def jumps(self, count: int, spacing: Spacing = "ddim", rho: float = RHO) -> tuple[Jump, ...]:
        """The ``count`` steps of a sampler from pure noise (t = 1) to the clean image (sigma = 0).

        Args:
            count: number of levels at which it asks; of counted levels each is another one.
            spacing: how they are spaced, as far as counted levels allow it.
            rho: ρ of "rho", ≥ 1.

        Raises:
            UserError: ``count`` < 1, or more than there are levels.
        """

    def rates(self, level: Level) -> tuple[float, float]:
        """F and g² of dx = f·x ds + g dw at a level of shape (1,), t > 0.

        Both are per unit of ``sde_time``, s. f = d ln alpha/ds; g² = d(sigma²)/ds − 2·f·sigma².
        """

    def sde_time(self, level: Level) -> float:
        """The time of its SDE at a level of shape (1,), t > 0; rises with t."""

    def chain_jumps(self) -> tuple[Jump, ...]:
        """The steps of a sampler through every level.

        Raises:
            UserError: levels are continuous.
        """


@dataclass(frozen=True)
class Model:
    """A network and how it is read: a ``Denoiser``."""

    network: nn.Module
    process: Process

    def __call__(self, x_t: Tensor, level: Level, condition: Tensor | None = None) -> Prediction:
        """What the network says of noisy images (B, C, H, W)."""
        return self.process.predict(self.network, x_t, level, condition)


def factors(level: Level, like: Tensor) -> tuple[float | Tensor, float | Tensor]:
    """Alpha and sigma as factors of images ``like`` (B, C, H, W): numbers, or (B, 1, 1, 1)."""
    return as_factor(level.alpha, like), as_factor(level.sigma, like)


def as_factor(values: Tensor, like: Tensor) -> float | Tensor:
    """Values (B,) or (1,) as a factor of images ``like`` (B, C, H, W), in their dtype.

    One value on the CPU becomes a number: nothing is copied to a GPU, which would wait for it.
    """
    if values.numel() == 1 and values.device.type == "cpu":
        return float(values)
    return values.to(like).view(-1, 1, 1, 1)


def add_noise(x: Tensor, level: Level, noise: Tensor) -> Tensor:
    """x_t = alpha·x + sigma·ε, (B, C, H, W): Ho et al. 2020, eq. 4, for any process."""
    alpha, sigma = factors(level, x)
    return alpha * x + sigma * noise


def from_x0(x_t: Tensor, level: Level, x0: Tensor) -> Prediction:
    """x̂₀ with ε̂ = (x_t − alpha·x̂₀)/sigma."""
    alpha, sigma = factors(level, x_t)
    return Prediction(x_t, level, (x_t - alpha * x0) / sigma, x0)


def eps_error(prediction: Prediction, noise: Tensor) -> Tensor:
    """Mean squared ε-error of each image, (B,), in the noise's dtype."""
    return (prediction.eps.to(noise.dtype) - noise).square().flatten(1).mean(1)


def training_losses(
    errors: Tensor, level: Level, of_variance: Tensor | None, often: Tensor | None = None
) -> Tensor:
    """What is trained of each image: its ε-error by the level's weight, and the variance's part.

    The level's weight is on the ε-error alone. The variance's part has the factor 1.

    Args:
        errors: of ``eps_error``, (B,).
        level: of the images.
        of_variance: of ``Process.variance_loss``, (B,); None: no variance is learned.
        often: > 0, how many times as often as plain training a density draws the levels, (B,):
            both parts are divided by it, so that their mean is plain training's. None: they are
            not.

    Returns:
        (B,), in the dtype of the errors.
    """
    weight = level.weight if often is None else level.weight / often.to(level.weight.dtype)
    losses = errors * weight.to(errors.dtype)
    if of_variance is None:
        return losses
    return losses + (of_variance if often is None else of_variance / often.to(losses))


def clipped(denoise: Denoiser) -> Denoiser:
    """A denoiser whose x̂₀ stays in [-1, 1], the range of images, and whose ε̂ agrees with it.

    A learned variance stays as it was said.
    """

    def denoise_clipped(x_t: Tensor, level: Level, condition: Tensor | None = None) -> Prediction:
        said = given(denoise, condition)(x_t, level)
        in_range = from_x0(x_t, level, said.x0.clamp(-1.0, 1.0))
        return replace(in_range, variance_share=said.variance_share)

    return denoise_clipped


def guided(denoise: Denoiser, scale: float, interval: tuple[float, float] = (0.0, 1.0)) -> Denoiser:
    """A denoiser with classifier-free guidance: ε̂ = ε̂_u + scale·(ε̂_c − ε̂_u), in all channels.

    ε̂_c is told the classes, ε̂_u is told none (``NOT_TOLD``). Scale 1 is the network that is told
    the classes, scale 0 the one that is not, to the bit: each is one call. Ho and Salimans 2022
    (2207.12598, eq. 6) write w for scale − 1. Outside the interval the scale is 1 (Kynkäänniemi et
    al. 2024, 2404.07724). A learned variance is not mixed: it is the one with the classes, as DiT
    has it, and at scale 0 the one without.

    Args:
        denoise: of a network that knows classes.
        scale: strength, ≥ 0.
        interval: lowest and highest noise time t at which it guides; both ends belong to it.
    """
    low, high = interval[0] - _SAME_TIME, interval[1] + _SAME_TIME

    def denoise_guided(x_t: Tensor, level: Level, condition: Tensor | None = None) -> Prediction:
        if condition is None:
            raise UserError(
                "guidance compares what a network says with and without a class, but it was given "
                "no classes; draw with guidance 1, or from a network that knows classes."
            )
        is_inside = (level.t >= low) & (level.t <= high)
        if level.t.numel() > 1:
            scales = torch.where(is_inside, scale, 1.0).to(x_t).view(-1, 1, 1, 1)
            return _guided_by(denoise, x_t, level, condition, scales)
        here = scale if bool(is_inside) else 1.0
        if here == 1.0:
            return denoise(x_t, level, condition=condition)
        if here == 0.0:
            return denoise(x_t, level, condition=torch.full_like(condition, NOT_TOLD))
        return _guided_by(denoise, x_t, level, condition, here)

    return denoise_guided


def _guided_by(
    denoise: Denoiser, x_t: Tensor, level: Level, condition: Tensor, scale: float | Tensor
) -> Prediction:
    """Two calls, mixed: a scale for all images, or one for each, (B, 1, 1, 1)."""
    told = denoise(x_t, level, condition=condition)
    plain = denoise(x_t, level, condition=torch.full_like(condition, NOT_TOLD))

    def mixed(with_class: Tensor, without: Tensor) -> Tensor:
        between = without + scale * (with_class - without)
        if isinstance(scale, Tensor):
            between = torch.where(scale == 1.0, with_class, between)
            between = torch.where(scale == 0.0, without, between)
        return between

    x0 = None if told.known_x0 is None else mixed(told.x0, plain.x0)
    share = told.variance_share
    if share is not None and plain.variance_share is not None and isinstance(scale, Tensor):
        share = torch.where(scale == 0.0, plain.variance_share, share)
    return Prediction(x_t, level, mixed(told.eps, plain.eps), x0, share)


def stitched(above: Denoiser, below: Denoiser, tau: float) -> Denoiser:
    """Two denoisers as one: ``above`` at noise times t > τ, ``below`` at t ≤ τ.

    Sampling with a trained network above τ and a common one below (or the reverse) shows at which
    levels its quality arises, and lets networks be compared that know only part of the levels.
    Both must be of the same noise levels; who calls this checks it. A learned variance is that of
    the denoiser which is asked; if only one has learned it, images of several levels have none.

    Args:
        above: of the high noise levels.
        below: of the low ones.
        tau: τ in [0, 1]; 0 is ``above`` alone, 1 is ``below`` alone.

    Raises:
        UserError: τ outside [0, 1].
    """
    if not 0 <= tau <= 1:
        raise UserError(f"networks stitched at tau {tau:g}: give a noise time from 0 to 1.")
    last_below = tau + _SAME_TIME

    def denoise_in_turns(x_t: Tensor, level: Level, condition: Tensor | None = None) -> Prediction:
        if level.t.numel() == 1:
            return given(above if level.time > last_below else below, condition)(x_t, level)
        is_above = (level.t > last_below).to(x_t.device).view(-1, 1, 1, 1)
        high, low = (given(part, condition)(x_t, level) for part in (above, below))
        eps = torch.where(is_above, high.eps, low.eps)
        share = None
        if high.variance_share is not None and low.variance_share is not None:
            share = torch.where(is_above, high.variance_share, low.variance_share)
        return Prediction(x_t, level, eps, torch.where(is_above, high.x0, low.x0), share)

    return denoise_in_turns


def times_of(levels: Sequence[Level]) -> tuple[float, ...]:
    """Noise times of levels that are one for all."""
    return tuple(level.time for level in levels)
