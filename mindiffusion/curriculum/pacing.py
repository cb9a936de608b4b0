"""Pacing: when each stage of a curriculum begins.

A new kind is a class of settings in ``PACINGS`` and a ``Pacer`` that it makes. The settings name
the schemas of what files keep of the pacer.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from mindiffusion.curriculum.adaptive import InfoNoisePacing, SecondMomentPacing
from mindiffusion.curriculum.pacer import Pacer, Pacing, RunFacts
from mindiffusion.curriculum.patience import PATIENT
from mindiffusion.curriculum.stages import StageConfig, resolve_stages
from mindiffusion.curriculum.yoked import YokedPacing
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value
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
_USUAL = "fixed"
AnyPacing = Annotated[Pacing, TaggedUnion("kind", PACINGS, _USUAL)]
"""The settings of any pacing, read by their ``kind``."""


def pacing_of(config: Mapping[str, Any]) -> type[Pacing]:
    """The settings' class of the pacing that a kept config names; nothing else of it is looked at.

    Args:
        config: of a run, as a file has it.

    Raises:
        UserError: it names none that there is.
    """
    settings = config.get("pacing", {})
    kind = settings.get("kind", _USUAL) if isinstance(settings, Mapping) else settings
    if not isinstance(kind, str) or kind not in PACINGS:
        raise UserError(
            f"pacing.kind is {shown_value(kind)}; allowed are {', '.join(PACINGS)}; it is not one "
            "of ours."
        )
    return PACINGS[kind]
