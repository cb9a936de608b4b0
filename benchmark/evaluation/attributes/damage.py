"""Images damaged on purpose, by blur or noise: what the classifier learns to reject."""

import torch
from torch import Tensor

from mindiffusion.noise import Stream, normals

NOISE_RANGE = (0.08, 0.6)
"""Standard deviations of added noise, in the [-1, 1] scale: just seen to hardly recognised."""
_BLUR_PIXELS = 0.7
_BLUR_SHARE = 0.125


def blur_range(side: int) -> tuple[float, float]:
    """Standard deviations of the blur, in pixels: from about one pixel to an eighth of the side."""
    return _BLUR_PIXELS, max(2 * _BLUR_PIXELS, _BLUR_SHARE * side)


def damaged(images: Tensor, seed: int, step: int) -> Tensor:
    """The first half blurred, the rest noisy; arguments as below, (B, 3, H, W) in [-1, 1]."""
    half = len(images) // 2
    return torch.cat((blurred(images[:half]), noisy(images[half:], seed, step)))


def blurred(images: Tensor) -> Tensor:
    """Images blurred by widths on a logarithmic ladder, one for each place in the batch.

    So every batch holds all widths; which image meets which is the order's matter.

    Args:
        images: (B, 3, H, W) in [-1, 1].
    """
    return blur(images, _ladder(blur_range(images.shape[-1]), len(images)).to(images))


def noisy(images: Tensor, seed: int, step: int) -> Tensor:
    """Images with noise of strengths on such a ladder, clipped to [-1, 1].

    Args:
        images: (B, 3, H, W) in [-1, 1].
        seed: of the noise.
        step: counts batches; the noise is keyed by (seed, step, place in the batch).
    """
    place = torch.arange(len(images), device=images.device)
    noise = normals(seed, Stream.CLASSIFIER_NOISE, place, step, tuple(images.shape[1:]))
    strength = _ladder(NOISE_RANGE, len(images)).to(images).view(-1, 1, 1, 1)
    return (images + strength * noise.to(images)).clamp(-1.0, 1.0)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, each image by its own width; at the borders the weights are renormalised.

    Args:
        images: (B, C, H, W).
        sigma: (B,) standard deviations in pixels, > 0.
    """
    down, across = (_weights(size, sigma) for size in images.shape[2:])
    return down @ images @ across.transpose(2, 3)


def _weights(size: int, sigma: Tensor) -> Tensor:
    """(B, 1, size, size): row i holds the weights of all pixels in blurred pixel i."""
    place = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    distance = place[:, None] - place
    weights = torch.exp(-0.5 * (distance / sigma.view(-1, 1, 1, 1)).square())
    return weights / weights.sum(dim=-1, keepdim=True)


def _ladder(limits: tuple[float, float], count: int) -> Tensor:
    """``count`` values between the limits, equally spaced in their logarithm."""
    low, high = limits
    place = (torch.arange(count, dtype=torch.float64) + 0.5) / max(count, 1)
    return low * (high / low) ** place
