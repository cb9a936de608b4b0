"""Two networks as one: each predicts the noise on its side of a noise level τ.

Sampling with a trained network above τ and a common one below (or the reverse) shows at which
levels its quality arises, and lets networks be compared that know only part of the levels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mindiffusion.errors import UserError

EpsModel = Callable[[Tensor, Tensor], Tensor]


class Stitched(nn.Module):
    """``above`` at noise times t > τ, ``below`` at t ≤ τ.

    Args:
        above: ε-predictor of the high noise levels.
        below: ε-predictor of the low ones.
        tau: τ in [0, 1] as t / n_T; 0 is ``above`` alone, 1 is ``below`` alone.
        n_T: number of noise levels of both.

    Raises:
        UserError: τ outside [0, 1].
    """

    def __init__(self, above: EpsModel, below: EpsModel, tau: float, n_T: int) -> None:
        super().__init__()
        if not 0 <= tau <= 1:
            raise UserError(f"networks stitched at tau {tau:g}: give a noise time from 0 to 1.")
        self.above = above
        self.below = below
        self.n_T = n_T
        # The guard: .29 · 100 is 28.999…
        self.last_below = math.floor(tau * n_T + 1e-9)

    def at(self, level: int) -> EpsModel:
        """The network of an integer level: known without a look at the device."""
        return self.above if level > self.last_below else self.below

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """ε of x (B, C, H, W) at t (B,) in (0, 1]; levels may differ, so both networks run."""
        is_above = (t * self.n_T).round() > self.last_below
        return torch.where(is_above.view(-1, 1, 1, 1), self.above(x, t), self.below(x, t))


def network_at(eps_model: EpsModel, level: int) -> EpsModel:
    """The network that a sampler calls at an integer level."""
    return eps_model.at(level) if isinstance(eps_model, Stitched) else eps_model
