"""The linear denoiser x̂ = A y: a check whose training is known in closed form.

With y = x + σε, E[xxᵀ] = Σ and noise levels of the training weighted alike, the population loss is

    L(A) = E‖A(x + σε) − x‖² = tr(A(Σ + vI)Aᵀ − 2AΣ + Σ),  v = E[σ²].

Σ is symmetric, so gradient descent from A₀ with the rate η acts on A's rows in its eigenbasis
Σ = UΛUᵀ alone. Each column of B = AU goes to b*_i = λ_i/(λ_i + v) · U_i at its own pace:

    B_k = B* + (B₀ − B*)·diag(1 − 2η(λ_i + v))^k,

and gradient flow has e^{−2(λ_i + v)t} in place of the power. Features of large α are learned first,
whatever the order of noise levels: this much of "coarse before fine" needs no curriculum.

Source: docs/theory.md, The linear network; Saxe et al. 2014, 1312.6120, for the eigenbasis.
"""

import torch
from torch import Tensor

from mindiffusion.theory.two_features import Features


def code_moments(num_features: int, share: float) -> Tensor:
    """E[zzᵀ] of z = (z₁, z₂), (2d, 2d) float64.

    Given that a group is not empty, an entry has the mean m = p/(1 − (1 − p)^d), two of one group
    have E[z_i z_j] = p·m, and two of different groups m².

    Args:
        num_features: d.
        share: p in (0, 1].
    """
    d = num_features
    mean = share / (1.0 - (1.0 - share) ** d)
    moments = torch.full((2, d, 2, d), mean**2, dtype=torch.float64)
    for group in range(2):
        moments[group, :, group] = share * mean
    moments = moments.view(2 * d, 2 * d)
    moments.fill_diagonal_(mean)
    return moments


def data_moments(features: Features) -> Tensor:
    """Σ = E[xxᵀ] of one seed's features, (D, D) float64."""
    scaled = features.directions[0] * features.amplitudes[:, None]
    return scaled.T @ code_moments(features.num_features, features.share) @ scaled


def population_loss(a: Tensor, moments: Tensor, variance: float) -> Tensor:
    """L(A), a scalar.

    Args:
        a: (D, D), A.
        moments: (D, D), Σ.
        variance: v, the mean of σ² over training.
    """
    of_noisy = moments + variance * torch.eye(len(moments), dtype=moments.dtype)
    return (a @ of_noisy @ a.T - 2.0 * a @ moments + moments).trace()


def after_descent(a: Tensor, moments: Tensor, variance: float, rate: float, steps: int) -> Tensor:
    """A after ``steps`` steps of gradient descent on L from ``a``, (D, D); arguments as above."""
    eigenvalues, basis = torch.linalg.eigh(moments)
    best = basis * (eigenvalues / (eigenvalues + variance))
    factor = (1.0 - 2.0 * rate * (eigenvalues + variance)) ** steps
    return (best + (a @ basis - best) * factor) @ basis.T
