"""Runs a study of the two-feature theory: programs side by side, one progress bar, then tables.

Runs of one program train together, tensor by tensor. Each core has a process with its share of the
programs; with one core, or one program, this process does them.
"""

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from benchmark.cells.children import GO_ON, start_child, tell_parent
from benchmark.cells.counted import Counted, side_by_side
from benchmark.cells.describe import write_theory_index
from benchmark.cells.local import finish
from benchmark.cells.preflight import UNCOMMITTED
from benchmark.cells.progress import refuse_other_rows
from benchmark.cells.theory.programs import (
    STATES,
    Program,
    do_programs,
    is_unscored,
    programs_of,
    scored_milestones,
    unscored_programs,
    work_of_run,
)
from benchmark.evaluation.milestone.primary import check_primary_metrics
from benchmark.evaluation.theory.theory_rows import deciding_metrics, theory_proof
from benchmark.rows.provenance import git_revision, is_committed
from benchmark.study.declaration import declaration, fingerprint
from benchmark.study.kinds import hash_of_run
from benchmark.study.theory_study import TheoryStudy
from mindiffusion.errors import Terminated
from mindiffusion.files import write_text
from mindiffusion.machine import available_cores
from mindiffusion.outside.documents import Name, read_json
from mindiffusion.outside.paths import refuse_links
from mindiffusion.theory.setting import TheoryRun, planned
from mindiffusion.theory.simulation import Simulation
from mindiffusion.training.signals import Interrupted
from mindiffusion.writable import try_folder

_TIMED_STEPS = 10
_LONGEST_SECONDS = 1e9


class _Share(BaseModel):
    """What a process is told.

    Attributes:
        study: the study.
        cells: arm and seed of the runs that were chosen: their programs are counted.
        places: those of the programs that it does.
        seconds: how long it may take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    study: TheoryStudy
    cells: tuple[tuple[Name, int], ...]
    places: Annotated[tuple[int, ...], Field(min_length=1)]
    seconds: float


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
    for line in check_theory_study(study, runs):
        print(line, file=sys.stderr)
    write_theory_index(study, theory_proof(study))
    left = unscored_programs(study, runs)
    (study.folder / STATES).mkdir(parents=True, exist_ok=True)
    with _bar([program for _, program in left]) as bar:
        _do_all(study, runs, left, min(60 * minutes, _LONGEST_SECONDS), bar)
    done = sum(not is_unscored(study, run) for run in runs)
    if done < len(runs):
        print(f"stopped after {minutes:g} minutes: {done} of {len(runs)} cells done. {GO_ON}")
        return 0
    with contextlib.suppress(OSError):
        # It holds nothing any more.
        (study.folder / STATES).rmdir()
    finish(study)
    return 0


def _bar(programs: Sequence[Program]) -> "tqdm[Any]":
    """A progress bar that counts milestones of runs."""
    total = sum(len(planned(run).milestones) for program in programs for run in program.runs)
    return tqdm(total=total, desc="study", unit="milestone", dynamic_ncols=True)


def _do_all(
    study: TheoryStudy,
    runs: Sequence[TheoryRun],
    left: Sequence[tuple[int, Program]],
    seconds: float,
    bar: "tqdm[Any]",
) -> None:
    """Do programs, in as many processes as there are cores for them."""
    slots = min(available_cores(), len(left))
    if slots <= 1:
        try:
            do_programs(study, [program for _, program in left], seconds, bar.update)
        except Interrupted as stop:
            raise Terminated(stop.signal_number) from None
        return
    cells = tuple((run.arm, run.seed) for run in runs)
    with side_by_side() as running:
        for number in range(slots):
            places = tuple(place for place, _ in left[number::slots])
            share = _Share(study=study, cells=cells, places=places, seconds=seconds)
            running.append(_start(share, number, bar))


def _start(share: _Share, number: int, bar: "tqdm[Any]") -> Counted:
    """Start a process; what it is told and its log lie beside the states and go at its end."""
    folder = share.study.folder / STATES
    document, log = folder / f"share-{number}.json", folder / f"share-{number}.log"
    write_text(document, share.model_dump_json() + "\n")
    threads = {"OMP_NUM_THREADS": "1"}
    child = start_child("benchmark.cells.theory", document, log, None, threads)
    return Counted(child, log, "a process of the study", bar, (document, log))


def do_share(document: Path) -> int:
    """Do the programs that a document says; returns the exit code.

    Lines on stdout say how many milestones of runs have got their rows. If nobody reads them any
    more, the parent is dead and this process ends too.

    Raises:
        UserError: the document is damaged, or as of ``do_programs``.
    """
    told = read_json(document, _Share, "give the study's command again, which writes it anew.")
    by_cell = {(run.arm, run.seed): run for run in told.study.runs}
    programs = programs_of(told.study, [by_cell[cell] for cell in told.cells])
    own = [programs[place] for place in told.places]
    try:
        do_programs(told.study, own, told.seconds, _report)
    except Interrupted as stop:
        return 128 + stop.signal_number
    return 0


def _report(milestones: int) -> None:
    tell_parent(str(milestones))


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
    left = [program for _, program in unscored_programs(study, runs)]
    at_a_time = max(1, min(available_cores(), len(left)))
    seconds = sum(one.work for one in left) * _seconds_per_work(left[0]) if left else 0.0
    print(
        f"{len(runs)} cells in {len(left)} programs, about {seconds / 60 / at_a_time:.1f} minutes "
        f"of training in all, {at_a_time} programs at a time ({_TIMED_STEPS} steps timed now)"
    )
    print(f"{declaration(study)}; fingerprint of {study.name}: {fingerprint(study)}")
    return 0


def _seconds_per_work(program: Program) -> float:
    """Seconds for each unit of ``Program.work``, from the first steps of a program."""
    torch.set_num_threads(1)
    simulation = Simulation(program.runs)
    simulation.advance(1)
    start = time.monotonic()
    simulation.advance(1 + _TIMED_STEPS)
    work = sum(work_of_run(run) / planned(run).total_steps for run in program.runs)
    return (time.monotonic() - start) / _TIMED_STEPS / work
