"""Stages: a curriculum is a table of frozen rows and a pure look-up.

In a fixed table lengths are weights: stage i ends at round(cumulative share · total steps), half
up. When stages of other curricula begin is decided during the run: see ``pacing.py``.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from mindiffusion.curriculum.density import TimeDensity, Window, on_noise_time
from mindiffusion.curriculum.noise_time import NoiseTimeDensity
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import Name, shown_value


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class StageConfig:
    """One stage as written in a preset.

    Attributes:
        name: shown in logs, rows and figures.
        weight: length relative to the other stages (the seed's epochs: 5, 10, 15, 20, 30), > 0.
        density: on which noise times to train.
        sparsity: fraction of the units under a mask off, in [0, 1); for networks with one.
        penalty_lambda: weight of the group-L1 penalty, ≥ 0; for networks with a penalty.
    """

    name: Name
    weight: float = Field(gt=0, le=1e12)
    density: TimeDensity = Window()
    sparsity: float = Field(default=0.0, ge=0, lt=1)
    penalty_lambda: float = Field(default=0.0, ge=0, le=1e12)


@dataclass(frozen=True)
class Stage:
    """One stage of a run, with its place: from ``start`` until the next one starts.

    Attributes:
        index: position, from 0.
        start: first step, from 0.
        config: what is trained.
    """

    index: int
    start: int
    config: StageConfig

    @property
    def density(self) -> NoiseTimeDensity:
        """On which noise times it trains; on their clock, as plans have it."""
        return on_noise_time(self.config.density)


def check_order(configs: tuple[StageConfig, ...]) -> None:
    """Refuse a sequence of stages that no run can go through.

    Raises:
        UserError: there is no stage, or sparsity rises.
    """
    if not configs:
        raise UserError("curriculum has no stage; give at least one.")
    for before, after in itertools.pairwise(configs):
        if after.sparsity > before.sparsity:
            raise UserError(
                f"stage {after.name!r} has sparsity {after.sparsity:g}, more than the stage before "
                f"({before.sparsity:g}); channels only grow, so let sparsity fall."
            )


def resolve_stages(configs: tuple[StageConfig, ...], total_steps: int) -> tuple[Stage, ...]:
    """Place the stages on the steps of a run by their weights.

    Raises:
        UserError: one would have no step.
    """
    total_weight = math.fsum(c.weight for c in configs)
    shares = [
        math.fsum(c.weight for c in configs[: i + 1]) / total_weight for i in range(len(configs))
    ]
    ends = [math.floor(share * total_steps + 0.5) for share in shares]
    starts = [0, *ends[:-1]]
    for config, start, end in zip(configs, starts, ends, strict=True):
        if end <= start:
            raise UserError(
                f"stage {config.name!r} would have no step of {total_steps}; "
                "raise training.steps or the stage's weight."
            )
    return placed(configs, starts)


def placed(configs: tuple[StageConfig, ...], starts: Sequence[int]) -> tuple[Stage, ...]:
    """The first stages of a curriculum at known first steps.

    Args:
        configs: all stages, in order.
        starts: first steps of one or more of them.

    Raises:
        UserError: more stages than there are, or steps that no run has.
    """
    is_rising = all(before < after for before, after in itertools.pairwise(starts))
    if not 1 <= len(starts) <= len(configs) or starts[0] != 0 or not is_rising:
        raise UserError(
            f"stages that began at steps {shown_value(list(starts))}: allowed are 1 to "
            f"{len(configs)} rising steps, the first of them 0."
        )
    return tuple(map(Stage, range(len(starts)), starts, configs))


def stage_ends(stages: tuple[Stage, ...], total_steps: int) -> list[int]:
    """One past the last step of each stage, where the last one goes on to the run's end."""
    return [*(stage.start for stage in stages[1:]), total_steps]


def stage_at(stages: tuple[Stage, ...], step: int) -> Stage:
    """The stage that trains ``step``."""
    return next(stage for stage in reversed(stages) if stage.start <= step)


def trained_on_all_levels(
    stages: tuple[Stage, ...], step: int, low: float = 0.0, high: float = 1.0
) -> bool:
    """Whether the stages trained in the first ``step`` steps cover all noise levels together.

    Noise times between ``low`` and ``high`` are asked for.

    Sampling runs through all noise levels, so an arm for which they do not samples through some
    that were never trained: its scores are hollow points.
    """
    intervals = sorted(
        interval
        for stage in stages
        if stage.start < max(step, 1)
        for interval in stage.config.density.intervals
    )
    covered = low
    for t_min, t_max in intervals:
        if t_min > covered:
            return False
        covered = max(covered, t_max)
    return covered >= high
