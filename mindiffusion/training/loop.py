"""The training loop: one for every network, process, curriculum and number of ranks.

Step after step, with what lies between them: stages, the log, milestones, checkpoints, stops and
the check that all is finite.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindiffusion.curriculum.stages import Stage
from mindiffusion.errors import UserError
from mindiffusion.training.metrics_log import METRICS_FILE, MetricsLog
from mindiffusion.training.resume import go_on, save_milestone, save_state, take_over_stages
from mindiffusion.training.signals import (
    Interrupted,
    leaving_at_once,
    raise_if_stopped,
    stop_signals,
)
from mindiffusion.training.trainer import Trainer
from mindiffusion.training.watch import Divergence, peak_memory_gib

OnStep = Callable[[int, int], None]
OnMilestone = Callable[[int, Path], None]


@dataclass(frozen=True)
class Hooks:
    """What the caller wants to hear of.

    Attributes:
        on_step: called with (steps done, total) after every step, on the main rank.
        on_milestone: called with (step, weights file) on the main rank.
        on_resume: called on the main rank before a run goes on from a state.
    """

    on_step: OnStep = lambda done, total: None
    on_milestone: OnMilestone = lambda step, path: None
    on_resume: Callable[[], None] = lambda: None


def train(trainer: Trainer, run_dir: Path, hooks: Hooks, stop_after: int | None = None) -> None:
    """Train to the end, from wherever ``run_dir`` says the run is.

    Args:
        trainer: a fresh Trainer.
        run_dir: the run's folder, on a file system all ranks see.
        hooks: what to report.
        stop_after: leave after this step although the plan is longer (for smoke runs).

    Raises:
        Interrupted: after SIGINT, SIGTERM or SIGHUP, with the state saved.
        UserError: a loss or a gradient is not finite; the last good checkpoint stays.
    """
    ranks = trainer.ranks
    with ranks.phase("start"):
        go_on(trainer, run_dir)
        take_over_stages(trainer)
        ranks.barrier()
    metrics = MetricsLog(run_dir / METRICS_FILE, trainer.step) if ranks.is_main else None
    total = trainer.plan.total_steps
    last_step = min(total, stop_after or total)
    if trainer.step >= last_step:
        return
    clock = Clock(trainer)
    first_step = trainer.step
    with stop_signals() as received, contextlib.ExitStack() as stack:
        if metrics is not None:
            stack.callback(metrics.close)
        with ranks.main_alone("start: sample grids"):
            if first_step and ranks.is_main:
                hooks.on_resume()
        while trainer.step < last_step:
            _advance(trainer, clock, metrics, is_first=trainer.step == first_step)
            if ranks.is_main:
                hooks.on_step(trainer.step, total)
            _keep_books(trainer, run_dir, hooks, clock, metrics, received)
        # Asked during the last sample grid: nothing is left to save.
        raise_if_stopped()


def _advance(trainer: Trainer, clock: "Clock", metrics: MetricsLog | None, is_first: bool) -> None:
    """One step, on the stage it belongs to."""
    ranks, step = trainer.ranks, trainer.step + 1
    if is_first:
        # A probe is of the stage that was trained last; at the start, of the first one.
        trainer.density = trainer.pacer.stage_at(max(trainer.step - 1, 0)).density
    with clock, ranks.phase(f"step {step}: pacing"):
        begins = trainer.pacer.look(trainer.step, trainer.probe_loss)
    stage = trainer.pacer.stage_at(trainer.step)
    if begins and metrics is not None:
        metrics.write(_switch_entry(trainer, stage))
    is_compiling = is_first and trainer.runtime.compile
    with leaving_at_once() if is_compiling else contextlib.nullcontext():
        if is_first or trainer.step == stage.start:
            with ranks.phase(f"step {step}: stage entry"):
                trainer.enter_stage(stage)
        with clock, ranks.phase(f"step {step}: gradient exchange"):
            trainer.train_step()


def _switch_entry(trainer: Trainer, stage: Stage) -> dict[str, Any]:
    """The log's line for a stage that was found to begin now."""
    return {
        "step": trainer.step,
        "stage": stage.config.name,
        "begins": stage.index,
        "train_seconds": round(trainer.train_seconds, 3),
    }


