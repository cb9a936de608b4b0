"""What a study has left to do, and how long that takes here; nothing is written."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.cells.duration import duration
from benchmark.cells.preflight import check_study
from benchmark.cells.progress import scored_steps, title, work_of
from benchmark.rows.file import ROWS_FILE, rows_files
from benchmark.study.declaration import declaration, fingerprint
from benchmark.study.study import Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import RunConfig
from mindiffusion.data.store import num_train_images
from mindiffusion.training.metrics_log import METRICS_FILE, read_metrics
from mindiffusion.training.run_files import newest_checkpoint

SCORED = "scored"
TO_DO = "to do"
_TIMED_ON_A_CPU = 16
"""Images of a timed step: in a larger batch an image takes a CPU as long."""


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
    in_all = duration(total * seconds / at_a_time)
    print(f"{len(runs)} cells, about {in_all} in all, {at_a_time} at a time ({how})")
    print(f"{declaration(study)}; fingerprint of {study.name}: {fingerprint(study)}")
    _print_how_far_learned(study)
    return 0


def _print_how_far_learned(study: Study) -> None:
    if not rows_files(study.folder / ROWS_FILE):
        return
    # Inside: a study that has no rows yet is told of without loading pandas.
    from benchmark.analysis.answer import baseline_line

    learned = baseline_line(study.folder)
    if learned:
        print(learned)


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
    """Seconds for a forward pass of one image, from three times forward and backward.

    Without the optimizer and the compiler: their first use takes longer than all the rest, and
    somebody waits for the answer.
    """
    import torch

    from mindiffusion.build import build_network
    from mindiffusion.runtime import resolve_runtime

    runtime = resolve_runtime(config, 1)
    torch.set_num_threads(runtime.threads)
    network = build_network(config).to(runtime.device, runtime.dtype)
    network.to(memory_format=torch.channels_last)
    count = config.training.micro_batch or config.training.global_batch
    if runtime.device == "cpu":
        count = min(count, _TIMED_ON_A_CPU)
    images = torch.zeros(
        (count, *config.input_shape),
        device=runtime.device,
        dtype=runtime.dtype,
    ).contiguous(memory_format=torch.channels_last)
    told = torch.ones(count, device=runtime.device, dtype=runtime.dtype)

    def step() -> float:
        with runtime.autocast():
            error = network(images, told).square().mean()
        error.backward()
        return error.item()  # waits for the device

    step()
    started = time.perf_counter()
    for _ in range(3):
        step()
    return (time.perf_counter() - started) / 3 / (3.0 * count)
