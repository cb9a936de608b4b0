"""Pacing: when each stage of a curriculum begins.

A ``Pacer`` owns the stages of one run with the steps at which they really began. They are kept in
its states and milestones, and whoever asks what was trained reads them there. A new kind is a class
of settings in ``PACINGS`` and a Pacer that it makes.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from mindiffusion.curriculum.stages import Stage, StageConfig, placed, resolve_stages, stage_at
from mindiffusion.errors import UserError
from mindiffusion.tagged_union import TaggedUnion

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Pacer:
    """Says which stage trains a step. As it stands here, it knows all stages beforehand.

    A kind that decides during the run is made with its first stage alone, sets ``look_every`` and
    overrides ``moves_on``; what it remembers between two looks goes into ``state_dict``. All ranks
    give it the same numbers, so all decide alike.

    Args:
        curriculum: all stages, in order.
        stages: those whose first step is known.

    Attributes:
        stages: those whose first step is known so far, rising.
        look_every: it looks at the losses after each multiple of this number of steps; None: never.
    """

    look_every: int | None = None

    def __init__(self, curriculum: tuple[StageConfig, ...], stages: tuple[Stage, ...]) -> None:
        self.stages = stages
        self._curriculum = curriculum
        self._losses: list[float] = []

    @property
    def is_decided(self) -> bool:
        """Whether the first steps of all stages are known."""
        return len(self.stages) == len(self._curriculum)

    def stage_at(self, step: int) -> Stage:
        """The stage that trains ``step``, from 0; of a step that is decided."""
        return stage_at(self.stages, step)

    def begun(self, step: int) -> tuple[Stage, ...]:
        """The stages that the first ``step`` steps belong to; at the start the first stage."""
        return tuple(stage for stage in self.stages if stage.start < max(step, 1))

    def take(self, losses: Iterable[float]) -> None:
        """Keep losses until the next look.

        Args:
            losses: of the steps since the last call, in their order: means of the unweighted ε-MSE
                over the images of all ranks.
        """
        if not self.is_decided:
            self._losses += losses

    def looks_at(self, step: int) -> bool:
        """Whether it decides after ``step`` steps if the next stage begins."""
        if self.look_every is None or self.is_decided:
            return False
        return step > 0 and step % self.look_every == 0

    def look(self, step: int) -> None:
        """After ``step`` steps, at a step at which it looks: begin the next stage, or go on.

        It follows from the state alone, so a run that goes on from here decides the same again.
        """
        if not self.looks_at(step):
            return
        losses, self._losses = self._losses, []
        if self.moves_on(losses):
            starts = [*(stage.start for stage in self.stages), step]
            self.stages = placed(self._curriculum, starts)

    def moves_on(self, losses: list[float]) -> bool:
        """Whether the next stage begins now.

        Args:
            losses: of each step since the last look, as ``take`` was given them.
        """
        raise NotImplementedError

    def state_dict(self, step: int) -> dict[str, Any]:
        """What it needs to go on after ``step`` steps, as plain types."""
        begun = [stage.start for stage in self.begun(step)]
        return {"begun": begun, "losses": list(self._losses)}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a state; None: it was made before there were pacers, by a fixed table.

        Raises:
            UserError: the state has no pacing, or stages that are not of this curriculum.
        """
        if self.is_decided:
            return
        if state is None:
            raise UserError("the state does not say when its stages began; start the run anew.")
        self.stages = placed(self._curriculum, state["begun"])
        self._losses = list(state["losses"])


@dataclass(frozen=True, config=_STRICT)
class Pacing:
    """What the settings of all kinds have.

    Attributes:
        kind: which one; a class of its own has one value, by which it is found.
    """

    kind: str

    def pacer(self, curriculum: tuple[StageConfig, ...], total_steps: int) -> Pacer:
        """A pacer at the start of a run.

        Raises:
            UserError: a curriculum that cannot be paced so.
        """
        raise NotImplementedError


@dataclass(frozen=True, config=_STRICT)
class FixedPacing(Pacing):
    """Stages begin at steps that follow from their weights and the run's length alone."""

    kind: Literal["fixed"] = "fixed"

    def pacer(self, curriculum: tuple[StageConfig, ...], total_steps: int) -> Pacer:
        """A pacer that knows all stages."""
        return Pacer(curriculum, resolve_stages(curriculum, total_steps))


PACINGS: dict[str, type[Pacing]] = {"fixed": FixedPacing}
"""All kinds of pacing by ``kind``."""
AnyPacing = Annotated[Pacing, TaggedUnion("kind", PACINGS, "fixed")]
"""The settings of any pacing, read by their ``kind``."""
