"""Pacing: when each stage of a curriculum begins.

A new kind is a class of settings in ``PACINGS`` and a ``Pacer`` that it makes.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from mindiffusion.curriculum.adaptive import InfoNoisePacing, SecondMomentPacing
from mindiffusion.curriculum.pacer import Pacer, Pacing, RunFacts
from mindiffusion.curriculum.patience import PATIENT
from mindiffusion.curriculum.stages import StageConfig, resolve_stages
from mindiffusion.curriculum.yoked import YokedPacing
from mindiffusion.tagged_union import TaggedUnion


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class FixedPacing(Pacing):
    """Stages begin at steps that follow from their weights and the run's length alone."""

    is_table: ClassVar[bool] = True
    kind: Literal["fixed"] = "fixed"

    def pacer(self, curriculum: tuple[StageConfig, ...], total_steps: int, run: RunFacts) -> Pacer:
        """A pacer that knows all stages."""
        return Pacer(curriculum, resolve_stages(curriculum, total_steps))


PACINGS: dict[str, type[Pacing]] = {
    "fixed": FixedPacing,
    **PATIENT,
    "yoked": YokedPacing,
    "info_noise": InfoNoisePacing,
    "loss_second_moment": SecondMomentPacing,
}
"""All kinds of pacing by ``kind``."""
AnyPacing = Annotated[Pacing, TaggedUnion("kind", PACINGS, "fixed")]
"""The settings of any pacing, read by their ``kind``."""
