"""Ancestral sampling of DDPM (Ho et al. 2020, 2006.11239, algorithm 2), with σ_t² = β_t.

β_t = 1 − ᾱ_t/ᾱ_{t−1} is the variance that the step from t − 1 to t adds; minDiffusion samples so.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mindiffusion.process import Denoiser, Jump


@torch.no_grad()
def ancestral_sample(
    denoise: Denoiser,
    jumps: Sequence[Jump],
    start: Tensor,
    noise: Callable[[int], Tensor],
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Sample images through every level of a chain.

    Args:
        denoise: what is asked at every level.
        jumps: from each level to the one below it.
        start: (B, C, H, W), pure noise.
        noise: key of a jump → the standard normal noise that it adds, (B, C, H, W); the last jump
            adds none.
        on_step: called before every network call; may raise to leave.

    Returns:
        (B, C, H, W), about [-1, 1], not clipped.
    """
    x = start
    for jump in jumps:
        on_step()
        eps = denoise(x, jump.level).eps
        beta = 1.0 - float(jump.level.alpha / jump.following.alpha) ** 2
        mean = (x - beta / float(jump.level.sigma) * eps) / (1.0 - beta) ** 0.5
        x = mean if jump is jumps[-1] else mean + beta**0.5 * noise(jump.key)
    return x
