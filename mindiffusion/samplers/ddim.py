"""DDIM sampling (Song et al., 2010.02502, eq. 12 and 16), for any denoiser.

With η = 1 each step is stochastic, as in DDPM on the shortened chain. A young ε-network needs that,
and x̂₀ clipped to the image range: deterministic DDIM keeps its errors as coloured noise.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mindiffusion.process import Denoiser, Jump


def ddim_sigma(jump: Jump, eta: float) -> float:
    """Standard deviation of the noise that a jump from level t to s adds.

    σ = η·sigma_s·√(1 − (alpha_t·sigma_s/(alpha_s·sigma_t))²), for any alpha and sigma. Where alpha²
    + sigma² = 1, as in the paper, this is η (sigma_s/sigma_t) √(1 − (alpha_t/alpha_s)²).

    Args:
        jump: the jump; to the clean image it adds none.
        eta: η, 0 deterministic … 1 stochastic.
    """
    alpha, sigma = float(jump.level.alpha), float(jump.level.sigma)
    alpha_next, sigma_next = float(jump.following.alpha), float(jump.following.sigma)
    kept = (alpha / alpha_next) * (sigma_next / sigma)
    return float(eta * sigma_next * (1.0 - kept**2) ** 0.5)


@torch.no_grad()
def ddim_sample(
    denoise: Denoiser,
    jumps: Sequence[Jump],
    start: Tensor,
    noise: Callable[[int], Tensor],
    on_step: Callable[[], object] = lambda: None,
    *,
    eta: float = 1.0,
) -> Tensor:
    """Sample images by DDIM.

    Args:
        denoise: what is asked at every level; ``process.clipped`` keeps its images in range.
        jumps: the way, from pure noise to the clean image.
        start: (B, C, H, W), pure noise.
        noise: key of a jump → the standard normal noise that it adds, (B, C, H, W).
        on_step: called before every network call; may raise to leave.
        eta: 0 deterministic … 1 stochastic.

    Returns:
        (B, C, H, W).
    """
    x = start
    for jump in jumps:
        on_step()
        said = denoise(x, jump.level)
        sigma = ddim_sigma(jump, eta)
        alpha_next, sigma_next = float(jump.following.alpha), float(jump.following.sigma)
        direction = max(0.0, sigma_next**2 - sigma**2) ** 0.5
        x = alpha_next * said.x0 + direction * said.eps
        if sigma > 0:
            x = x + sigma * noise(jump.key)
    return x
