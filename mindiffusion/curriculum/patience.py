"""Pacing by patience: the next stage begins when the loss has not fallen for so many steps.

The rule is that of Kim et al. 2024, 2403.10348, as far as it is known: count the steps without a
new least training loss; past the patience, go to the next stage and forget the loss. On losses of
batches it is mostly a clock, because a least loss by luck stands for long (docs/clusters.md).
So a smoothed loss can be asked for, or that of a fixed probe.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.curriculum.pacer import Pacer, PacerState, Pacing, RunFacts
from mindiffusion.curriculum.stages import StageConfig, placed
from mindiffusion.tagged_union import TaggedUnion

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_MOST_STEPS = 999_999_999
_Count = Annotated[int, Field(ge=0, le=2**53)]


class Patience:
    """Counts the steps without a new least loss within one stage.

    Args:
        tau: it is out once more steps than these have had none.
        min_delta: by how much a loss must lie below the least one to be new.
        smoothing: decay of an average of the losses that is watched in their place, in (0, 1), free
            of its start as Adam's averages are; None: the losses themselves.
        burn_in: so many losses at the start of a stage go into the average and are not watched.
    """

    def __init__(
        self, tau: int, min_delta: float = 0.0, smoothing: float | None = None, burn_in: int = 0
    ) -> None:
        self._tau = tau
        self._min_delta = min_delta
        self._smoothing = smoothing
        self._burn_in = burn_in
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all losses."""
        self._least: float | None = None
        self._waited = 0
        self._seen = 0
        self._average = 0.0

    def is_out(self, loss: float, steps: int = 1) -> bool:
        """Whether it is out with this loss.

        Args:
            loss: the next one.
            steps: optimizer steps that it stands for.
        """
        self._seen += 1
        if self._smoothing is not None:
            self._average += (1.0 - self._smoothing) * (loss - self._average)
            loss = self._average / (1.0 - self._smoothing**self._seen)
        if self._seen <= self._burn_in:
            return False
        if self._least is None or loss < self._least - self._min_delta:
            self._least = loss
            self._waited = 0
        else:
            self._waited += steps
        return self._waited > self._tau

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, as plain types."""
        return {
            "least": self._least,
            "waited": self._waited,
            "seen": self._seen,
            "average": self._average,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._least, self._waited = state["least"], state["waited"]
        self._seen, self._average = state["seen"], state["average"]


class PatienceState(PacerState):
    """With what its patience remembers."""

    least: float | None
    waited: _Count
    seen: _Count
    average: float


class PatiencePacer(Pacer):
    """Begins the next stage at the first look after its patience was out.

    Args:
        curriculum: all stages, in order.
        patience: of a stage.
        look_every: steps between two looks.
        probe_images: see ``Pacer``.
    """

    def __init__(
        self,
        curriculum: tuple[StageConfig, ...],
        patience: Patience,
        look_every: int,
        probe_images: int | None = None,
    ) -> None:
        super().__init__(curriculum, placed(curriculum, [0]))
        self.look_every = look_every
        self.probe_images = probe_images
        self._patience = patience

    def moves_on(self, losses: list[float]) -> bool:
        """Whether its patience was out with one of the losses."""
        steps = 1 if self.probe_images is None else self.look_every or 1
        if not any(self._patience.is_out(loss, steps) for loss in losses):
            return False
        self._patience.start_anew()
        return True

    def state_dict(self, step: int) -> dict[str, Any]:
        """With what its patience remembers."""
        return super().state_dict(step) | self._patience.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a state, likewise."""
        super().load_state_dict(state)
        if state is not None:
            self._patience.load_state_dict(state)


@dataclass(frozen=True, config=_STRICT)
class PatiencePacing(Pacing):
    """Patience with the losses of training.

    Attributes:
        tau: the patience, in steps. 200 is a re-implementation's first value, not the paper's.
        min_delta: see ``Patience``.
        smoothing: see ``Patience``.
        burn_in: see ``Patience``.
        look_every: steps between two looks: only then does the run wait for its losses, and can a
            stage begin. Between two looks every step's loss counts.
    """

    state_schema: ClassVar[type[PacerState]] = PatienceState
    kind: Literal["patience"] = "patience"
    tau: int = Field(default=200, ge=1, le=_MOST_STEPS)
    min_delta: float = Field(default=0.0, ge=0, le=1e6)
    smoothing: float | None = Field(default=None, gt=0, lt=1)
    burn_in: int = Field(default=0, ge=0, le=_MOST_STEPS)
    look_every: int = Field(default=10, ge=1, le=_MOST_STEPS)

    def pacer(self, curriculum: tuple[StageConfig, ...], total_steps: int, run: RunFacts) -> Pacer:
        """A pacer in the first stage."""
        patience = Patience(self.tau, self.min_delta, self.smoothing, self.burn_in)
        return PatiencePacer(curriculum, patience, self.look_every)


@dataclass(frozen=True, config=_STRICT)
class ProbePacing(Pacing):
    """Patience with the loss of a fixed probe: the same images, noise and shares of noise times.

    What differs between two looks is the network alone, so luck with a batch sets no least loss.

    Attributes:
        tau: the patience, in steps.
        min_delta: see ``Patience``.
        look_every: steps between two probes.
        images: of a probe.
    """

    state_schema: ClassVar[type[PacerState]] = PatienceState
    kind: Literal["probe"] = "probe"
    tau: int = Field(default=200, ge=1, le=_MOST_STEPS)
    min_delta: float = Field(default=0.0, ge=0, le=1e6)
    look_every: int = Field(default=20, ge=1, le=_MOST_STEPS)
    images: int = Field(default=256, ge=1, le=1_000_000)

    def pacer(self, curriculum: tuple[StageConfig, ...], total_steps: int, run: RunFacts) -> Pacer:
        """A pacer in the first stage."""
        patience = Patience(self.tau, self.min_delta)
        return PatiencePacer(curriculum, patience, self.look_every, self.images)


PATIENT: dict[str, type[Pacing]] = {"patience": PatiencePacing, "probe": ProbePacing}
"""The kinds of pacing that find when given stages begin, by ``kind``."""
PatientPacing = Annotated[Pacing, TaggedUnion("kind", PATIENT)]
"""The settings of any of them, read by their ``kind``."""
