"""Samplers in configs, and what there is to know of each without PyTorch.

``mindiffusion.samplers.catalogue`` has the function that draws for each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.config.process import MOST_LEVELS
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value
from mindiffusion.spacing import RHO, Spacing

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
MOST_IMAGES = 1_000_000
_SPACING: dict[str, Any] = {"spacing": None, "rho": RHO}
_CHURN: dict[str, Any] = {"S_churn": 0.0, "S_min": 0.0, "S_max": None, "S_noise": 1.0}
"""Settings that not every sampler heeds, at their defaults."""
MOST_GUIDANCE = 1000
_NoiseTime = Annotated[float, Field(ge=0, le=1)]


@plain_dataclass(frozen=True)
class SamplerKind:
    """What a sampler makes of its settings.

    Attributes:
        title: how results name it.
        spacing: how its levels are spaced if neither ``sampler.spacing`` nor the process says it.
        has_eta: whether ``sampler.eta`` changes what it draws.
        has_churn: whether ``sampler.S_churn`` and what belongs to it do.
        uses_rates: whether it steps by a process's rates, and so needs small steps.
        uses_variance: whether it adds noise of the variance that a network has learned.
        is_whole_chain: whether it makes one call at every counted level, whatever ``sampler.steps``
            is, and leaves the predicted image as it is, whatever ``sampler.clip`` is.
        calls: ``sampler.steps`` → network calls for each image, never more; guidance doubles them.
        levels: ``sampler.steps`` → noise levels at which it calls.
    """

    title: str
    spacing: Spacing = "log_snr"
    has_eta: bool = False
    has_churn: bool = False
    uses_rates: bool = False
    uses_variance: bool = False
    is_whole_chain: bool = False
    calls: Callable[[int], int] = lambda steps: steps
    levels: Callable[[int], int] = lambda steps: steps


# Two calls at each level but the last: an odd number.
_HEUN = SamplerKind(
    "heun", calls=lambda steps: steps - 1 + steps % 2, levels=lambda steps: (steps + 1) // 2
)
SAMPLERS: dict[str, SamplerKind] = {
    "ddim": SamplerKind("ddim", "ddim", has_eta=True),
    "ddpm": SamplerKind("ddpm", uses_variance=True, is_whole_chain=True),
    "euler": SamplerKind("euler", "time", has_eta=True, uses_rates=True),
    "heun": _HEUN,
    "edm": replace(_HEUN, title="edm", spacing="rho", has_churn=True),
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
            levels; "euler" for Euler and Maruyama's method; "heun"; "edm" for Heun's method with
            noise that is added on the way; "dpm_solver_1", "_2" and "_3", single-step;
            "dpm_solver_pp_2m", two-step.
        steps: network calls at most ("ddpm" makes one at every level); where guidance compares two
            answers, each is two.
        eta: how much noise "ddim" and "euler" add, from 0, a differential equation without noise,
            to 1, that of the process reversed.
        spacing: how the levels are spaced at which it calls; None: as is usual for the process, or
            for the sampler.
        rho: ρ of the spacing "rho", 1 for levels that are even in σ.
        S_churn: how much noise "edm" adds in all its steps together; 0: none.
        S_min: it adds noise where σ is at least that.
        S_max: and at most that; None: without end.
        S_noise: the added noise's standard deviation.
        clip: clip the predicted clean image to [-1, 1] (not "ddpm", and not where networks see
            latents, which have no range).
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
    spacing: Spacing | None = None
    rho: float = Field(default=RHO, ge=1, le=1e3)
    S_churn: float = Field(default=0.0, ge=0)
    S_min: float = Field(default=0.0, ge=0)
    S_max: float | None = Field(default=None, gt=0)
    S_noise: float = Field(default=1.0, gt=0, le=10)
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
        """Refuse a chunk of no images, an interval that is none, settings without effect."""
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
        self._refuse_what_is_not_heeded()
        if self.S_max is not None and self.S_min > self.S_max:
            raise UserError(
                f"sampler.S_min {self.S_min:g} is above S_max {self.S_max:g}; give S_min <= S_max."
            )
        self._refuse_what_belongs_to_no_churn()

    def _refuse_what_is_not_heeded(self) -> None:
        heeds_spacing = not self.kind.is_whole_chain
        unheeded = ({} if heeds_spacing else _SPACING) | ({} if self.kind.has_churn else _CHURN)
        for name, usual in unheeded.items():
            if getattr(self, name) != usual:
                raise UserError(
                    f"sampler.{name} is {getattr(self, name)}, but sampler.name {self.name} does "
                    "not heed it; leave it out, or give another sampler, such as edm."
                )

    def _refuse_what_belongs_to_no_churn(self) -> None:
        given = [name for name, usual in _CHURN.items() if getattr(self, name) != usual]
        if given and not self.S_churn:
            raise UserError(
                f"sampler.{given[0]} is {getattr(self, given[0]):g}, but sampler.S_churn is 0, so "
                "no noise is added; leave it out, or give sampler.S_churn."
            )

    @property
    def kind(self) -> SamplerKind:
        """What is known of its name."""
        return SAMPLERS[self.name]

    @property
    def way(self) -> str:
        """How it draws: "ddim-eta1", "heun", "heun-guidance2-in0.1to0.8-balanced"."""
        eta = f"-eta{self.eta:g}" if self.kind.has_eta else ""
        classes = "" if self.classes == "shares" else "-balanced"
        return self.kind.title + eta + self._churn + self._spacing + self._guidance + classes

    @property
    def _guidance(self) -> str:
        if not self.is_guided:
            return ""
        low, high = self.guidance_interval
        where = "" if (low, high) == (0.0, 1.0) else f"-in{low:g}to{high:g}"
        return f"-guidance{self.guidance:g}{where}"

    @property
    def _churn(self) -> str:
        if not self.S_churn:
            return ""
        most = "" if self.S_max is None else f"{self.S_max:g}"
        return f"-churn{self.S_churn:g}-from{self.S_min:g}to{most}-noise{self.S_noise:g}"

    @property
    def _spacing(self) -> str:
        if self.spacing == "rho" or self.rho != RHO:
            return f"-rho{self.rho:g}"
        return f"-{self.spacing}" if self.spacing else ""

    def spacing_on(self, usual: Spacing | None) -> Spacing:
        """How its levels are spaced, on a process that has a usual spacing or None."""
        return self.spacing or usual or self.kind.spacing

    @property
    def is_guided(self) -> bool:
        """Whether guidance changes what is drawn."""
        return self.guidance != 1.0
