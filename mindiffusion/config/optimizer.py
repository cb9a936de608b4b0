"""Optimizers in configs: a class for each, told apart by ``name``; free of PyTorch.

``mindiffusion.training.optimizer`` builds them.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.config.shares import share_of
from mindiffusion.tagged_union import TaggedUnion

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_Beta = Annotated[float, Field(ge=0, lt=1)]


def _length(steps: int | str) -> int | str:
    if isinstance(steps, str):
        share_of(steps)
    elif steps < 0:
        raise ValueError("input should be a number of steps from 0, or a share such as '5%'")
    return steps


_Length = Annotated[int | str, AfterValidator(_length)]


@dataclass(frozen=True, config=_STRICT)
class AdamConfig:
    """Adam (Kingma and Ba 2015, 1412.6980). Its learning rate is ``training.lr``.

    Attributes:
        betas: β₁ and β₂ in [0, 1): decays of the averages of the gradient and of its square.
        warm_up_steps: over so many steps, or such a share of all steps as "5%", the learning rate
            rises evenly to ``training.lr``.
    """

    name: Literal["adam"] = "adam"
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    warm_up_steps: _Length = 0


@dataclass(frozen=True, config=_STRICT)
class AdamWConfig(AdamConfig):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, 1711.05101).

    Attributes:
        weight_decay: a step takes lr · weight_decay of every weight away, biases and norms
            too; not of entries that the network has frozen.
    """

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: float = Field(default=0.01, ge=0, le=1)


OPTIMIZERS: dict[str, type[AdamConfig]] = {"adam": AdamConfig, "adamw": AdamWConfig}
"""All optimizers' settings by ``name``."""
AnyOptimizer = Annotated[AdamConfig, TaggedUnion("name", OPTIMIZERS, "adam")]
"""The settings of any optimizer, read by their ``name``."""
