"""Euler and Maruyama's method for a process reversed (Song et al. 2021, 2011.13456, eq. 6, 13).

Forward, dx = f·x dt + g dw. Reversed, with ∇ ln p = −ε̂/sigma,

    dx = (f·x − ½(1 + η²) g²·∇ ln p) dt + η·g dw,

where η = 1 is eq. 6, η = 0 the probability-flow ODE, eq. 13; all η have the same marginals.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mindiffusion.process import Denoiser, Jump, Process


@torch.no_grad()
def euler_sample(
    denoise: Denoiser,
    jumps: Sequence[Jump],
    process: Process,
    start: Tensor,
    noise: Callable[[int], Tensor],
    on_step: Callable[[], object] = lambda: None,
    *,
    eta: float = 1.0,
) -> Tensor:
    """Sample images; each step takes f, g and ε̂ where it starts, but the last one goes to x̂₀.

    A plain last step would remove 55 % of what noise is left from the lowest level of DDPM's chain,
    whose level 0 has some itself, and 109 % from that of the VP-SDE.

    Args:
        denoise: what is asked at every level.
        jumps: the way, from pure noise to the clean image.
        process: whose f and g² there are, and whose time.
        start: (B, C, H, W), pure noise.
        noise: key of a jump → the standard normal noise that it adds, (B, C, H, W).
        on_step: called before every network call; may raise to leave.
        eta: η, 0 deterministic … 1 the process reversed.

    Returns:
        (B, C, H, W).
    """
    x = start
    for jump in jumps[:-1]:
        on_step()
        eps = denoise(x, jump.level).eps
        drift, diffusion = process.rates(jump.level)
        span = process.sde_time(jump.level) - process.sde_time(jump.following)
        of_noise = 0.5 * (1.0 + eta**2) * diffusion / float(jump.level.sigma)
        x = x - span * (drift * x + of_noise * eps)
        if eta > 0:
            x = x + eta * (span * diffusion) ** 0.5 * noise(jump.key)
    on_step()
    return denoise(x, jumps[-1].level).x0
