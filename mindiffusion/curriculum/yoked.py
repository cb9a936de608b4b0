"""Yoked pacing: the stages of another run of the same seed, or of controls that are made of them.

When the stages of a paced run begin is known once it is trained. A control of it takes over the
lengths that they really had: first as a fixed table, of which controls are made as of any other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.curriculum.controls import FEWEST_STAGES, ControlKind, control
from mindiffusion.curriculum.pacer import (
    FirstSteps,
    KeptStages,
    Pacer,
    PacerState,
    Pacing,
    RunFacts,
)
from mindiffusion.curriculum.patience import PatientPacing
from mindiffusion.curriculum.stages import (
    Stage,
    StageConfig,
    placed,
    resolve_stages,
    stage_ends,
)
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class YokedStages(KeptStages):
    """With the steps at which the other run's stages began."""

    followed: FirstSteps


class YokedState(PacerState, YokedStages):
    """Likewise."""


class YokedPacer(Pacer):
    """Knows all its stages once it was told those of the other run.

    Args:
        curriculum: all stages, those of the other run too.
        total_steps: length of both runs.
        controls: kinds of control to make of its stages, one after the other.
        seed: of the run.
    """

    def __init__(
        self,
        curriculum: tuple[StageConfig, ...],
        total_steps: int,
        controls: tuple[ControlKind, ...],
        seed: int,
    ) -> None:
        super().__init__(curriculum, placed(curriculum, [0]))
        self.waits = True
        self._others = curriculum
        self._total_steps = total_steps
        self._controls = controls
        self._seed = seed
        self._followed: list[int] = []

    def follow(self, switches: Sequence[int]) -> list[str]:
        """Take over the stages of the other run, those that it never began left out.

        A control that needs more stages than are left changes nothing: then the average of all is
        the one stage, and there is no other order and no other length.
        """
        stages = placed(self._others, switches)
        ends = stage_ends(stages, self._total_steps)
        if switches[-1] >= self._total_steps:
            raise UserError(
                f"stages that began at steps {shown_value(list(switches))}: a run of "
                f"{self._total_steps} steps has no such step; start the run anew."
            )
        table = tuple(_with_length(*each) for each in zip(stages, ends, strict=True))
        said = []
        for kind in self._controls:
            if len(table) >= FEWEST_STAGES[kind]:
                table = control(table, kind, self._seed)
                continue
            said.append(
                f"control {kind!r} needs {FEWEST_STAGES[kind]} stages, but the followed run began "
                f"{len(stages)}; it changes nothing here."
            )
        self._curriculum = table
        self.stages = resolve_stages(table, self._total_steps)
        self._followed = list(switches)
        self.waits = False
        return said

    def kept(self, step: int) -> dict[str, Any]:
        """With the steps at which the other run's stages began."""
        return super().kept(step) | {"followed": list(self._followed)}

    def place(self, kept: Mapping[str, Any]) -> None:
        """Have the stages that had begun.

        Raises:
            UserError: it is not said which stages were followed, or they make no curriculum.
        """
        self._follow_kept(kept)
        super().place(kept)

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a state, whatever the other run's folder holds now."""
        self._follow_kept(state or {})

    def _follow_kept(self, kept: Mapping[str, Any]) -> None:
        if not kept.get("followed"):
            raise UserError("the file does not say whose stages it follows; start the run anew.")
        self.follow(kept["followed"])


def _with_length(stage: Stage, end: int) -> StageConfig:
    return replace(stage.config, weight=float(end - stage.start))


def _plain_folder(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", name):
        raise ValueError("name the folder of another arm's runs, beside this one's, such as d")
    return name


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class YokedPacing(Pacing):
    """The stages of another run, of the same seed, length and curriculum.

    Attributes:
        of: folder of the other arm's runs, beside the ``output`` of these: its key in a study.
        controls: kinds of control to make of its stages, one after the other; none: they are its
            stages.
        leader: pacing of that arm, on which what is trained depends; None: it is not said. A study
            says it of the controls that it makes.
    """

    kept_schema: ClassVar[type[KeptStages]] = YokedStages
    state_schema: ClassVar[type[PacerState]] = YokedState
    of: Annotated[str, AfterValidator(_plain_folder)]
    kind: Literal["yoked"] = "yoked"
    controls: Annotated[tuple[ControlKind, ...], Field(max_length=8)] = ()
    leader: PatientPacing | None = None

    @property
    def follows(self) -> str:
        """The folder."""
        return self.of

    def pacer(self, curriculum: tuple[StageConfig, ...], total_steps: int, run: RunFacts) -> Pacer:
        """A pacer that waits for the stages."""
        return YokedPacer(curriculum, total_steps, self.controls, run.seed)
