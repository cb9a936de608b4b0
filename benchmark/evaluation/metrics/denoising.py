"""Denoising profile: ε-MSE on images by noise level, with fixed noise.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", eq. 14, at single levels.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

from benchmark.evaluation.metrics.profile import ProfileResult
from mindiffusion.errors import UserError
from mindiffusion.process import Denoiser, Level, add_noise, eps_error, given, times_of

NoiseSource = Callable[[int, torch.Tensor], torch.Tensor]


def denoising_profiles(
    denoisers: Mapping[str, Denoiser],
    images: torch.Tensor,
    levels: Sequence[Level],
    batch_size: int,
    noise: NoiseSource,
    condition: torch.Tensor | None = None,
) -> dict[str, ProfileResult]:
    """Squared error of the predicted noise by level and image.

    All denoisers meet the very same noisy images, which are made once.

    Args:
        denoisers: by name; networks in eval mode.
        images: (N, C, h, w) float, a network's inputs, N ≥ 2, on the denoisers' device.
        levels: noise levels, each one for all images.
        batch_size: images a call; changes the result by rounding at most.
        noise: noise(level index, image indices (B,) int64) → ε (B, C, h, w); a pure function of
            (level index, image index), so that all arms and milestones meet the same noise.
        condition: (N, …), what the denoisers are told of the images; None: nothing.

    Raises:
        UserError: fewer than 2 images.
    """
    if len(images) < 2:
        raise UserError(f"{len(images)} images given; a profile needs 2 or more.")
    shape = (len(denoisers), len(levels), len(images))
    # Levels lie on the CPU, errors are read at the end: no batch waits for the device.
    errors = torch.empty(shape, dtype=torch.float64, device=images.device)
    with torch.no_grad():
        for level_index, level in enumerate(levels):
            for start in range(0, len(images), batch_size):
                x = images[start : start + batch_size]
                stop = start + len(x)
                eps = noise(level_index, torch.arange(start, stop)).to(x)
                x_t = add_noise(x, level, eps)
                told = None if condition is None else condition[start:stop]
                for number, denoise in enumerate(denoisers.values()):
                    said = given(denoise, told)(x_t, level)
                    errors[number, level_index, start:stop] = eps_error(said, eps.double())
    return {
        name: ProfileResult(times_of(levels), array)
        for name, array in zip(denoisers, errors.cpu().numpy(), strict=True)
    }
