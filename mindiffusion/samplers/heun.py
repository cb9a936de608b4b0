"""Heun's method, of order 2, for the probability-flow ODE: Karras et al. 2022, 2206.00364, alg. 1.

In y = x/alpha and σ = sigma/alpha the ODE is dy/dσ = ε̂ for every process, so the method is that of
the paper without its noise. The last step, to σ = 0, is Euler's and asks once.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mindiffusion.process import Denoiser, Jump, Level


@torch.no_grad()
def heun_sample(
    denoise: Denoiser,
    jumps: Sequence[Jump],
    start: Tensor,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Sample images with 2·len(jumps) − 1 network calls.

    Args:
        denoise: what is asked: where a step starts, and where it would end by Euler's method.
        jumps: the way, from pure noise to the clean image.
        start: (B, C, H, W), pure noise.
        on_step: called before every network call; may raise to leave.

    Returns:
        (B, C, H, W).
    """
    x = start
    for jump in jumps[:-1]:
        x = heun_step(denoise, x, jump.level, jump.following, on_step)
    on_step()
    return denoise(x, jumps[-1].level).x0


def heun_step(
    denoise: Denoiser, x: Tensor, level: Level, following: Level, on_step: Callable[[], object]
) -> Tensor:
    """One step, from a level to another that has noise: the images (B, C, H, W) there.

    Other arguments as of ``heun_sample``.
    """
    on_step()
    alpha, sigma = float(level.alpha), float(level.sigma)
    alpha_next, sigma_next = float(following.alpha), float(following.sigma)
    span = sigma_next / alpha_next - sigma / alpha
    eps = denoise(x, level).eps
    tried = alpha_next * (x / alpha + span * eps)
    on_step()
    slope = 0.5 * (eps + denoise(tried, following).eps)
    return alpha_next * (x / alpha + span * slope)
