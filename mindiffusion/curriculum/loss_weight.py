"""Loss weights: factors on the ε-error by noise level, as published, not normalised.

A constant factor changes nothing under Adam but for its ε of 1e-8. Logs, pacing and profiles keep
the unweighted error. A new weight is one class with ``kind``, ``at`` and ``needs_std``, added to
``LossWeight``. ``at`` is given, for some noise levels, their ᾱ in (0, 1) and their ``change``: this
is d(1 − ᾱ)/dt over the largest one of all levels. Both are arrays or tensors (N,) float64, and so
is its result. Where it needs no σ_d, it takes any.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.errors import UserError
from mindiffusion.tagged_union import TaggedUnion

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_Positive = Annotated[float, Field(gt=0, le=1e6)]


def _snr(alpha_bar: Any) -> Any:
    return alpha_bar / (1.0 - alpha_bar)


def _edm(alpha_bar: Any, std: float) -> Any:
    """(σ² + σ_d²)/σ_d² with σ² = (1 − ᾱ)/ᾱ."""
    return 1.0 + 1.0 / (_snr(alpha_bar) * std**2)


@dataclass(frozen=True, config=_STRICT)
class P2:
    """1/(1 + SNR)^γ: Choi et al. 2022, "Perception Prioritized Training", 2204.00227, eq. 8, k = 1.

    Attributes:
        gamma: γ > 0; .5 and 1 in the paper.
    """

    gamma: _Positive = 1.0
    kind: Literal["p2"] = "p2"
    needs_std: ClassVar[bool] = False

    def at(self, alpha_bar: Any, change: Any, std: float) -> Any:
        """The weight of each level."""
        return (1.0 + _snr(alpha_bar)) ** -self.gamma


@dataclass(frozen=True, config=_STRICT)
class MinSNR:
    """min(SNR, γ)/SNR: Hang et al. 2023, "Min-SNR Weighting", 2303.09556, for ε-prediction.

    Attributes:
        gamma: γ > 0; 5 in the paper.
    """

    gamma: _Positive = 5.0
    kind: Literal["min_snr"] = "min_snr"
    needs_std: ClassVar[bool] = False

    def at(self, alpha_bar: Any, change: Any, std: float) -> Any:
        """The weight of each level."""
        return (self.gamma / _snr(alpha_bar)).clip(max=1.0)


@dataclass(frozen=True, config=_STRICT)
class ChangeAware:
    """d(1 − ᾱ)/dt, scaled into [1 − λ, λ]: Wang et al. 2024, "SpeeD", 2405.17403.

    The factor d(1 − ᾱ)/dt is the paper's; its scaling between a floor and a ceiling, with λ = .6,
    is unverified [?].

    Attributes:
        ceiling: λ in (.5, 1]; 1 weights by the derivative alone.
    """

    ceiling: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    kind: Literal["change_aware"] = "change_aware"
    needs_std: ClassVar[bool] = False

    def at(self, alpha_bar: Any, change: Any, std: float) -> Any:
        """The weight of each level."""
        return 1.0 - self.ceiling + (2.0 * self.ceiling - 1.0) * change


@dataclass(frozen=True, config=_STRICT)
class ChangeAwareBelow:
    """As ``ChangeAware`` at low noise, and 1 at high noise: the final public code of SpeeD.

    That code has the edge at index 700 of 1000; on a clock that every process has, this is an ᾱ.

    Attributes:
        ceiling: λ in (.5, 1].
        signal: ᾱ in (0, 1) below which the weight is 1; the usual one lies
            between those of the indices 699 and 700.
    """

    ceiling: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    signal: Annotated[float, Field(gt=0, lt=1)] = 0.00692
    kind: Literal["change_aware_below"] = "change_aware_below"
    needs_std: ClassVar[bool] = False

    def at(self, alpha_bar: Any, change: Any, std: float) -> Any:
        """The weight of each level."""
        is_high = (alpha_bar < self.signal) * 1.0
        return is_high + (1.0 - is_high) * ChangeAware(self.ceiling).at(alpha_bar, change, std)


@dataclass(frozen=True, config=_STRICT)
class EDM:
    """(σ² + σ_d²)/σ_d²: Karras et al. 2022, 2206.00364, table 1.

    There it is λ = 1/c_out² = (σ² + σ_d²)/(σ·σ_d)² on the x₀-error, which is σ² times the ε-error.
    A preconditioned network's own answer then has the same weight at all levels.
    """

    kind: Literal["edm"] = "edm"
    needs_std: ClassVar[bool] = True

    def at(self, alpha_bar: Any, change: Any, std: float) -> Any:
        """The weight of each level."""
        return _edm(alpha_bar, std)


@dataclass(frozen=True, config=_STRICT)
class Balanced:
    """√(σ² + σ_d²)/σ_d: the geometric mean of the plain ε-loss (1) and ``EDM``.

    On the x₀-error it is 1/(σ·c_out). The ε-loss starves high noise, EDM's low noise.
    """

    kind: Literal["balanced"] = "balanced"
    needs_std: ClassVar[bool] = True

    def at(self, alpha_bar: Any, change: Any, std: float) -> Any:
        """The weight of each level."""
        return _edm(alpha_bar, std) ** 0.5


WEIGHT_KINDS: dict[str, type[Any]] = {
    cls.kind: cls for cls in (P2, MinSNR, ChangeAware, ChangeAwareBelow, EDM, Balanced)
}
"""Their classes, as named in configs."""


def check_spread(weight: Any, std: float | None) -> None:
    """Refuse a loss weight that needs σ_d where it is not known.

    Raises:
        UserError: it does.
    """
    if weight is not None and weight.needs_std and std is None:
        raise UserError(
            f"loss weight {weight.kind!r} needs the standard deviation of the training images; "
            "give std."
        )


LossWeight = Annotated[
    P2 | MinSNR | ChangeAware | ChangeAwareBelow | EDM | Balanced,
    TaggedUnion("kind", WEIGHT_KINDS),
]
"""All loss weights a process may have, told apart by ``kind``."""
