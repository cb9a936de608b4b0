"""Ancestral sampling of DDPM (Ho et al. 2020, 2006.11239, algorithm 2), with σ_t² = β_t.

β_t = 1 − ᾱ_t/ᾱ_{t−1} is the variance that the step from t − 1 to t adds; minDiffusion samples so.
Where the network has learned it, each value of the image has its own variance, whose log is
interpolated between log β̃ and log β, and may lie outside them: Nichol and Dhariwal 2021
(2102.09672), eq. 15.
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
        said = denoise(x, jump.level)
        beta = 1.0 - float(jump.level.alpha / jump.following.alpha) ** 2
        x = (x - beta / float(jump.level.sigma) * said.eps) / (1.0 - beta) ** 0.5
        if jump is not jumps[-1]:
            x = x + beta**0.5 * _narrower(jump, said.variance_share) * noise(jump.key)
    return x


def _narrower(jump: Jump, share: Tensor | None) -> float | Tensor:
    """The learned standard deviation of a jump over √β: √(β̃/β) at share 0, 1 at share 1."""
    if share is None:
        return 1.0
    return (float(jump.following.sigma) / float(jump.level.sigma)) ** (1.0 - share)
