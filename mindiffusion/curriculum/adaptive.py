"""Densities that follow the losses: a stage of every so many steps, with a density of its own.

What such a run trains is made while it runs. So its pacer makes the stages too, each a histogram of
noise time, and states and milestones keep their masses. Estimates are by bins of noise time.
"""

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from mindiffusion.curriculum.density import Histogram
from mindiffusion.curriculum.pacer import KeptStages, Pacer, PacerState, Pacing, RunFacts
from mindiffusion.curriculum.stages import StageConfig, placed
from mindiffusion.errors import UserError

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_MOST_STAGES = 2000
"""That a run may make: as many as files hold, each with its masses."""
_MOST_BINS, _MOST_HISTORY = 200, 100


_OfBins = Annotated[list[float], Field(max_length=_MOST_BINS)]


class MadeStages(KeptStages):
    """With the masses of all stages but the first."""

    masses: Annotated[list[_OfBins], Field(max_length=10_000)]


@plain_dataclass(frozen=True)
class Making:
    """How stages are made.

    Attributes:
        every: steps between two looks.
        edges: of the bins as a histogram has them, low noise first.
        uniform: share of the draws that is spread over all bins alike.
    """

    every: int
    edges: tuple[float, ...]
    uniform: float


class AdaptivePacer(Pacer):
    """Begins a stage with a new density at each look at which it can tell one.

    Args:
        curriculum: the stage that comes first, alone.
        making: how the others are made.
    """

    wants_images = True

    def __init__(self, curriculum: tuple[StageConfig, ...], making: Making) -> None:
        super().__init__(curriculum, placed(curriculum, [0]))
        self.look_every = making.every
        self._edges = making.edges
        self._bins = len(making.edges) - 1
        self._uniform = making.uniform
        self._masses: list[list[float]] = []

    @property
    def is_decided(self) -> bool:
        """Never: there is always another stage."""
        return False

    def estimate(self) -> NDArray[np.float64] | None:
        """Of each bin, what its mass shall be in proportion to; None: it cannot be told yet."""
        raise NotImplementedError

    def moves_on(self, losses: list[float]) -> bool:
        """Make the next stage."""
        found = self.estimate()
        if found is None:
            return False
        shares = (1.0 - self._uniform) * found / found.sum() + self._uniform / self._bins
        self._add_stage(shares.tolist())
        return True

    def _add_stage(self, masses: list[float]) -> None:
        first, number = self._curriculum[0], len(self._curriculum)
        density = Histogram(self._edges, tuple(masses))
        made = replace(first, name=f"{first.name}_{number}", density=density)
        self._curriculum = (*self._curriculum, made)
        self._masses.append(masses)

    def bins_of(self, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Bins, from 0, of noise times in (0, 1]; bin k holds k/n < t ≤ (k + 1)/n."""
        # Noise times were rounded to float32, which must not move a counted level over an edge.
        inside = np.ceil(times * self._bins - 1e-5).astype(np.int64) - 1
        return np.clip(inside, 0, self._bins - 1)

    def kept(self, step: int) -> dict[str, Any]:
        """With the masses of all stages but the first."""
        begun = super().kept(step)
        return begun | {"masses": list(self._masses[: len(begun["begun"]) - 1])}

    def place(self, kept: Mapping[str, Any]) -> None:
        """Have the stages that had begun, with their masses.

        Raises:
            UserError: masses that make no such stages.
        """
        masses = kept.get("masses")
        is_ours = masses is not None and len(masses) == len(kept["begun"]) - 1
        if not is_ours or not all(len(each) == self._bins for each in masses or ()):
            raise UserError(
                f"the file does not say the {self._bins} masses of each stage that its run made; "
                "start the run anew."
            )
        self._curriculum, self._masses = self._curriculum[:1], []
        try:
            for each in masses or ():
                self._add_stage(list(each))
        except (UserError, ValidationError):
            raise UserError(
                f"the masses of stage {len(self._curriculum) + 1} in the file are no distribution "
                "(numbers >= 0 of sum 1); start the run anew."
            ) from None
        super().place(kept)


class InfoNoiseState(PacerState, MadeStages):
    """With sums of losses, numbers of them and their last means, of each bin."""

    sums: _OfBins
    counts: _OfBins
    means: _OfBins


class InfoNoisePacer(AdaptivePacer):
    """Masses in proportion to the loss of entropy in each bin.

    Args:
        curriculum, making: as above.
        widths: (bins,) of the bins in ln σ.
    """

    def __init__(
        self, curriculum: tuple[StageConfig, ...], making: Making, widths: NDArray[np.float64]
    ) -> None:
        super().__init__(curriculum, making)
        self._widths = widths
        self._sums = np.zeros(self._bins)
        self._counts = np.zeros(self._bins)
        self._means = np.zeros(self._bins)

    def take_images(self, times: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        """Add up losses by bin, image after image: no sum depends on how many come at once."""
        np.add.at(self._sums, self.bins_of(times).ravel(), losses.ravel())
        np.add.at(self._counts, self.bins_of(times).ravel(), 1.0)

    def estimate(self) -> NDArray[np.float64] | None:
        """Mean ε-MSE since the last look, or before it where no image was, times the width."""
        seen = self._counts > 0
        self._means[seen] = self._sums[seen] / self._counts[seen]
        self._sums[:], self._counts[:] = 0.0, 0.0
        return self._means * self._widths if (self._means > 0).all() else None

    def state_dict(self, step: int) -> dict[str, Any]:
        """With its sums."""
        sums = {"sums": self._sums, "counts": self._counts, "means": self._means}
        return super().state_dict(step) | {name: each.tolist() for name, each in sums.items()}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a state, likewise."""
        super().load_state_dict(state)
        for name, own in (("sums", self._sums), ("counts", self._counts), ("means", self._means)):
            own[:] = _numbers(state or {}, name, own.shape)


class SecondMomentState(PacerState, MadeStages):
    """With the last losses, bin after bin, and how many there were of each."""

    last_losses: Annotated[list[float], Field(max_length=_MOST_BINS * _MOST_HISTORY)]
    seen: _OfBins


class SecondMomentPacer(AdaptivePacer):
    """Masses in proportion to √E[L²] over the last losses of each bin, once all bins have so many.

    Args:
        curriculum, making: as above.
        history: how many losses.
    """

    wants_weighted = True
    is_unbiased = True

    def __init__(self, curriculum: tuple[StageConfig, ...], making: Making, history: int) -> None:
        super().__init__(curriculum, making)
        self._last = np.zeros((self._bins, history))
        self._seen = np.zeros(self._bins)

    def take_images(self, times: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        """Keep the last losses of each bin."""
        bins = self.bins_of(times).ravel()
        for one, loss in zip(bins.tolist(), losses.ravel().tolist(), strict=True):
            self._last[one, int(self._seen[one]) % self._last.shape[1]] = loss
            self._seen[one] += 1

    def estimate(self) -> NDArray[np.float64] | None:
        """The root of the mean square."""
        if (self._seen < self._last.shape[1]).any():
            return None
        return np.asarray(np.sqrt((self._last**2).mean(axis=1)))

    def state_dict(self, step: int) -> dict[str, Any]:
        """With the last losses."""
        kept = {"last_losses": self._last.ravel().tolist(), "seen": self._seen.tolist()}
        return super().state_dict(step) | kept

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a state, likewise."""
        super().load_state_dict(state)
        last = _numbers(state or {}, "last_losses", (self._last.size,))
        self._last[:] = last.reshape(self._last.shape)
        self._seen[:] = _numbers(state or {}, "seen", self._seen.shape)


def _numbers(state: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """As many numbers of a state as there are to be; which is not told by its schema."""
    values = np.array(state.get(name), dtype=np.float64)
    if values.shape != shape:
        raise UserError(f"the state does not hold {shape[0]} {name!r}; start the run anew.")
    return values


@dataclass(frozen=True, config=_STRICT)
class AdaptivePacing(Pacing):
    """What the settings of both kinds have.

    Attributes:
        every: steps that a stage lasts.
        bins: equal bins of noise time.
        uniform: share of the draws that is spread over all bins alike, in (0, 1].
    """

    makes_stages: ClassVar[bool] = True
    kept_schema: ClassVar[type[KeptStages]] = MadeStages
    every: int = Field(default=500, ge=1, le=999_999_999)
    bins: int = Field(default=50, ge=2, le=_MOST_BINS)

    def _edges(
        self, curriculum: tuple[StageConfig, ...], total_steps: int, run: RunFacts
    ) -> tuple[float, ...]:
        """Of the bins; of counted levels, a bin begins at its first one."""
        n = run.levels.num_levels
        if total_steps > _MOST_STAGES * self.every:
            raise UserError(
                f"pacing.every is {self.every}, but in {total_steps} steps that makes more than "
                f"{_MOST_STAGES} stages; give at least {-(-total_steps // _MOST_STAGES)}."
            )
        if len(curriculum) != 1:
            raise UserError(
                f"pacing.kind {self.kind} makes the stages after the first one itself, but the "
                f"curriculum has {len(curriculum)}; give one stage."
            )
        if n is not None and 2 * self.bins > n:
            raise UserError(
                f"pacing.bins is {self.bins}, but the process has {n} noise levels; give at most "
                "half as many."
            )
        inner = range(1, self.bins)
        lows = (k / self.bins if n is None else (k * n // self.bins + 1) / n for k in inner)
        return (0.0, *lows, 1.0)


@dataclass(frozen=True, config=_STRICT)
class InfoNoisePacing(AdaptivePacing):
    """Noise in proportion to the rate at which it removes information: InfoNoise, 2602.18647.

    The rate of the conditional entropy by ln σ is E‖x̂₀ − x₀‖²/σ², the whole error of the noise (Guo
    et al. 2005, I-MMSE). Bins, updates and the uniform part are ours.

    Attributes:
        uniform: see above.
    """

    state_schema: ClassVar[type[PacerState]] = InfoNoiseState
    kind: Literal["info_noise"] = "info_noise"
    uniform: float = Field(default=0.05, gt=0, le=1)

    def pacer(self, curriculum: tuple[StageConfig, ...], total_steps: int, run: RunFacts) -> Pacer:
        """A pacer in the first stage."""
        making = Making(self.every, self._edges(curriculum, total_steps, run), self.uniform)
        return InfoNoisePacer(curriculum, making, widths_in_log_sigma(self.bins, run))


def widths_in_log_sigma(bins: int, run: RunFacts) -> NDArray[np.float64]:
    """(bins,) widths in ln σ of equal bins of noise time, low noise first.

    What lies below the lowest level that a sampler asks for has no width.
    """
    edges = np.maximum(np.arange(bins + 1) / bins, run.levels.lowest_time)
    return np.diff(run.levels.log_sigma(edges))


@dataclass(frozen=True, config=_STRICT)
class SecondMomentPacing(AdaptivePacing):
    """Importance sampling by the loss's second moment: Nichol and Dhariwal 2021, 2102.09672.

    Losses are weighted by the inverse of the density, so the expected loss is plain training's. L
    is the ε-error of plain training: with the process's weight, without that inverse, and without
    the variational bound from which a network may learn a variance. In the paper L is a term of
    that bound, and the last 10 losses of each level decide at every step; here those of each bin,
    at a look.

    Attributes:
        uniform: see above.
        history: losses of each bin.
    """

    state_schema: ClassVar[type[PacerState]] = SecondMomentState
    kind: Literal["loss_second_moment"] = "loss_second_moment"
    uniform: float = Field(default=0.001, gt=0, le=1)
    history: int = Field(default=10, ge=1, le=_MOST_HISTORY)

    def pacer(self, curriculum: tuple[StageConfig, ...], total_steps: int, run: RunFacts) -> Pacer:
        """A pacer in the first stage."""
        making = Making(self.every, self._edges(curriculum, total_steps, run), self.uniform)
        return SecondMomentPacer(curriculum, making, self.history)
