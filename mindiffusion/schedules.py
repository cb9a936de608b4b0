"""Pure tables of the forward process, computed in float64.

Indexing follows minDiffusion: there are n_T + 1 betas, β_t = β₁ + (β₂ − β₁)·t/n_T for t = 0 … n_T,
and ᾱ_t = Π_{s=0}^{t} (1 − β_s). Index 0 is part of the product but is never drawn in training, so
the lowest trained noise level is σ = √(1 − ᾱ₁) = .0148 for the usual (1e-4, .02, 1000).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mindiffusion.errors import UserError


@dataclass(frozen=True)
class DiffusionTables:
    """Tables over t = 0 … n_T, each (n_T + 1,) float64.

    Attributes:
        beta: variance added at step t.
        alpha_bar: ᾱ_t, the share of signal variance left.
    """

    beta: Tensor
    alpha_bar: Tensor


def linear_tables(beta1: float, beta2: float, n_T: int) -> DiffusionTables:
    """Tables of the linear schedule of DDPM (Ho et al. 2020), indexed as above.

    Args:
        beta1: β at t = 0.
        beta2: β at t = n_T.
        n_T: number of noise levels.

    Raises:
        UserError: unless 0 < beta1 ≤ beta2 < 1 and n_T ≥ 2.
    """
    if not 0.0 < beta1 <= beta2 < 1.0 or n_T < 2:
        raise UserError(
            f"betas ({beta1}, {beta2}) with n_T {n_T}: need 0 < beta1 <= beta2 < 1 and n_T >= 2."
        )
    steps = torch.arange(n_T + 1, dtype=torch.float64)
    beta = beta1 + (beta2 - beta1) * steps / n_T
    alpha_bar = torch.cumprod(1.0 - beta, dim=0)
    return DiffusionTables(beta, alpha_bar)
