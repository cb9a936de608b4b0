"""Runs a study of the two-feature theory: all its runs in a few programs, in this process.

Runs of one program train together, tensor by tensor, so a program has as many seeds as its memory
takes. A program that was interrupted goes on from its state; one of which all milestones have rows
is never run again.
"""

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmark.cells.children import GO_ON
from benchmark.cells.describe import write_theory_index
from benchmark.cells.local import finish
from benchmark.cells.preflight import UNCOMMITTED
from benchmark.cells.progress import refuse_other_rows
from benchmark.evaluation.milestone.primary import check_primary_metrics
from benchmark.evaluation.theory.theory_rows import deciding_metrics, theory_proof, theory_rows
from benchmark.rows.file import ROWS_FILE, append_rows
from benchmark.rows.known_rows import known_rows
from benchmark.rows.provenance import git_revision, is_committed
from benchmark.rows.row import key
from benchmark.study.declaration import declaration, fingerprint
from benchmark.study.kinds import hash_of_run
from benchmark.study.theory_study import TheoryStudy
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import Terminated
from mindiffusion.files import sha256_of_json
from mindiffusion.machine import available_cores
from mindiffusion.outside.paths import refuse_links
from mindiffusion.theory.resumable import simulate
from mindiffusion.theory.setting import TheoryRun, planned
from mindiffusion.theory.simulation import Simulation, Snapshot
from mindiffusion.training.signals import stop_signals, was_stopped
from mindiffusion.writable import try_folder

_MOST_NUMBERS = 800_000
"""Weights of one program. A run's step takes a core as long among 96 runs as among 24 (.87 ms, 8
features, 64 neurons, batch 256); more would only take memory."""
_STATES = "states"
_TIMED_STEPS = 10


@dataclass(frozen=True)
class Program:
    """Runs that train together, with where their state is kept."""

    runs: tuple[TheoryRun, ...]
    state: Path

    @property
    def work(self) -> float:
        """Numbers that training reads: weights times samples, over all steps."""
        return sum(_work_of(run) for run in self.runs)


def _work_of(run: TheoryRun) -> float:
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
        size = most * 2 * common.model.width * common.data.ambient_dim
        at_once = max(1, _MOST_NUMBERS // size)
        seeds = list(by_seed)
        for first in range(0, len(seeds), at_once):
            chunk = seeds[first : first + at_once]
            members = tuple(run for seed in chunk for run in by_seed[seed])
            name = sha256_of_json([hash_of_run(run) for run in members])[:12]
            programs.append(Program(members, study.folder / _STATES / f"{name}.pt"))
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


def check_theory_study(study: TheoryStudy, runs: Sequence[TheoryRun]) -> list[str]:
    """Refuse a study that could not come to its end; what to know beforehand, a line each.

    Raises:
        UserError: a metric that would decide but is not measured, rows of other settings, or a
            link in the folder.
        OSError: a folder that can't be written to.
    """
    refuse_links(study.folder)
    check_primary_metrics(study.terms, deciding_metrics())
    for run in study.runs:
        refuse_other_rows(study.folder, run.arm, run.seed, hash_of_run(run))
    try_folder(study.folder)
    pending = any(is_unscored(study, run) for run in runs)
    return [UNCOMMITTED] if pending and not is_committed(git_revision()) else []


def run_theory_study(
    study: TheoryStudy, runs: Sequence[TheoryRun], *, minutes: float = math.inf
) -> int:
    """Bring runs of a study to the end, then make its tables; returns the exit code.

    Args:
        study: the study.
        runs: those of its runs that are to be done.
        minutes: how long this may take; then the state is saved, and what is left is said.

    Raises:
        UserError: as ``check_theory_study`` does, or a run whose weights are not finite.
        Terminated: a signal asked to stop; the state is saved.
    """
    give_up = time.monotonic() + 60 * minutes
    for line in check_theory_study(study, runs):
        print(line, file=sys.stderr)
    write_theory_index(study, theory_proof(study))
    torch.set_num_threads(available_cores())
    left = [
        one for one in programs_of(study, runs) if any(is_unscored(study, run) for run in one.runs)
    ]
    with _bar(left) as bar, stop_signals() as received:
        for program in left:
            if not _do(study, program, give_up, bar):
                break
        stopped_by = list(received)
    if stopped_by:
        raise Terminated(stopped_by[0])
    if any(program.state.exists() for program in left):
        done = sum(not is_unscored(study, run) for run in runs)
        print(f"stopped after {minutes:g} minutes: {done} of {len(runs)} cells done. {GO_ON}")
        return 0
    with contextlib.suppress(OSError):
        # It holds nothing any more.
        (study.folder / _STATES).rmdir()
    finish(study)
    return 0


def _bar(programs: Sequence[Program]) -> "tqdm[Any]":
    """A progress bar that counts milestones of runs."""
    total = sum(len(planned(run).milestones) for program in programs for run in program.runs)
    return tqdm(total=total, desc="study", unit="milestone", dynamic_ncols=True)


def _do(study: TheoryStudy, program: Program, give_up: float, bar: "tqdm[Any]") -> bool:
    """Train the runs of a program, writing each milestone's rows; False if it was stopped."""
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
        bar.update(len(snapshot.runs))

    program.state.parent.mkdir(parents=True, exist_ok=True)
    return simulate(
        program.runs,
        keep,
        state_path=program.state,
        should_stop=lambda: was_stopped() or time.monotonic() > give_up,
    )


def print_theory_dry_run(study: TheoryStudy, runs: Sequence[TheoryRun]) -> int:
    """List every cell with its state, and the estimated minutes of all.

    Args:
        study: the study.
        runs: which of its runs.
    """
    for line in check_theory_study(study, runs):
        print(line, file=sys.stderr)
    width = max(len(f"{run.arm}/{run.seed}") for run in runs)
    for run in runs:
        scored, whole = len(scored_milestones(study, run)), len(planned(run).milestones)
        what = f"scored {scored}/{whole}" if scored else "to do"
        print(f"{f'{run.arm}/{run.seed}':<{width}}  {what}")
    left = [
        one for one in programs_of(study, runs) if any(is_unscored(study, run) for run in one.runs)
    ]
    minutes = sum(one.work for one in left) * _seconds_per_work(left[0]) / 60 if left else 0.0
    print(
        f"{len(runs)} cells in {len(left)} programs, about {minutes:.1f} minutes of training in "
        f"all ({_TIMED_STEPS} steps of one seed timed now)"
    )
    print(f"{declaration(study)}; fingerprint of {study.name}: {fingerprint(study)}")
    return 0


def _seconds_per_work(program: Program) -> float:
    """Seconds for each unit of ``Program.work``, from the first steps of one seed's runs."""
    torch.set_num_threads(available_cores())
    program = replace(
        program, runs=tuple(run for run in program.runs if run.seed == program.runs[0].seed)
    )
    simulation = Simulation(program.runs)
    simulation.advance(1)
    start = time.monotonic()
    simulation.advance(1 + _TIMED_STEPS)
    work = sum(_work_of(run) / planned(run).total_steps for run in program.runs)
    return (time.monotonic() - start) / _TIMED_STEPS / work
