"""Processes in configs: a class for each, told apart by ``kind``; free of PyTorch.

A process has its own fields and its own checks. ``mindiffusion.build`` builds it from them.
"""

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy import special

from mindiffusion.chain import LOWEST_TIME, Chain, LinearBeta, LinearPath, LogNormalSigma
from mindiffusion.curriculum.loss_weight import LossWeight
from mindiffusion.errors import UserError
from mindiffusion.spacing import Spacing
from mindiffusion.tagged_union import TaggedUnion

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
MOST_LEVELS = 100_000
_LEAST_SIGNAL = 1e-20
"""Of ᾱ at the last level: far below it float32 has no 1/√ᾱ."""
_LEAST_BETA = 1e-9
PLAIN_LOSS = "plain loss in ε"
"""Where no noise level's ε-error is weighted."""
_MOST_STANDARD = 7.0
"""Standard deviations from P_mean to the ends of a range of σ: beyond it, neighbours in a sampler
have one noise time, even in float64."""


@dataclass(frozen=True, config=_STRICT)
class ProcessConfig:
    """What all processes' configs have. A process's own class adds its fields.

    Attributes:
        kind: which process; a class of its own has one value, by which it is found.
    """

    kind: str

    @property
    def num_levels(self) -> int | None:
        """Number of noise levels; None: they are continuous."""
        return None

    @property
    def noise(self) -> object:
        """What two networks must share to denoise one image in turns; errors show it as text.

        How a network was trained and how it is read is not part of it.
        """
        raise NotImplementedError

    @property
    def time_scale(self) -> float:
        """Factor that brings what networks are told to the range of a sinusoid's periods.

        Sinusoids are made for the indices 0 … 999 of DDPM's levels, and a noise time is in (0, 1].
        """
        return 999.0

    @property
    def has_chain(self) -> bool:
        """Whether its levels are a chain, whose steps have a variance that a network can learn."""
        return False

    @property
    def uses_statistics(self) -> bool:
        """Whether mean picture and σ_d of the training images are part of the process."""
        return False

    @property
    def loss_words(self) -> str:
        """The loss, for people: ``PLAIN_LOSS``, or how the ε-error is weighted by noise level."""
        return PLAIN_LOSS

    @property
    def spacing(self) -> Spacing | None:
        """How a sampler's levels are spaced if its config does not say it; None: as its method's.

        That of the process that is built.
        """
        return None

    @property
    def has_even_times(self) -> bool:
        """Whether steps that are even in noise time are small ones of its SDE."""
        return True

    @property
    def lowest_time(self) -> float:
        """Noise time of the lowest level that a sampler asks for, of any spacing but "ddim"."""
        raise NotImplementedError

    def log_sigma(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ln σ at noise times t (N,) in (0, 1], of counted levels theirs: finite, rising with t.

        σ is noise over signal, sigma/alpha of the process's levels.
        """
        raise NotImplementedError


@dataclass(frozen=True, config=_STRICT)
class VariancePreservingConfig(ProcessConfig):
    """What processes with alpha² + sigma² = 1 share: how a network is read, and its loss.

    Attributes:
        loss_weight: factor on the loss by noise level; None: 1 at all.
        parameterization: what the network's answer is: the noise, or a correction of the best
            denoiser that knows the mean picture and the spread of the training images alone.
    """

    loss_weight: LossWeight | None = None
    parameterization: Literal["eps", "preconditioned"] = "eps"

    @property
    def uses_statistics(self) -> bool:
        """If the network corrects a denoiser of the data, or σ_d is in the loss weight."""
        is_weighted = self.loss_weight is not None and self.loss_weight.needs_std
        return self.parameterization != "eps" or is_weighted

    @property
    def loss_words(self) -> str:
        """With the loss weight's kind."""
        weight = self.loss_weight
        return PLAIN_LOSS if weight is None else f"loss in ε with weight {weight.kind}"


@dataclass(frozen=True, config=_STRICT)
class DDPMConfig(VariancePreservingConfig):
    """The chain of DDPM: linear betas over n_T levels.

    Attributes:
        beta1: β at t = 0.
        beta2: β at t = n_T.
        n_T: number of levels.
    """

    kind: Literal["ddpm"] = "ddpm"
    beta1: float = 1e-4
    beta2: float = 0.02
    n_T: int = Field(default=1000, ge=2, le=MOST_LEVELS)

    def __post_init__(self) -> None:
        """Refuse betas that are no schedule, or that leave nothing of an image to be found."""
        if not _LEAST_BETA <= self.beta1 <= self.beta2 < 1.0:
            raise UserError(
                f"betas ({self.beta1}, {self.beta2}): need {_LEAST_BETA} <= beta1 <= beta2 < 1."
            )
        beta = np.linspace(self.beta1, self.beta2, self.n_T + 1)
        if np.log1p(-beta).sum() < math.log(_LEAST_SIGNAL):
            raise UserError(
                f"betas ({self.beta1}, {self.beta2}) with n_T {self.n_T} leave less than "
                f"{_LEAST_SIGNAL} of the signal at the last level; lower process.beta2 or n_T."
            )

    @property
    def num_levels(self) -> int:
        """n_T."""
        return self.n_T

    @property
    def has_chain(self) -> bool:
        """Yes."""
        return True

    @property
    def noise(self) -> Chain:
        """Its chain of levels."""
        return Chain((self.beta1, self.beta2), self.n_T)

    @property
    def lowest_time(self) -> float:
        """That of the first level."""
        return 1.0 / self.n_T

    def log_sigma(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ln σ = ½ ln((1 − ᾱ)/ᾱ) at the noise times of its levels."""
        # Here, so that configs never wait for torch.
        from mindiffusion.schedules import linear_tables

        table = linear_tables(self.beta1, self.beta2, self.n_T).alpha_bar.numpy()
        alpha_bar = table[np.rint(t * self.n_T).astype(np.int64)]
        return np.asarray(0.5 * np.log((1.0 - alpha_bar) / alpha_bar))


@dataclass(frozen=True, config=_STRICT)
class VPSDEConfig(VariancePreservingConfig):
    """The VP-SDE of Song et al. 2021 (2011.13456, eq. 11): dx = −½β(t)x dt + √β(t) dw, t in (0, 1].

    Attributes:
        beta_min: β(0) > 0.
        beta_max: β(1) ≥ β(0); between them β is linear.
    """

    kind: Literal["vpsde"] = "vpsde"
    beta_min: float = Field(default=0.1, ge=1e-6)
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        """Refuse betas that are no schedule, or that leave nothing of an image to be found."""
        if self.beta_min > self.beta_max:
            raise UserError(
                f"process.beta_min {self.beta_min:g} is above beta_max {self.beta_max:g}; give "
                "beta_min <= beta_max."
            )
        if (self.beta_min + self.beta_max) / 2 > -math.log(_LEAST_SIGNAL):
            raise UserError(
                f"process.beta_min {self.beta_min:g} and beta_max {self.beta_max:g} leave less "
                f"than {_LEAST_SIGNAL} of the signal at t = 1; let their mean be 46 at most."
            )

    @property
    def noise(self) -> LinearBeta:
        """Its schedule."""
        return LinearBeta(self.beta_min, self.beta_max)

    @property
    def lowest_time(self) -> float:
        """The same for all betas."""
        return LOWEST_TIME

    def log_sigma(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ln σ = ½ ln(exp(∫β) − 1)."""
        return np.asarray(0.5 * np.log(np.expm1(self.noise.integral(t))))


@dataclass(frozen=True, config=_STRICT)
class EDMConfig(ProcessConfig):
    """EDM (Karras et al. 2022, 2206.00364, table 1): x_t = x + σ·ε, ln σ ~ N(P_mean, P_std²).

    Attributes:
        P_mean: mean of ln σ.
        P_std: standard deviation of ln σ, > 0.
        sigma_data: σ_d of a network that corrects the denoiser of N(0, σ_d²), as in the paper; or
            "auto": of N(μ, σ_d²), with mean picture and spread of the training images.
        sigma_min: σ of the lowest level that a sampler asks for.
        sigma_max: σ of pure noise, where samplers start; training draws no more.
    """

    kind: Literal["edm"] = "edm"
    P_mean: float = Field(default=-1.2, ge=-100, le=100)
    P_std: float = Field(default=1.2, ge=1e-3, le=1e3)
    sigma_data: Annotated[float, Field(ge=1e-3, le=1e3)] | Literal["auto"] = 0.5
    sigma_min: float = Field(default=0.002, ge=1e-6)
    sigma_max: float = Field(default=80.0, ge=1e-6, le=1e6)

    def __post_init__(self) -> None:
        """Refuse a range that is none, or that plain training hardly ever sees the ends of."""
        if not math.log(self.sigma_min) < self.P_mean < math.log(self.sigma_max):
            raise UserError(
                f"process.sigma_min {self.sigma_min:g} and sigma_max {self.sigma_max:g}: give "
                f"sigma_min < exp(P_mean) = {math.exp(self.P_mean):g} < sigma_max."
            )
        for name in ("sigma_min", "sigma_max"):
            z = abs(float(self.noise.standard(math.log(getattr(self, name)))))
            if z > _MOST_STANDARD:
                raise UserError(
                    f"process.{name} {getattr(self, name):g} is {z:.3g} standard deviations (P_std "
                    f"{self.P_std:g}) of ln sigma from P_mean {self.P_mean:g}, so that no network "
                    f"is trained there; give one nearer than {_MOST_STANDARD:g}."
                )

    @property
    def noise(self) -> LogNormalSigma:
        """Its distribution of ln σ, with the range of σ."""
        return LogNormalSigma(self.P_mean, self.P_std, self.sigma_min, self.sigma_max)

    @property
    def time_scale(self) -> float:
        """1: the paper's networks are given ln σ/4 as it is."""
        return 1.0

    @property
    def uses_statistics(self) -> bool:
        """If σ_d is that of the training images."""
        return self.sigma_data == "auto"

    @property
    def loss_words(self) -> str:
        """The process's own weight, 1 on the error of what the network answers."""
        return f"loss in ε with weight 1 + (σ/σ_d)², σ_d {self.sigma_data}"

    @property
    def spacing(self) -> Spacing:
        """That of the paper's samplers."""
        return "rho"

    @property
    def has_even_times(self) -> bool:
        """Not at high noise: the last fiftieth goes from σ = 3.5 to 80."""
        return False

    @property
    def lowest_time(self) -> float:
        """That of sigma_min."""
        return self.noise.lowest_time

    def log_sigma(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ln σ, from the tail of its distribution that is the smaller."""
        below, above = self.noise.shares(t)
        z = np.where(t < 0.5, special.ndtri(below), -special.ndtri(above))
        return np.asarray(self.noise.log_sigma(z))


@dataclass(frozen=True, config=_STRICT)
class LinearPathConfig(ProcessConfig):
    """The noise of the two-feature toy: x_t = x + σ·ε, σ = (1 − s)/s, s from 1 to ``lowest``.

    The toy draws s itself evenly; noise time is s turned round (``chain.LinearPath``).

    Attributes:
        lowest: s at the highest noise, in (0, 1); there σ is (1 − lowest)/lowest. The toy's 0.3
            leaves much of a picture to be seen; 0.01 does not.
        target: what the network answers and is trained on by plain squared error: the clean image,
            or the noise.
    """

    kind: Literal["linear_path"] = "linear_path"
    lowest: float = Field(default=0.3, ge=1e-6, le=0.999)
    target: Literal["x0", "eps"] = "x0"

    @property
    def noise(self) -> LinearPath:
        """Its levels."""
        return LinearPath(self.lowest)

    @property
    def loss_words(self) -> str:
        """Of x₀, the ε-error with weight σ²."""
        return PLAIN_LOSS if self.target == "eps" else "plain loss in x₀"

    @property
    def lowest_time(self) -> float:
        """A thousandth of the draws are below it."""
        return LOWEST_TIME

    def log_sigma(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ln σ."""
        return np.asarray(np.log(self.noise.sigma(t)))


PROCESSES: dict[str, type[ProcessConfig]] = {
    "ddpm": DDPMConfig,
    "vpsde": VPSDEConfig,
    "edm": EDMConfig,
    "linear_path": LinearPathConfig,
}
"""All processes' configs by ``kind``; ``mindiffusion.build.PROCESSES`` has the builder of each."""
AnyProcessConfig = Annotated[ProcessConfig, TaggedUnion("kind", PROCESSES, "ddpm")]
"""The settings of any process, read by their ``kind``."""
