"""Denoising profile: ε-MSE on images by noise level, with fixed noise.

Source of x_t: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", eq. 4 and 14.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from benchmark.evaluation.metrics.profile import ProfileResult
from mindiffusion.errors import UserError

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
NoiseSource = Callable[[int, torch.Tensor], torch.Tensor]


def profile_levels(n_T: int, count: int = 20) -> tuple[int, ...]:
    """``count`` different levels in 1..n_T, at the middles of equal shares of the chain.

    Raises:
        UserError: fewer than ``count`` levels exist, or ``count`` < 1.
    """
    if not 1 <= count <= n_T:
        raise UserError(f"{count} noise levels asked for; allowed is 1 to n_T = {n_T}.")
    # Halves go up (round() would send 0.5 to the clean level 0).
    return tuple(math.floor(n_T * (i + 0.5) / count + 0.5) for i in range(count))


def denoising_profiles(
    networks: Mapping[str, Network],
    alpha_bar: torch.Tensor,
    images: torch.Tensor,
    levels: Sequence[int],
    n_T: int,
    batch_size: int,
    noise: NoiseSource,
) -> dict[str, ProfileResult]:
    """Squared error of the predicted noise by level and image, x_t = √ᾱ_t x + √(1−ᾱ_t) ε.

    All networks meet the very same x_t, which is made once.

    Args:
        networks: name → ε-predictor in eval mode, called as network(x_t, t / n_T) with t/n_T (B,)
            float32, the same for the whole batch.
        alpha_bar: ᾱ_0..ᾱ_{n_T}, (n_T + 1,) float64.
        images: (N, 3, H, W) float in [-1, 1], N ≥ 2, on the networks' device.
        levels: integer t in 1..n_T.
        n_T: length of the chain.
        batch_size: images a call; changes the result by rounding at most.
        noise: noise(level index, image indices (B,) int64) → ε (B, 3, H, W); a pure function of
            (level index, image index), so that all arms and milestones meet the same noise.

    Raises:
        UserError: a level outside the chain, a table of another length, or fewer than 2 images.
    """
    _check_profile(alpha_bar, images, levels, n_T)
    shape = (len(networks), len(levels), len(images))
    # Tables on the CPU, errors read at the end: no batch waits for the device.
    alpha_bar = alpha_bar.cpu()
    errors = torch.empty(shape, dtype=torch.float64, device=images.device)
    with torch.no_grad():
        for level_index, t in enumerate(levels):
            for start in range(0, len(images), batch_size):
                x = images[start : start + batch_size]
                stop = start + len(x)
                eps = noise(level_index, torch.arange(start, stop)).to(x)
                x_t, times = _noisy(x, eps, alpha_bar[t], t / n_T)
                for number, network in enumerate(networks.values()):
                    error = _squared_error(network(x_t, times), eps)
                    errors[number, level_index, start:stop] = error
    return {
        name: ProfileResult(tuple(levels), array)
        for name, array in zip(networks, errors.cpu().numpy(), strict=True)
    }


def denoising_profile(
    network: Network,
    alpha_bar: torch.Tensor,
    images: torch.Tensor,
    levels: Sequence[int],
    n_T: int,
    batch_size: int,
    noise: NoiseSource,
) -> ProfileResult:
    """The profile of one network; arguments as for ``denoising_profiles``."""
    only = {"": network}
    return denoising_profiles(only, alpha_bar, images, levels, n_T, batch_size, noise)[""]


def _noisy(
    x: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor, time: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """x_t (B, 3, H, W) and the times that a network is told, (B,) float32."""
    signal, sigma = alpha_bar.sqrt().item(), (1 - alpha_bar).sqrt().item()
    times = torch.full((len(x),), time, dtype=torch.float32, device=x.device)
    return signal * x + sigma * eps, times


def _squared_error(predicted: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """(B,) float64 mean squared error an image."""
    return (predicted.double() - eps.double()).square().flatten(1).mean(dim=1)


def _check_profile(
    alpha_bar: torch.Tensor, images: torch.Tensor, levels: Sequence[int], n_T: int
) -> None:
    if alpha_bar.shape != (n_T + 1,):
        raise UserError(f"alpha_bar has shape {tuple(alpha_bar.shape)}; n_T = {n_T} needs n_T + 1.")
    outside = [t for t in levels if not 1 <= t <= n_T]
    if outside:
        raise UserError(f"Noise level {outside[0]} asked for; allowed is 1 to n_T = {n_T}.")
    if len(images) < 2:
        raise UserError(f"{len(images)} images given; a profile needs 2 or more.")
