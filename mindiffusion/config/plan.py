"""From lengths and weights to steps: how long a run is, when its stages and milestones fall."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mindiffusion.config.run import MOST_STEPS, RunConfig, TrainingConfig
from mindiffusion.config.shares import warm_up_of
from mindiffusion.curriculum.clock import to_noise_time
from mindiffusion.curriculum.density import on_noise_time
from mindiffusion.curriculum.pacer import Pacer, Pacing, RunFacts
from mindiffusion.curriculum.stages import Stage, StageConfig, check_order, stage_ends
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value


@dataclass(frozen=True)
class Plan:
    """What a config means for a data set of known size.

    Attributes:
        total_steps: optimizer steps.
        milestones: steps at which weights are kept, rising.
        curriculum: the stages in order, their densities on the noise-time clock.
        pacing: how it is found when they begin.
        run: what else of it a pacer may need.
    """

    total_steps: int
    milestones: tuple[int, ...]
    curriculum: tuple[StageConfig, ...]
    pacing: Pacing
    run: RunFacts

    def pacer(self) -> Pacer:
        """A pacer at the start of the run."""
        return self.pacing.pacer(self.curriculum, self.total_steps, self.run)

    def begun(self, content: Mapping[str, Any]) -> tuple[Stage, ...]:
        """The stages that a milestone's weights were trained in, as its file says.

        Files that were made before runs had pacers do not say it; their tables were fixed.

        Args:
            content: the loaded milestone file.

        Raises:
            UserError: it names steps or stages that this run cannot have, or none, though only the
                run itself could find them.
        """
        pacer = self.pacer()
        if content.get("begun") is None:
            if not self.pacing.is_table:
                raise UserError(
                    "the file does not say when its stages began, which pacing.kind "
                    f"{self.pacing.kind} finds only during the run; train that run anew."
                )
            return pacer.begun(content["step"])
        pacer.place(content)
        return pacer.stages


def resolve_plan(config: RunConfig, num_train: int) -> Plan:
    """Turn epochs, percentages and weights into steps.

    Args:
        config: the run.
        num_train: number of training images.

    Raises:
        UserError: no length or two, a warm-up or a milestone past the end, a stage without a step.
    """
    training = config.training
    total = _total_steps(training, num_train)
    steps_per_epoch = num_train / training.global_batch
    process = config.process
    curriculum = tuple(
        replace(c, density=to_noise_time(c.density, process.log_sigma, process.num_levels))
        for c in config.curriculum
    )
    check_order(curriculum)
    facts = RunFacts(config.seed, process)
    try:
        pacer = config.pacing.pacer(curriculum, total, facts)
        milestones = {
            step
            for spec in training.milestones
            for step in _steps_of(spec, config.pacing.kind, pacer, total, steps_per_epoch)
        }
    except UserError as error:
        if training.epochs is None:
            raise
        raise UserError(
            f"{error} An epoch of {num_train} training images at training.global_batch "
            f"{training.global_batch} is {steps_per_epoch:.3g} steps."
        ) from None
    for stage in curriculum:
        # Refused here, not when the stage is entered after hours.
        on_noise_time(stage.density).ends(process.num_levels)
    return Plan(total, tuple(sorted(milestones)), curriculum, config.pacing, facts)


def _total_steps(training: TrainingConfig, num_train: int) -> int:
    """How many steps are trained.

    Raises:
        UserError: no length or two, too many steps, or a warm-up that would not end.
    """
    if (training.epochs is None) == (training.steps is None):
        raise UserError(
            f"training.epochs is {training.epochs} and training.steps is {training.steps}; "
            "give exactly one of the two (set the other to null)."
        )
    whole = training.steps or (training.epochs or 0) * (num_train / training.global_batch)
    total = max(1, math.floor(whole * training.length + 0.5))
    if total > MOST_STEPS:
        raise UserError(
            f"training.epochs {training.epochs:g} of {num_train} images are {total} steps; at most "
            f"{MOST_STEPS} are trained, so give fewer epochs or a larger training.global_batch."
        )
    warm_up = warm_up_of(training.optimizer.warm_up_steps, total)
    if warm_up > total:
        raise UserError(
            f"training.optimizer.warm_up_steps is {warm_up}, but the run has {total} steps, so it "
            "would never reach training.lr; give at most that, or train longer."
        )
    return total


def _steps_of(
    spec: str | int, kind: str, pacer: Pacer, total_steps: int, steps_per_epoch: float
) -> list[int]:
    if spec != "stages":
        return [milestone_step(spec, total_steps, steps_per_epoch)]
    if not pacer.is_decided:
        raise UserError(
            f"training.milestones has 'stages', but pacing.kind {kind} finds only during the run "
            "when stages end; give steps, '25%' or '10 epochs'."
        )
    return stage_ends(pacer.stages, total_steps)


def milestone_step(spec: str | int, total_steps: int, steps_per_epoch: float) -> int:
    """Step of one milestone: 500, "500", "25%" or "10 epochs"; rounded half up.

    Raises:
        UserError: unreadable, or outside 1 … total_steps.
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*(%|epochs?|steps?)?\s*", str(spec))
    try:
        amount = float(match[1]) if match else math.nan
    except ValueError:
        amount = math.nan
    if match is None or not math.isfinite(amount):
        raise UserError(
            f"milestone {shown_value(spec)} is unreadable; write 500, '25%', '10 epochs' or "
            "'stages'."
        )
    unit = match[2] or "steps"
    scale = {"%": total_steps / 100, "e": steps_per_epoch, "s": 1.0}[unit[0]]
    step = math.floor(amount * scale + 0.5)
    if not 1 <= step <= total_steps:
        raise UserError(
            f"milestone {spec!r} is step {step}, but the run has steps 1 to {total_steps}; "
            "move the milestone or raise training.steps."
        )
    return step


def rank_share(global_batch: int, world: int) -> int:
    """Images of each rank in one step.

    Raises:
        UserError: the global batch does not divide by the ranks.
    """
    if global_batch % world:
        near = world * max(1, round(global_batch / world))
        raise UserError(
            f"global batch {global_batch} is not divisible by {world} ranks; "
            f"try --global-batch {near}."
        )
    return global_batch // world
