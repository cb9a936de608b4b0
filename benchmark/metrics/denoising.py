"""Denoising profile: ε-MSE on held-out images by noise level, with fixed noise.

Source of x_t: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", eq. 4 and 14.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mindiffusion.errors import UserError

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
NoiseSource = Callable[[int, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ProfileResult:
    """ε-MSE by level: integer levels, mse (L,) and its standard error over images (L,)."""

    levels: tuple[int, ...]
    mse: NDArray[np.float64]
    standard_error: NDArray[np.float64]


def profile_levels(n_T: int, count: int = 20) -> tuple[int, ...]:
    """``count`` different levels in 1..n_T, at the middles of equal shares of the chain.

    Raises:
        UserError: fewer than ``count`` levels exist, or ``count`` < 1.
    """
    if not 1 <= count <= n_T:
        raise UserError(f"{count} noise levels asked for; allowed is 1 to n_T = {n_T}.")
    # Halves go up (round() would send 0.5 to the clean level 0).
    return tuple(math.floor(n_T * (i + 0.5) / count + 0.5) for i in range(count))


def denoising_profile(
    network: Network,
    alpha_bar: torch.Tensor,
    images: torch.Tensor,
    levels: Sequence[int],
    n_T: int,
    batch_size: int,
    noise: NoiseSource,
) -> ProfileResult:
    """Mean squared error of the predicted noise at each level, x_t = √ᾱ_t x + √(1−ᾱ_t) ε.

    Args:
        network: ε-predictor in eval mode, called as network(x_t, t / n_T) with t/n_T (B,) float32.
        alpha_bar: ᾱ_0..ᾱ_{n_T}, (n_T + 1,) float64.
        images: (N, 3, H, W) float in [-1, 1], N ≥ 2, on the network's device.
        levels: integer t in 1..n_T.
        n_T: length of the chain.
        batch_size: images a call; changes the result by rounding at most.
        noise: noise(level index, image indices (B,) int64) → ε (B, 3, H, W); a pure function of
            (level index, image index), so that all arms and milestones meet the same noise.

    Raises:
        UserError: a level outside the chain, a table of another length, or fewer than 2 images.
    """
    _check_profile(alpha_bar, images, levels, n_T)
    errors = torch.empty(len(levels), len(images), dtype=torch.float64)
    with torch.no_grad():
        for level_index, t in enumerate(levels):
            for start in range(0, len(images), batch_size):
                x = images[start : start + batch_size]
                indices = torch.arange(start, start + len(x))
                eps = noise(level_index, indices).to(x)
                error = _squared_error(network, x, eps, alpha_bar[t], t / n_T)
                errors[level_index, indices] = error
    standard_error = errors.std(dim=1, correction=1) / math.sqrt(len(images))
    return ProfileResult(tuple(levels), errors.mean(dim=1).numpy(), standard_error.numpy())


def _squared_error(
    network: Network, x: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor, time: float
) -> torch.Tensor:
    """(B,) float64 mean squared error an image, on the CPU."""
    signal, sigma = alpha_bar.sqrt().item(), (1 - alpha_bar).sqrt().item()
    times = torch.full((len(x),), time, dtype=torch.float32, device=x.device)
    predicted = network(signal * x + sigma * eps, times)
    # Moved before the cast: some accelerators have no float64.
    difference = predicted.cpu().double() - eps.cpu().double()
    return difference.square().flatten(1).mean(dim=1)


def _check_profile(
    alpha_bar: torch.Tensor, images: torch.Tensor, levels: Sequence[int], n_T: int
) -> None:
    if alpha_bar.shape != (n_T + 1,):
        raise UserError(f"alpha_bar has shape {tuple(alpha_bar.shape)}; n_T = {n_T} needs n_T + 1.")
    outside = [t for t in levels if not 1 <= t <= n_T]
    if outside:
        raise UserError(f"Noise level {outside[0]} asked for; allowed is 1 to n_T = {n_T}.")
    if len(images) < 2:
        raise UserError(f"{len(images)} held-out images given; a profile needs 2 or more.")
