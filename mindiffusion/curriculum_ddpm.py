"""CurriculumDDPM: a DDPM that trains on the noise times of a density.

Only training is restricted. Sampling always runs the full chain.
"""

from pydantic import ValidationError
from torch import Tensor, nn

from mindiffusion.curriculum.density import Window
from mindiffusion.curriculum.noise_time import NoiseTimeDensity
from mindiffusion.ddpm import DDPM, DDPMProcess
from mindiffusion.errors import UserError


class CurriculumDDPM(DDPM):
    """DDPM holding the current stage's ``TimeDensity``; ordinary training until one is set.

    Args:
        eps_model: as for DDPM.
        betas: as for DDPM.
        n_T: as for DDPM.
        process: as for DDPM.
    """

    def __init__(
        self,
        eps_model: nn.Module,
        betas: tuple[float, float],
        n_T: int,
        process: DDPMProcess | None = None,
    ) -> None:
        super().__init__(eps_model, betas, n_T, process)
        self.density: NoiseTimeDensity = Window()

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

    def set_density(self, density: NoiseTimeDensity) -> None:
        """Train on the noise times of ``density`` from now on."""
        self.density = density

    def noise_times(self, u: Tensor) -> Tensor:
        """Noise times in (0, 1] of uniforms u (B,), by the density's quantile function."""
        return self.density.quantile(u, self.process.num_levels)
