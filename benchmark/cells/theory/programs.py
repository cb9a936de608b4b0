"""The runs of a study of the two-feature theory in programs: which train together, and how far.

A program that was interrupted goes on from its state; one of which all milestones have rows is
never run again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmark.evaluation.theory.theory_rows import theory_proof, theory_rows
from benchmark.rows.file import ROWS_FILE, append_rows
from benchmark.rows.known_rows import known_rows
from benchmark.rows.row import key
from benchmark.study.declaration import declaration
from benchmark.study.kinds import hash_of_run
from benchmark.study.theory_study import TheoryStudy
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.files import sha256_of_json
from mindiffusion.theory.resumable import simulate
from mindiffusion.theory.setting import TheoryRun, planned
from mindiffusion.theory.simulation import Snapshot
from mindiffusion.training.signals import raise_if_stopped, stop_signals, was_stopped

_MOST_NUMBERS = 800_000
"""What the hidden neurons of one program hold at once, runs × batch × width: more than some
megabytes would leave the processor's caches (docs/theory.md, Speed)."""
STATES = "states"


@dataclass(frozen=True)
class Program:
    """Runs that train together, with where their state is kept."""

    runs: tuple[TheoryRun, ...]
    state: Path

    @property
    def work(self) -> float:
        """Numbers that training reads: weights times samples, over all steps."""
        return sum(work_of_run(run) for run in self.runs)


def work_of_run(run: TheoryRun) -> float:
    """Numbers that training a run reads: weights times samples, over all steps."""
    weights = 2.0 * run.model.width * run.data.ambient_dim
    return weights * run.training.global_batch * planned(run).total_steps


def programs_of(study: TheoryStudy, runs: Sequence[TheoryRun]) -> list[Program]:
    """The programs of some runs, the same for the same runs.

    The runs of one program have everything in common but what arms may differ in, and whole seeds,
    for the arms of a seed see the same samples.
    """
    alike: dict[TheoryRun, dict[int, list[TheoryRun]]] = {}
    for run in runs:
        alike.setdefault(_in_common(run), {}).setdefault(run.seed, []).append(run)
    programs = []
    for common, by_seed in alike.items():
        most = max(len(members) for members in by_seed.values())
        size = most * common.training.global_batch * common.model.width
        at_once = max(1, _MOST_NUMBERS // size)
        seeds = list(by_seed)
        for first in range(0, len(seeds), at_once):
            chunk = seeds[first : first + at_once]
            members = tuple(run for seed in chunk for run in by_seed[seed])
            name = sha256_of_json([hash_of_run(run) for run in members])[:12]
            programs.append(Program(members, study.folder / STATES / f"{name}.pt"))
    return programs


def _in_common(run: TheoryRun) -> TheoryRun:
    """A run without what the runs of one program may differ in."""
    training = replace(run.training, length=1.0, milestones=())
    stages = (StageConfig("", 1.0),)
    return replace(run, arm="", seed=0, noise_stream=0, curriculum=stages, training=training)


def scored_milestones(study: TheoryStudy, run: TheoryRun) -> set[int]:
    """Milestones of a run that have all their rows."""
    rows = known_rows(study.folder / ROWS_FILE).read_on()
    proofs = rows.scored.get((run.arm, run.seed, hash_of_run(run)), {})
    return proofs.get(theory_proof(study), set())


def is_unscored(study: TheoryStudy, run: TheoryRun) -> bool:
    """Whether a run has milestones without rows."""
    return not scored_milestones(study, run) >= set(planned(run).milestones)


def unscored_programs(study: TheoryStudy, runs: Sequence[TheoryRun]) -> list[tuple[int, Program]]:
    """Those of the programs of some runs that have milestones without rows, with their places."""
    return [
        (place, program)
        for place, program in enumerate(programs_of(study, runs))
        if any(is_unscored(study, run) for run in program.runs)
    ]


def do_programs(
    study: TheoryStudy,
    programs: Sequence[Program],
    seconds: float,
    report: Callable[[int], object],
) -> None:
    """Train the runs of programs, writing each milestone's rows; what is left has its state.

    Args:
        study: the study.
        programs: one after the other.
        seconds: how long this may take.
        report: told how many milestones of runs have rows now.

    Raises:
        UserError: a run whose weights are not finite, or a state of other runs.
        Interrupted: a signal asked to stop; the state is saved.
    """
    # One thread: two took twelve times the CPU time on a busy machine, waiting for each other.
    torch.set_num_threads(1)
    give_up = time.monotonic() + seconds
    with stop_signals():
        for program in programs:
            if not _do(study, program, give_up, report):
                raise_if_stopped()
                return


def _do(
    study: TheoryStudy, program: Program, give_up: float, report: Callable[[int], object]
) -> bool:
    """Whether all runs of a program have come to their end."""
    declared, in_full = declaration(study), min(run.seed for run in study.runs)
    path = study.folder / ROWS_FILE
    known = known_rows(path)
    for run in program.runs:
        known.follow(run.arm, run.seed)

    def keep(snapshot: Snapshot) -> None:
        # After a crash a milestone may come once more.
        there = {(run.arm, run.seed): known.rows_of(run.arm, run.seed) for run in snapshot.runs}
        rows = theory_rows(study, snapshot, declared, in_full)
        append_rows(path, [row for row in rows if key(row) not in there[row.arm, row.seed]])
        report(len(snapshot.runs))

    return simulate(
        program.runs,
        keep,
        state_path=program.state,
        should_stop=lambda: was_stopped() or time.monotonic() > give_up,
    )
