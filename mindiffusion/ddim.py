"""DDIM sampling (Song et al., 2010.02502, eq. 12 and 16), for any ε-network.

With η = 1 each step is stochastic, as in DDPM on the shortened chain. A young ε-network needs that,
and x̂₀ clipped to the image range: deterministic DDIM keeps its errors as coloured noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals
from mindiffusion.stitching import EpsModel, network_at


@dataclass(frozen=True)
class DDIMStep:
    """One jump from level t to level s < t; s = 0 is the clean image (ᾱ = 1).

    Attributes:
        level: t.
        alpha_bar: ᾱ_t.
        alpha_bar_next: ᾱ_s.
        sigma: standard deviation of the noise added.
    """

    level: int
    alpha_bar: float
    alpha_bar_next: float
    sigma: float


def ddim_levels(n_T: int, num_steps: int) -> list[int]:
    """Levels n_T = τ_S > … > τ_1 ≥ 1, evenly spaced, rounded half up."""
    if not 1 <= num_steps <= n_T:
        raise UserError(f"{num_steps} sampling steps: allowed are 1 to n_T = {n_T}.")
    return [(2 * n_T * i + num_steps) // (2 * num_steps) for i in range(num_steps, 0, -1)]


def ddim_steps(alpha_bar: Tensor, num_steps: int, eta: float) -> list[DDIMStep]:
    """The jumps of a chain; σ = η √((1−ᾱ_s)/(1−ᾱ_t)) √(1 − ᾱ_t/ᾱ_s).

    Args:
        alpha_bar: (n_T + 1,) float64 table.
        num_steps: number of network calls.
        eta: 0 deterministic … 1 stochastic.
    """
    levels = ddim_levels(len(alpha_bar) - 1, num_steps)
    steps = []
    for level, following in zip(levels, [*levels[1:], 0], strict=True):
        a = float(alpha_bar[level])
        b = float(alpha_bar[following]) if following else 1.0
        sigma = eta * ((1 - b) / (1 - a)) ** 0.5 * (1 - a / b) ** 0.5
        steps.append(DDIMStep(level, a, b, sigma))
    return steps


@torch.no_grad()
def ddim_sample(
    eps_model: EpsModel,
    alpha_bar: Tensor,
    index: Tensor,
    size: tuple[int, int, int],
    *,
    num_steps: int = 50,
    eta: float = 1.0,
    clip: bool = True,
    seed: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Sample images by DDIM.

    Args:
        eps_model: ``eps_model(x_t, t)`` with t (B,) float32 in (0, 1].
        alpha_bar: (n_T + 1,) float64 table of the process.
        index: (B,) int64 image indices; noise is keyed by (seed, index, level).
        size: (C, H, W).
        num_steps: network calls.
        eta: 0 deterministic … 1 stochastic.
        clip: clip x̂₀ to [-1, 1] and recompute ε from it.
        seed: sampling seed.
        on_step: called before every network call; may raise to leave.

    Returns:
        (B, C, H, W) float32; in [-1, 1] if ``clip``.
    """
    n_T = len(alpha_bar) - 1
    x = normals(seed, Stream.SAMPLE_START, index, 0, size)
    for step in ddim_steps(alpha_bar, num_steps, eta):
        on_step()
        time = torch.full((len(index),), step.level / n_T, device=index.device)
        eps = network_at(eps_model, step.level)(x, time).float()
        x0 = (x - (1 - step.alpha_bar) ** 0.5 * eps) / step.alpha_bar**0.5
        if clip:
            x0 = x0.clamp(-1.0, 1.0)
            eps = (x - step.alpha_bar**0.5 * x0) / (1 - step.alpha_bar) ** 0.5
        direction = max(0.0, 1 - step.alpha_bar_next - step.sigma**2) ** 0.5
        x = step.alpha_bar_next**0.5 * x0 + direction * eps
        if step.sigma > 0:
            x = x + step.sigma * normals(seed, Stream.SAMPLE_STEP, index, step.level, size)
    return x
