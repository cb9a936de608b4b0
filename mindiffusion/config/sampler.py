"""Samplers in configs, and what there is to know of each without PyTorch.

``mindiffusion.samplers.catalogue`` has the function that draws for each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.config.process import MOST_LEVELS
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
MOST_IMAGES = 1_000_000
MOST_GUIDANCE = 1000
_NoiseTime = Annotated[float, Field(ge=0, le=1)]


@plain_dataclass(frozen=True)
class SamplerKind:
    """What a sampler makes of its settings.

    Attributes:
        title: how results name it.
        has_eta: whether ``sampler.eta`` changes what it draws.
        is_whole_chain: whether it makes one call at every counted level, whatever ``sampler.steps``
            is, and leaves the predicted image as it is, whatever ``sampler.clip`` is.
        calls: ``sampler.steps`` → network calls for each image, never more.
        levels: ``sampler.steps`` → noise levels at which it calls.
    """

    title: str
    has_eta: bool = False
    is_whole_chain: bool = False
    calls: Callable[[int], int] = lambda steps: steps
    levels: Callable[[int], int] = lambda steps: steps


SAMPLERS: dict[str, SamplerKind] = {
    "ddim": SamplerKind("ddim", has_eta=True),
    "ddpm": SamplerKind("ddpm", is_whole_chain=True),
    "euler": SamplerKind("euler", has_eta=True),
    # Two calls at each level but the last: an odd number.
    "heun": SamplerKind(
        "heun", calls=lambda steps: steps - 1 + steps % 2, levels=lambda steps: (steps + 1) // 2
    ),
    "dpm_solver_1": SamplerKind("dpm-solver-1"),
    "dpm_solver_2": SamplerKind("dpm-solver-2"),
    "dpm_solver_3": SamplerKind("dpm-solver-3"),
    "dpm_solver_pp_2m": SamplerKind("dpm-solver++2m"),
}
"""All samplers by ``sampler.name``."""


def _known(name: str) -> str:
    if name not in SAMPLERS:
        raise ValueError(f"allowed are {', '.join(SAMPLERS)}")
    return name


@dataclass(frozen=True, config=_STRICT)
class SamplerConfig:
    """How images are drawn from a network.

    Attributes:
        name: "ddim"; "ddpm" for ancestral sampling through every level of a process of counted
            levels; "euler" for Euler and Maruyama's method; "heun"; "dpm_solver_1", "_2" and "_3",
            single-step; "dpm_solver_pp_2m", two-step.
        steps: network calls at most ("ddpm" makes one at every level).
        eta: how much noise "ddim" and "euler" add, from 0, a differential equation without noise,
            to 1, that of the process reversed.
        clip: clip the predicted clean image to [-1, 1] (not "ddpm").
        seed: sampling seed, apart from the training seed.
        chunk: images per forward pass, or "auto": sized to the device.
        precision: "auto": bf16 where the device has it and it was measured to help.
        compile: "auto": on a GPU, and where a C++ compiler is found and it helps.
        grid: images in a run's sample grid.
        classes: of a network that knows classes, which image shows which: "shares": each class as
            often as in the training images; "balanced": all in turn.
        guidance: strength of classifier-free guidance: 1 is none, 0 leaves classes out, more than 1
            draws what shows its class more clearly. Others than 1 need training.label_drop.
        guidance_interval: lowest and highest noise time at which it guides.

    Images may differ in bits between chunks and precisions, so results name both.
    """

    name: Annotated[str, AfterValidator(_known)] = "ddim"
    steps: int = Field(default=50, ge=1, le=MOST_LEVELS)
    eta: float = Field(default=1.0, ge=0, le=1)
    clip: bool = True
    seed: int = Field(default=0, ge=0, lt=2**32)
    chunk: int | str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    grid: int = Field(default=64, ge=1, le=65_536)
    classes: Literal["shares", "balanced"] = "shares"
    guidance: float = Field(default=1.0, ge=0, le=MOST_GUIDANCE)
    guidance_interval: tuple[_NoiseTime, _NoiseTime] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse a chunk of no images, and an interval that is none."""
        low, high = self.guidance_interval
        if low >= high:
            raise UserError(
                f"sampler.guidance_interval is {list(self.guidance_interval)}: give two noise "
                "times from 0 to 1, the lower one first."
            )
        is_number = isinstance(self.chunk, int) and 1 <= self.chunk <= MOST_IMAGES
        if not is_number and self.chunk != "auto":
            raise UserError(
                f"sampler.chunk is {shown_value(self.chunk)}: give a number of images, 1 to "
                f'{MOST_IMAGES}, or "auto".'
            )

    @property
    def kind(self) -> SamplerKind:
        """What is known of its name."""
        return SAMPLERS[self.name]

    @property
    def way(self) -> str:
        """How it draws, as results name it: "ddim-eta1", "heun-guidance2-in0.1to0.8-balanced"."""
        eta = f"-eta{self.eta:g}" if self.kind.has_eta else ""
        guidance = f"-guidance{self.guidance:g}" if self.is_guided else ""
        if self.is_guided and self.guidance_interval != (0.0, 1.0):
            guidance += "-in{:g}to{:g}".format(*self.guidance_interval)
        return self.kind.title + eta + guidance + ("" if self.classes == "shares" else "-balanced")

    @property
    def is_guided(self) -> bool:
        """Whether guidance changes what is drawn."""
        return self.guidance != 1.0
