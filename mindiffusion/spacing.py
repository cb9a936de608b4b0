"""How the levels of a sampler are spaced: what samplers, processes and configs all name."""

from typing import Literal

Spacing = Literal["ddim", "time", "log_snr", "rho"]
"""How a sampler's levels are spaced. "time" and "log_snr" are even in the noise time and in
ln(alpha/sigma), "rho" in the ρ-th root of sigma/alpha (Karras et al. 2022, 2206.00364, eq. 5), all
from pure noise to the lowest level. "ddim" is even in the noise time from pure noise to the clean
image, which counted levels only just miss: DDIM lands on it by x̂₀."""
EVEN_IN_TIME: tuple[Spacing, ...] = ("ddim", "time")
RHO = 7.0
"""ρ of Karras et al. 2022; as it grows, "rho" becomes "log_snr"."""
