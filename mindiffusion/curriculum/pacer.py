"""What every kind of pacing offers: its settings, and a pacer that owns a run's stages.

A ``Pacer`` owns the stages of one run with the steps at which they really began. They are kept in
its states and milestones, and whoever asks what was trained reads them there.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.curriculum.noise_time import NoiseLevels
from mindiffusion.curriculum.stages import Stage, StageConfig, placed, stage_at
from mindiffusion.errors import UserError

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_Step = Annotated[int, Field(ge=0, le=2**53)]


def _from_the_start(begun: list[int]) -> list[int]:
    if begun[0] != 0 or any(after <= before for before, after in itertools.pairwise(begun)):
        raise ValueError("stages begin at rising steps, the first of them at 0")
    return begun


FirstSteps = Annotated[
    list[_Step], Field(min_length=1, max_length=10_000), AfterValidator(_from_the_start)
]
"""First steps of the stages so far."""


class KeptStages(BaseModel):
    """What a milestone's file keeps of a pacer: the schema of ``Pacer.kept``.

    A kind that keeps more has a class of its own, derived from this one.
    """

    model_config = _STRICT

    begun: FirstSteps


class PacerState(KeptStages):
    """What a state keeps of a pacer: the schema of ``Pacer.state_dict``, likewise."""

    losses: list[float]


class Pacer:
    """Says which stage trains a step. As it stands here, it knows all stages beforehand.

    A kind that decides during the run is made with its first stage alone, sets ``look_every`` and
    overrides ``moves_on``; what it remembers between two looks goes into ``state_dict``, and its
    schema is a class that its ``Pacing`` names. All ranks give it the same numbers, so all decide
    alike.

    Args:
        curriculum: all stages, in order.
        stages: those whose first step is known.

    Attributes:
        stages: those whose first step is known so far, rising.
        look_every: it looks at the losses after each multiple of this number of steps; None: never.
        wants_images: whether ``take_images`` is to be called too.
        wants_weighted: whether these images' losses are to have the process's loss weights.
        is_unbiased: whether losses are weighted by the inverse of the stage's density, so that the
            expected loss is that of plain training.
        probe_images: it looks at the loss of so many fixed images with fixed noise instead of
            those of training; None: it does not.
        waits: whether it has to be told the stages of another run before the first step.
    """

    look_every: int | None = None
    wants_images: ClassVar[bool] = False
    wants_weighted: ClassVar[bool] = False
    is_unbiased: ClassVar[bool] = False
    probe_images: int | None = None
    waits: bool = False

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
        if not (self.is_decided or self.wants_images or self.probe_images):
            self._losses += losses

    def take_images(self, times: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        """Take in every image's loss, where ``wants_images`` says so.

        Args:
            times: (S, B) noise times of the steps since the last call, in the global batch's order.
            losses: (S, B) ε-MSE, unweighted unless ``wants_weighted``.
        """
        raise NotImplementedError

    def looks_at(self, step: int) -> bool:
        """Whether it decides after ``step`` steps if the next stage begins."""
        if self.look_every is None or self.is_decided:
            return False
        return step > 0 and step % self.look_every == 0

    def look(self, step: int, probed: Callable[[int], float]) -> bool:
        """After ``step`` steps, at a step at which it looks: begin the next stage, or go on.

        It follows from the state alone, so a run that goes on from here decides the same again.

        Args:
            step: optimizer steps done.
            probed: number of images → their mean unweighted ε-MSE now, the same on all ranks.

        Returns:
            Whether a stage begins.
        """
        if not self.looks_at(step):
            return False
        losses, self._losses = self._losses, []
        if self.probe_images is not None:
            losses = [probed(self.probe_images)]
        if not self.moves_on(losses):
            return False
        number = len(self.stages)
        self.stages = (*self.stages, Stage(number, step, self._curriculum[number]))
        return True

    def moves_on(self, losses: list[float]) -> bool:
        """Whether the next stage begins now.

        Args:
            losses: of each step since the last look, as ``take`` was given them; or that of the
                probe alone.
        """
        raise NotImplementedError

    def follow(self, switches: Sequence[int]) -> list[str]:
        """Take over the stages of another run, which had the same curriculum.

        Args:
            switches: the steps at which its stages began.

        Returns:
            What to know of it, a line each.

        Raises:
            UserError: this kind follows none, or these make no curriculum.
        """
        raise UserError("the file names stages of another run, but its pacing follows none.")

    def kept(self, step: int) -> dict[str, Any]:
        """What a milestone after ``step`` steps keeps, for ``place`` to read: a ``KeptStages``."""
        return {"begun": [stage.start for stage in self.begun(step)]}

    def place(self, kept: Mapping[str, Any]) -> None:
        """Have the stages that had begun, as a milestone or a state keeps them.

        Raises:
            UserError: stages that are not of this curriculum.
        """
        self.stages = placed(self._curriculum, kept["begun"])

    def state_dict(self, step: int) -> dict[str, Any]:
        """What it needs to go on after ``step`` steps, as plain types: a ``PacerState``."""
        return self.kept(step) | {"losses": list(self._losses)}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a state; None: it was made before there were pacers, by a fixed table.

        Raises:
            UserError: the state has no pacing, or stages that are not of this curriculum.
        """
        if self.is_decided:
            return
        if state is None:
            raise UserError("the state does not say when its stages began; start the run anew.")
        self.place(state)
        self._losses = list(state["losses"])


@plain_dataclass(frozen=True)
class RunFacts:
    """What a pacer may need of a run.

    Attributes:
        seed: its seed.
        levels: its process's.
    """

    seed: int
    levels: NoiseLevels


@dataclass(frozen=True, config=_STRICT)
class Pacing:
    """What the settings of all kinds have.

    Attributes:
        kind: which one; a class of its own has one value, by which it is found.
        is_table: whether stages begin at steps that are known before any run.
        makes_stages: whether a run makes stages that its curriculum does not have.
        kept_schema: of what a milestone keeps of its pacer; files are checked against it.
        state_schema: of what a state keeps of it.
        follows: name of the folder, beside the run's ``output``, of the runs whose stages it takes
            over, each from that of the same seed; None: it follows none.
    """

    is_table: ClassVar[bool] = False
    makes_stages: ClassVar[bool] = False
    kept_schema: ClassVar[type[KeptStages]] = KeptStages
    state_schema: ClassVar[type[PacerState]] = PacerState
    kind: str

    @property
    def follows(self) -> str | None:
        """See above."""
        return None

    def pacer(self, curriculum: tuple[StageConfig, ...], total_steps: int, run: RunFacts) -> Pacer:
        """A pacer at the start of a run.

        Args:
            curriculum: all stages, in order.
            total_steps: length of the run.
            run: what else of it a pacer may need.

        Raises:
            UserError: a curriculum that cannot be paced so.
        """
        raise NotImplementedError