def _keep_books(
    trainer: Trainer,
    run_dir: Path,
    hooks: Hooks,
    clock: "Clock",
    metrics: MetricsLog | None,
    received: list[int],
) -> None:
    """After a step: log, milestone, checkpoint, stop. All ranks take the same branches."""
    settings, ranks = trainer.config.training, trainer.ranks
    step, total = trainer.step, trainer.plan.total_steps
    is_milestone = step in trainer.plan.milestones
    is_checkpoint = step % settings.checkpoint_every == 0 or step == total or is_milestone
    is_log = step % settings.log_every == 0 or step == total
    with ranks.phase(f"step {step}: stop agreement"):
        stop = ranks.max(received[0] if received else 0)
    if not (is_checkpoint or is_log or stop or trainer.pacer.looks_at(step)):
        return
    with clock, ranks.phase(f"step {step}: log"):
        # The first look at a number waits for the device: its work is training time.
        diverged = trainer.watch.read(step)
    if diverged is None and not trainer.is_finite():
        diverged = Divergence(step, None, None)
    if diverged is not None:
        raise _divergence_error(trainer, diverged)
    if is_log:
        entry = log_entry(trainer, clock)
        if metrics is not None:
            metrics.write(entry)
    with ranks.main_alone(f"step {step}: checkpoint"):
        if ranks.is_main and (is_checkpoint or stop):
            path = save_milestone(trainer, run_dir) if is_milestone else None
            save_state(trainer, run_dir)
            if path is not None:
                hooks.on_milestone(step, path)
    with ranks.phase(f"step {step}: checkpoint"):
        ranks.barrier()
    if stop and step < total:
        raise Interrupted(stop)


def log_entry(trainer: Trainer, clock: "Clock") -> dict[str, Any]:
    """The log's line for the steps since the last one."""
    stage = trainer.pacer.stage_at(trainer.step - 1)
    return {
        "step": trainer.step,
        "stage": stage.config.name,
        **trainer.watch.entry(),
        **trainer.network.capacity_report(),
        **clock.lap(),
        "memory_gib": round(peak_memory_gib(trainer.process.device), 3),
        "train_seconds": round(trainer.train_seconds, 3),
    }


class Clock:
    """Counts a trainer's seconds of training, without evaluation and files.

    Args:
        trainer: whose time to keep.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._mark = self._now()
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._trainer.train_seconds += time.perf_counter() - self._started

    def _now(self) -> tuple[int, float, float]:
        trainer = self._trainer
        return trainer.step, trainer.train_seconds, trainer.source.wait_seconds

    def lap(self) -> dict[str, float | None]:
        """Images a second and the share of time spent on data, since the last lap."""
        then, self._mark = self._mark, self._now()
        steps, seconds, waited = (b - a for a, b in zip(then, self._mark, strict=True))
        if not seconds:
            return {"images_per_second": None, "data_wait": None}
        images = steps * self._trainer.config.training.global_batch
        return {
            "images_per_second": round(images / seconds, 1),
            "data_wait": round(waited / seconds, 5),
        }


def _divergence_error(trainer: Trainer, diverged: Divergence) -> UserError:
    """What the user reads: step, rank, noise times, and what to do."""
    stage = trainer.pacer.stage_at(diverged.step - 1)
    if diverged.t_range is None:
        what, where = "gradient or the weights are", "all ranks"
        low, high = stage.density.ends(trainer.process.num_levels)
    else:
        what, where = "loss is", f"rank {diverged.rank}"
        low, high = diverged.t_range
    return UserError(
        f"the {what} not finite at step {diverged.step} ({where}, stage {stage.config.name}, "
        f"t in [{low:g}, {high:g}]); the last good checkpoint is kept. Try a smaller training.lr, "
        "training.clip_grad_norm=1 or training.precision=fp32, in a folder of its own."
    )
