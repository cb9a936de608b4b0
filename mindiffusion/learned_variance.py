"""The variance of a chain's steps, and the variational bound that it is learned from.

Source: Nichol and Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models" (2102.09672),
eq. 15 and 16. The step from level k to k − 1 has the mean that ε̂ gives. The log of the variance of
each of its values is interpolated between two limits, and may lie outside them, by a share s that
the network says (``Prediction.variance_share``):

    log σ² = s·log β + (1 − s)·log β̃,   β = 1 − ᾱ_k/ᾱ_{k−1},   β̃ = β·(1 − ᾱ_{k−1})/(1 − ᾱ_k).

The chain of the variational bound ends at the image itself: ᾱ before level 1 is 1, so β is 1 − ᾱ₁
there. Its β̃ would be 0, so that of level 2 stands for it. The terms are

    k ≥ 2:  KL(q ‖ p) of the step's posterior and its prediction,
    k = 1:  −log p of the uint8 image, which is the mass of its grey level.
"""

import math

import torch
from torch import Tensor

from mindiffusion.data.codec import GREY
from mindiffusion.process import Prediction, as_factor, factors

_HALF_GREY = 0.5 / GREY
"""Half the width of a grey level in [-1, 1]."""


def variational_table(alpha_bar: Tensor) -> Tensor:
    """What the variational bound needs of a chain's levels.

    Args:
        alpha_bar: ᾱ of the levels 1 … n, (n,) float64, falling; n ≥ 2.

    Returns:
        (n, 3): log β̃, log(β/β̃), and the factor on half the squared ε-error in the KL under β̃,
        SNR_{k−1}/SNR_k − 1; 0 at level 1, which has no KL.
    """
    before = torch.cat((torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]))
    beta = 1.0 - alpha_bar / before
    log_posterior = (beta * (1.0 - before) / (1.0 - alpha_bar)).log()
    log_posterior[0] = log_posterior[1]
    snr = alpha_bar / (1.0 - alpha_bar)
    gain = torch.cat((torch.zeros_like(snr[:1]), snr[:-1] / snr[1:] - 1.0))
    return torch.stack((log_posterior, beta.log() - log_posterior, gain), 1)


def variational_bound(said: Prediction, images: Tensor, rows: Tensor, is_first: Tensor) -> Tensor:
    """The variational bound's term of each image at its level, in bits per value, (B,).

    Only the variance has a gradient: ε̂ is learned from its own error alone, as in eq. 16.

    Args:
        said: with ``variance_share``.
        images: (B, C, H, W), the clean ones: grey levels in [-1, 1].
        rows: (B, 3), or (1, 3) for all, of ``variational_table``, at the levels of ``said``.
        is_first: (B,) or (1,) bool, where the level is 1.
    """
    assert said.variance_share is not None
    log_posterior, log_ratio, gain = (as_factor(column, images) for column in rows.unbind(1))
    above_posterior = said.variance_share.to(images.dtype) * log_ratio
    alpha, sigma = factors(said.level, images)
    error = said.eps.detach() - (said.x_t - alpha * images) / sigma
    is_first = is_first.view(-1, 1, 1, 1)
    # Where the other term counts, each gets 0 instead of what the network said, and no gradient
    # leads back: an overflow there would give 0·∞.
    divergence = _step_divergence(
        gain * error.square(), torch.where(is_first, 0.0, above_posterior)
    )
    distance = error * sigma / alpha
    log_variance = torch.where(is_first, log_posterior + above_posterior, 0.0)
    log_mass = grey_log_mass(images, distance, log_variance)
    terms = torch.where(is_first, -log_mass, divergence)
    return terms.flatten(1).mean(1) / math.log(2.0)


def _step_divergence(distance: Tensor, above_posterior: Tensor) -> Tensor:
    """KL of a step's posterior from its prediction, ½(log σ²/β̃ + β̃/σ² − 1 + (μ̃ − μ)²/σ²).

    Args:
        distance: (μ̃ − μ)²/β̃ ≥ 0, (B, C, H, W).
        above_posterior: log σ²/β̃, likewise.
    """
    return (
        above_posterior + torch.expm1(-above_posterior) + distance * torch.exp(-above_posterior)
    ) / 2


def grey_log_mass(images: Tensor, distance: Tensor, log_variance: Tensor) -> Tensor:
    """Log of a normal distribution's mass in the grey levels of images, all (B, C, H, W).

    The mass is that between the level's edges, 1/255 below and above it. The darkest level has all
    mass below its upper edge, the brightest all above its lower one: Ho et al. 2020 (2006.11239,
    eq. 13), with the exact normal distribution.

    Args:
        images: grey levels in [-1, 1].
        distance: images − mean.
        log_variance: of the normal distribution.
    """
    narrow = torch.exp(-log_variance / 2)
    centre, half = distance * narrow, _HALF_GREY * narrow
    is_darkest, is_brightest = images < _HALF_GREY - 1.0, images > 1.0 - _HALF_GREY
    # By symmetry both edges can lie on the lower side, where logarithms of the mass keep digits.
    below = torch.where(is_darkest, -centre, torch.where(is_brightest, centre, centre.abs()))
    near, far = (torch.special.log_ndtr(edge - below) for edge in (half, -half))
    is_open = is_darkest | is_brightest
    # An open level has no far edge. What is left out is kept finite, for its gradient is 0 times.
    cut_off = torch.log(-torch.expm1(torch.where(is_open, -1.0, far - near)))
    return near + torch.where(is_open, 0.0, cut_off)
