"""Time densities: from a uniform u in [0, 1) to a noise time t in (0, 1], 1 = pure noise.

A density names its clock; the process converts. On the ``index`` clock times are multiples of
1/n_T. A new density is one class with ``kind`` and ``quantile``, added to ``TimeDensity``.
"""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from mindiffusion.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDING_GUARD = 1e-9


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Window:
    """Uniform over the integers max(1, ⌊t_min·n_T⌋) … ⌊t_max·n_T⌋, both ends included.

    Source: the seed document's CurriculumDDPM (METHODS §1). (0, 1) is ordinary training.

    Attributes:
        t_min: lower end in [0, 1).
        t_max: upper end in (t_min, 1].
    """

    t_min: float = 0.0
    t_max: float = 1.0
    kind: Literal["window"] = "window"
    clock: ClassVar[str] = "index"

    def __post_init__(self) -> None:
        if not 0.0 <= self.t_min < self.t_max <= 1.0:
            raise UserError(
                f"time window [{self.t_min}, {self.t_max}]: need 0 <= t_min < t_max <= 1."
            )

    def bounds(self, n_T: int) -> tuple[int, int]:
        """First and last integer level; ⌊.29·100⌋ is 29 here, not 28."""
        low = max(1, math.floor(self.t_min * n_T + _ROUNDING_GUARD))
        high = math.floor(self.t_max * n_T + _ROUNDING_GUARD)
        if high < low:
            raise UserError(
                f"time window [{self.t_min}, {self.t_max}] holds none of the levels 1 to {n_T}; "
                "raise t_max."
            )
        return low, high

    def quantile(self, u: "Tensor", n_T: int) -> "Tensor":
        """Noise time of each uniform: (B,) in [0, 1) → (B,) float64 in (0, 1].

        t = lo + ⌊u·(hi − lo + 1)⌋, over n_T.
        """
        low, high = self.bounds(n_T)
        level = low + (u.double() * (high - low + 1)).floor()
        return level.clamp(max=high) / n_T


TimeDensity = Window
"""All densities a stage may hold (a discriminated union once there is a second kind)."""
