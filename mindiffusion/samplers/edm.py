"""EDM's stochastic sampler: Karras et al. 2022, 2206.00364, algorithm 2, in y = x/alpha.

Before a step of Heun's method from σ = sigma/alpha to a smaller one, noise is added up to
σ̂ = (1 + γ)σ. Without noise (γ = 0) it is ``heun_sample``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mindiffusion.process import Denoiser, Jump, Level
from mindiffusion.samplers.heun import heun_step

_MOST_GAMMA = math.sqrt(2.0) - 1.0
"""Of the paper: no step adds more noise than there is."""


@dataclass(frozen=True)
class Churn:
    """How much noise is added, and where.

    Attributes:
        amount: S_churn, over the steps together.
        least: S_min; noise is added from this σ on.
        most: S_max, up to this one.
        scale: S_noise, standard deviation of the noise.
    """

    amount: float
    least: float
    most: float
    scale: float

    def gamma(self, sigma: float, count: int) -> float:
        """γ at σ of one of ``count`` levels: min(S_churn/count, √2 − 1) between S_min and S_max."""
        if not self.least <= sigma <= self.most:
            return 0.0
        return min(self.amount / count, _MOST_GAMMA)


@torch.no_grad()
def edm_sample(
    denoise: Denoiser,
    jumps: Sequence[Jump],
    start: Tensor,
    noise: Callable[[int], Tensor],
    level_at: Callable[[float], Level],
    on_step: Callable[[], object] = lambda: None,
    *,
    churn: Churn,
) -> Tensor:
    """Sample images with 2·len(jumps) − 1 network calls.

    Args:
        denoise: what is asked: where a step starts, once noise is added, and where it would end by
            Euler's method.
        jumps: the way, from pure noise to the clean image.
        start: (B, C, H, W), pure noise.
        noise: key of a jump → the standard normal noise that is added before it, (B, C, H, W).
        level_at: the level of a σ, ``Process.level_at``. What it gives is what noise is added for:
            of counted levels the nearest, which may be the one where the step starts.
        on_step: called before every network call; may raise to leave.
        churn: how much noise is added.

    Returns:
        (B, C, H, W).
    """
    x = start
    for jump in jumps:
        x, level = _raised(x, jump, noise, level_at, churn, len(jumps))
        if jump is not jumps[-1]:
            x = heun_step(denoise, x, level, jump.following, on_step)
    on_step()
    return denoise(x, level).x0


def _raised(
    x: Tensor,
    jump: Jump,
    noise: Callable[[int], Tensor],
    level_at: Callable[[float], Level],
    churn: Churn,
    count: int,
) -> tuple[Tensor, Level]:
    """Images of a jump's level with more noise, and the level that they have then."""
    alpha, sigma = float(jump.level.alpha), _ratio(jump.level)
    gamma = churn.gamma(sigma, count)
    if not gamma:
        return x, jump.level
    level = level_at((1.0 + gamma) * sigma)
    added = _ratio(level) ** 2 - sigma**2
    if added <= 0.0:
        return x, jump.level
    spread = churn.scale * math.sqrt(added)
    return float(level.alpha) * (x / alpha + spread * noise(jump.key)), level


def _ratio(level: Level) -> float:
    """σ = sigma/alpha."""
    return float(level.sigma) / float(level.alpha)
