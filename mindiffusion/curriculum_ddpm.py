"""CurriculumDDPM: a DDPM that trains on the noise times of a density, with a weight by level.

Only training is restricted. Sampling always runs the full chain.
"""

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mindiffusion.curriculum.density import IndexDensity, Window
from mindiffusion.curriculum.loss_weight import LossWeight
from mindiffusion.ddpm import DDPM, NoisyBatch
from mindiffusion.errors import UserError
from mindiffusion.parameterization import Parameterization


class CurriculumDDPM(DDPM):
    """DDPM holding the current stage's ``TimeDensity``; ordinary training until one is set.

    Args:
        eps_model: as for DDPM.
        betas: as for DDPM.
        n_T: as for DDPM.
        loss_weight: factor on the loss by noise level; None: 1 at all.
        parameterization: as for DDPM.
        std: σ_d of the training images, for loss weights that need it.

    Raises:
        UserError: a loss weight that needs it, without.
    """

    def __init__(
        self,
        eps_model: nn.Module,
        betas: tuple[float, float],
        n_T: int,
        loss_weight: LossWeight | None = None,
        parameterization: Parameterization | None = None,
        std: float | None = None,
    ) -> None:
        super().__init__(eps_model, betas, n_T, parameterization)
        self.density: IndexDensity = Window()
        if loss_weight is not None and loss_weight.needs_std and std is None:
            raise UserError(
                f"loss weight {loss_weight.kind!r} needs the standard deviation of the training "
                "images; give std."
            )
        alpha_bar = self.alpha_bar.numpy()
        table = None if loss_weight is None else loss_weight.table(alpha_bar, std or 1.0)
        weights = None if table is None else torch.from_numpy(table)
        self.register_buffer("loss_weights", weights, persistent=False)
        self.loss_weights: Tensor | None

    def set_time_range(self, t_min: float, t_max: float) -> None:
        """Train on t uniform in {max(1, ⌊t_min·n_T⌋) … ⌊t_max·n_T⌋}, ends included.

        Raises:
            UserError: unless 0 ≤ t_min < t_max ≤ 1.
        """
        try:
            self.set_density(Window(t_min, t_max))
        except ValidationError as error:  # pydantic's own text has several lines
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserError(f"set_time_range({t_min!r}, {t_max!r}): {message}") from None

    def set_density(self, density: IndexDensity) -> None:
        """Train on the noise times of ``density`` from now on."""
        self.density = density

    def noise_times(self, u: Tensor) -> Tensor:
        """Noise times in (0, 1] of uniforms u (B,), by the density's quantile function."""
        return self.density.quantile(u, self.n_T)

    def weighted(self, losses: Tensor, noisy: NoisyBatch) -> Tensor:
        """Each image's loss times the weight of its level, (B,)."""
        if self.loss_weights is None:
            return losses
        return losses * self.loss_weights[noisy.level].to(losses.dtype)

    def per_sample_loss(self, x: Tensor, u: Tensor, noise: Tensor) -> Tensor:
        """Weighted mean squared ε-error of each image, (B,); arguments as for ``noisy_batch``."""
        noisy = self.noisy_batch(x, u, noise)
        return self.weighted(self.eps_error(noisy, noise), noisy)
