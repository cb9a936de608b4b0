"""What a study has left to do, and how long that takes here; nothing is written."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmark.analysis.answer import baseline_line
from benchmark.cells.preflight import check_study
from benchmark.cells.progress import scored_steps, title, work_of
from benchmark.study.declaration import declaration, fingerprint
from benchmark.study.study import Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import RunConfig
from mindiffusion.data.store import num_train_images
from mindiffusion.training.metrics_log import METRICS_FILE, read_metrics
from mindiffusion.training.run_files import newest_checkpoint

SCORED = "scored"
TO_DO = "to do"


@dataclass(frozen=True)
class MilestoneState:
    """How far one milestone of a run is.

    Attributes:
        step: optimizer steps.
        state: "scored", "trained", "at step …" or "to do".
        work_left: in forward passes of one image, from the milestone before.
    """

    step: int
    state: str
    work_left: float


def cell_states(study: Study, config: RunConfig) -> list[MilestoneState]:
    """Every milestone of one run of a study, in order."""
    whole, work = resolve_plan(config, num_train_images(config.data)), work_of(study, config)
    done = scored_steps(study, config)
    step = newest_checkpoint(config.run_dir)
    states, before = [], 0
    for milestone in whole.milestones:
        training = work.step * (milestone - min(milestone, max(step, before)))
        scoring = work.milestone + work.end * (milestone == whole.milestones[-1])
        if milestone in done:
            states.append(MilestoneState(milestone, SCORED, 0.0))
        elif step >= milestone:
            states.append(MilestoneState(milestone, "trained", scoring))
        else:
            state = f"at step {step}" if step > before else TO_DO
            states.append(MilestoneState(milestone, state, training + scoring))
        before = milestone
    return states


def work_left(states: Sequence[MilestoneState]) -> float:
    """Work left of some milestones, in forward passes of one image."""
    return sum(state.work_left for state in states)


def minutes_left(study: Study, runs: Sequence[RunConfig], slots: int) -> float:
    """Estimated minutes until runs are done, so many at a time."""
    seconds, _ = seconds_per_work(study)
    left = sum(work_left(cell_states(study, config)) for config in runs)
    return left * seconds / 60 / min(slots, len(runs))


def print_dry_run(study: Study, runs: Sequence[RunConfig], slots: int) -> int:
    """List every cell with its state and estimated minutes; one under way with its milestones.

    Args:
        study: the study.
        runs: which of its runs.
        slots: how many run at a time.
    """
    for line in check_study(study, runs):
        print(line, file=sys.stderr)
    seconds, how = seconds_per_work(study)
    lines, total = [], 0.0
    for config in runs:
        states = cell_states(study, config)
        kinds = {state.state for state in states}
        scored = sum(state.state == SCORED for state in states)
        what = TO_DO if kinds == {TO_DO} else f"scored {scored}/{len(states)}"
        lines.append((title(config), what, work_left(states)))
        if not kinds <= {SCORED, TO_DO} or len(kinds) > 1:
            lines += [(f"  step {one.step}", one.state, one.work_left) for one in states]
        total += work_left(states)
    width = max(len(name) for name, _, _ in lines)
    for name, what, work in lines:
        print(f"{name:<{width}}  {what:<14} {work * seconds / 60:7.1f} min")
    at_a_time = min(slots, len(runs))
    minutes = total * seconds / 60 / at_a_time
    print(f"{len(runs)} cells, about {minutes:.1f} minutes in all, {at_a_time} at a time ({how})")
    print(f"{declaration(study)}; fingerprint of {study.name}: {fingerprint(study)}")
    learned = baseline_line(study.folder)
    if learned:
        print(learned)
    return 0


def seconds_per_work(study: Study) -> tuple[float, str]:
    """Seconds for a forward pass of one image, and how that was found.

    From the logs of the study's own runs where there are any, else three steps timed now.
    """
    for config in study.runs:
        log = config.run_dir / METRICS_FILE
        entries = read_metrics(log) if log.exists() else []
        if entries:
            last = entries[-1]
            work = work_of(study, config).step * last["step"]
            return last["train_seconds"] / work, f"speed of {title(config)} so far"
    return _time_steps(study.runs[0]), "three steps timed now"


def _time_steps(config: RunConfig) -> float:
    import numpy as np

    from mindiffusion.runtime import resolve_runtime
    from mindiffusion.training.ranks import Ranks, process_group
    from mindiffusion.training.trainer import Trainer

    side, batch = config.data.size, config.training.global_batch
    # Black and white ones: a process may need images that differ.
    images = np.zeros((max(2, batch), side, side, 3), dtype=np.uint8)
    images[::2] = 255
    runtime = resolve_runtime(config, 1)
    with process_group(Ranks(), runtime.device) as device:
        trainer = Trainer(_in_steps(config), runtime, Ranks(), device, images)
        trainer.train_step()
        trainer.watch.read(trainer.step)
        started = time.perf_counter()
        for _ in range(3):
            trainer.train_step()
        # On a GPU the steps are done only when their results are asked for.
        trainer.watch.read(trainer.step)
    return (time.perf_counter() - started) / 3 / (3.0 * batch)


def _in_steps(config: RunConfig) -> RunConfig:
    """The run with a length that does not depend on the data."""
    training = replace(config.training, epochs=None, steps=1000, milestones=("100%",), log_every=50)
    return replace(config, training=training)
