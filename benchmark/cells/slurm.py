"""A study over a cluster: groups of cells as jobs of SLURM, through submitit.

A job runs its cells as one machine does. Preempted or out of time, it lets them save their state
and is queued again; the cells' own resume does the rest. Rows of all jobs meet in one file, under
its lock. The command that submits waits, then makes tables and figures; it may be stopped and given
again: cells whose job is still queued or running are not submitted twice.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from benchmark.cells.assignment import Assignment, write_assignment
from benchmark.cells.tasks import CellKey, Task, key_of
from benchmark.study.study import Study
from mindiffusion.config.run import RunConfig, config_hash
from mindiffusion.data.record import Record
from mindiffusion.errors import STOP_CODES, UserError, exit_code_of
from mindiffusion.files import exclusive_lock, sha256_of_json, write_json
from mindiffusion.machine import module_command
from mindiffusion.outside.documents import read_json
from mindiffusion.training.run_files import is_running, last_line

try:
    import submitit
    from submitit.core.utils import FailedJobError
except ModuleNotFoundError:
    raise UserError("--cluster needs submitit; run: pip install '.[cluster]'") from None
if TYPE_CHECKING:
    from benchmark.cells.walk import Walk

CLUSTER_FOLDER = "cluster"
JOBS_FILE = "jobs.json"
DEFAULT_MINUTES = 240
_MANY_TIMES = 1000
"""A job out of time is queued again as often as it takes."""
_A_YEAR_MINUTES = 525_600
_STOP_SECONDS = 20.0
"""Cells end within ten seconds, their parent a moment later."""
_GRACE_SECONDS = 120.0
_POLL_SECONDS = 1.0
_OF_SUBMITIT = ("time", "cpus_per_task", "array_parallelism", "signal_delay_s")
"""Settings that submitit must know; any other goes to sbatch as it is."""


@dataclass(frozen=True)
class ClusterOptions:
    """How a study's cells become jobs.

    Attributes:
        cluster: "slurm", or "local" for processes of this machine.
        cells_per_job: None: one on SLURM, all on this machine.
        settings: SLURM's, by name.
    """

    cluster: str
    cells_per_job: int | None
    settings: Mapping[str, str]


class _JobEntry(BaseModel):
    """A job as it was written down."""

    model_config = ConfigDict(frozen=True)

    job: Annotated[str, Field(pattern=r"^\d+(_\d+)?$")]
    cells: tuple[tuple[str, int, str], ...]


class CellGroup:
    """What a job does: tasks of some cells, in a process that it can stop.

    Args:
        document: where its ``Assignment`` lies.
    """

    def __init__(self, document: str) -> None:
        self.document = document
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the cells to their end; ends the process with their exit code if that is not 0."""
        command = [*module_command("benchmark.cells"), self.document]
        process = subprocess.Popen(command, preexec_fn=_ignore_preemption)
        self._process = process
        # submitit ignores SIGTERM; SLURM kills half a minute after it.
        signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
        while process.poll() is None:
            time.sleep(0.2)
        if process.returncode in STOP_CODES:
            # Asked to stop: what becomes of the job is for SLURM to say. One that ends by itself
            # in its grace time would not be queued again.
            time.sleep(_GRACE_SECONDS)
        if process.returncode:
            sys.exit(process.returncode)

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Called by submitit before the job is queued again: the cells save their state."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return submitit.helpers.DelayedSubmission(CellGroup(self.document))


def _ignore_preemption() -> None:
    """SLURM may signal all processes of a job; only the job's own is to answer, for all."""
    signal.signal(getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}"), signal.SIG_IGN)


def parse_settings(words: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` words as a mapping; dashes in keys as underscores.

    Raises:
        UserError: a word without "=", or a number that is none.
    """
    settings = {}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.strip().lstrip("-").replace("-", "_")
        if not (key and equals):
            raise UserError(f"--slurm {word!r} is not KEY=VALUE; write partition=gpu, say.")
        if key in _OF_SUBMITIT and not value.isdigit():
            hint = " (minutes)" if key == "time" else ""
            raise UserError(f"--slurm {word!r}: {key} is a whole number{hint}, such as {key}=240.")
        settings[key] = value
    return settings


def run_on_cluster(study: Study, runs: Sequence[RunConfig], options: ClusterOptions) -> int:
    """Submit the cells that are not done, wait for them, then make tables; returns the exit code.

    Args:
        study: the study.
        runs: those of its runs that are to be done.
        options: how its cells become jobs.

    Raises:
        UserError: a mistake in a run or a setting, cells that run already, or a job that ended
            without finishing its cells.
    """
    # Imported here: a job unpickles this module and has no use for torch.
    from benchmark.cells.describe import write_index
    from benchmark.cells.local import data_of, finish, waiting_note
    from benchmark.cells.preflight import check_study
    from benchmark.cells.progress import is_unfinished, scoring_of
    from benchmark.cells.walk import Walk
    from mindiffusion.data.store import hand_over

    if options.cells_per_job is not None and options.cells_per_job < 1:
        raise UserError(f"--cells-per-job is {options.cells_per_job}; give 1 or more.")
    for line in check_study(study, runs):
        print(line, file=sys.stderr)
    if note := waiting_note(study, runs):
        print(note, file=sys.stderr)
    walk = Walk(study, scoring_of(study, runs))
    jobs: _Jobs = {}
    # Once, before jobs on many machines would wait for one of them to do it.
    records = hand_over(data_of(study)) if walk.left else ()
    write_index(study)
    try:
        # In rounds: what needs a job's result is submitted once that job has ended. A dependency
        # among SLURM's own jobs would wait for ever behind one that fails.
        while fresh := _submitted(walk, runs, records, options, known=jobs):
            jobs |= fresh
            _wait(study, list(fresh))
            walk.look(walk.left)
    except KeyboardInterrupt as stop:
        print(
            f"the jobs go on; follow them with: python -m benchmark status {study.folder}\n"
            "the same command waits for them again and makes the tables.",
            file=sys.stderr,
        )
        return exit_code_of(stop)
    unfinished = [run for run in runs if is_unfinished(study, run)]
    if unfinished:
        raise _unfinished_error(unfinished, jobs)
    finish(study)
    return 0


def _submitted(
    walk: "Walk",
    runs: Sequence[RunConfig],
    records: tuple[Record, ...],
    options: ClusterOptions,
    known: "_Jobs",
) -> "_Jobs":
    """Jobs that are on their way, after submitting those of the tasks that are ready.

    Args:
        walk: what is left to do.
        runs: the runs that may be done.
        records: of the prepared data.
        options: how cells become jobs.
        known: jobs that were waited for already.

    Returns:
        The jobs that are not known yet, with their cells.
    """
    folder = walk.study.folder / CLUSTER_FOLDER
    with exclusive_lock(folder / ".lock", wait_seconds=60):
        jobs = _earlier_jobs(folder) if options.cluster == "slurm" else {}
        _refuse_changed(walk.study, jobs)
        submitted = {cell for cells in jobs.values() for cell in cells}
        unfinished = {task.cell for task in walk.left}
        free = [r for r in runs if _key(r) not in submitted and key_of(r) in unfinished]
        size = options.cells_per_job or (1 if options.cluster == "slurm" else max(1, len(free)))
        groups = [free[start : start + size] for start in range(0, len(free), size)]
        fresh = walk.ready([[key_of(run) for run in group] for group in groups])
        _refuse_running(walk, fresh)
        jobs |= _submit(walk, fresh, records, options, folder)
        if options.cluster == "slurm":
            record = [{"job": job.job_id, "cells": cells} for job, cells in jobs.items()]
            write_json(folder / JOBS_FILE, record)
    seen = {job.job_id for job in known}
    return {job: cells for job, cells in jobs.items() if job.job_id not in seen}


_Key = tuple[str, int, str]
_Jobs = dict["submitit.Job[None]", list[_Key]]


def _key(config: RunConfig) -> _Key:
    return config.output, config.seed, config_hash(config)


def _earlier_jobs(folder: Path) -> _Jobs:
    """Jobs of an earlier command that SLURM has not seen the end of, with their cells."""
    try:
        record = read_json(folder / JOBS_FILE, list[_JobEntry], "")
    except (OSError, UserError):
        return {}
    jobs: _Jobs = {}
    for entry in record:
        # Only asked whether it has ended: what it left is a pickle, and is not opened.
        job: submitit.Job[None] = submitit.SlurmJob(folder, entry.job)
        if not job.done():
            jobs[job] = list(entry.cells)
    return jobs


def _refuse_changed(study: Study, jobs: _Jobs) -> None:
    """Refuse to wait for jobs that train a run of this study as it was before it was edited."""
    now = {_key(run)[:2]: (_key(run), f"{run.arm}/{run.seed}") for run in study.runs}
    for job, cells in jobs.items():
        for cell in cells:
            key, name = now.get(cell[:2], (cell, ""))
            if key != cell:
                raise UserError(
                    f"job {job.job_id} trains {name} of {study.folder} with other settings than "
                    f"the study has now; cancel it (scancel {job.job_id}), or undo the change."
                )


def _refuse_running(walk: "Walk", groups: Sequence[Sequence[Task]]) -> None:
    runs = [walk.runs[cell] for group in groups for cell in _cells(group)]
    busy = [f"{run.arm}/{run.seed}" for run in runs if is_running(run.run_dir)]
    if busy:
        folder = walk.study.folder
        raise UserError(
            f"{', '.join(busy)} of {folder} are being run by another process; wait for it "
            f"(python -m benchmark status {folder}), then give the same command again."
        )


def _cells(tasks: Sequence[Task]) -> list[CellKey]:
    return list(dict.fromkeys(task.cell for task in tasks))


def _submit(
    walk: "Walk",
    groups: Sequence[tuple[Task, ...]],
    records: tuple[Record, ...],
    options: ClusterOptions,
    folder: Path,
) -> _Jobs:
    """Submit groups of tasks, a job each; returns the jobs with their cells."""
    if not groups:
        return {}
    executor = _executor(walk.study, options, folder)
    work = []
    for tasks in groups:
        told = Assignment(study=walk.study, data=records, tasks=tasks)
        # Named by what it says: one that a queued job will read is never changed.
        name = sha256_of_json(told.model_dump(mode="json"))[:12]
        write_assignment(folder / f"job-{name}.json", told)
        work.append(CellGroup(str(folder / f"job-{name}.json")))
    try:
        with _children_ignore_ctrl_c():
            jobs = executor.submit_array(work)
    except FailedJobError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"SLURM did not take the jobs: {reason}") from None
    submitted = {}
    for job, tasks in zip(jobs, groups, strict=True):
        walk.start(tasks)
        submitted[job] = [_key(walk.runs[cell]) for cell in _cells(tasks)]
    return submitted


def _executor(study: Study, options: ClusterOptions, folder: Path) -> "submitit.Executor":
    if options.cluster == "local":
        if options.settings:
            raise UserError("--slurm settings are for --cluster slurm.")
        # submitit would hide the GPUs from its local jobs.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = "-u CUDA_VISIBLE_DEVICES" if visible is None else f"CUDA_VISIBLE_DEVICES={visible}"
        local = submitit.LocalExecutor(folder, python=f"env {gpus} {shlex.quote(sys.executable)}")
        local.update_parameters(timeout_min=_A_YEAR_MINUTES)
        return local
    try:
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=_MANY_TIMES)
    except RuntimeError as error:
        raise UserError(f"--cluster slurm: {error} Or use --cluster local.") from None
    slurm.update_parameters(job_name=study.name, **slurm_parameters(options.settings))
    return slurm


def slurm_parameters(settings: Mapping[str, str]) -> dict[str, Any]:
    """Settings as submitit takes them."""
    own: dict[str, Any] = {key: int(settings[key]) for key in _OF_SUBMITIT if key in settings}
    own.setdefault("time", DEFAULT_MINUTES)
    if "cpus_per_task" in own:
        # srun does not take it over from sbatch (SLURM 22.05 and later).
        own["srun_args"] = [f"--cpus-per-task={own['cpus_per_task']}"]
    rest = {key: value for key, value in settings.items() if key not in _OF_SUBMITIT}
    return own | {"additional_parameters": {"requeue": True, **rest}}


@contextlib.contextmanager
def _children_ignore_ctrl_c() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal; jobs of this machine are to outlive it."""
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


def _wait(study: Study, jobs: Sequence["submitit.Job[None]"]) -> None:
    """Wait until no job is queued or running; tells of changes."""
    print(f"{len(jobs)} jobs; logs: {study.folder / CLUSTER_FOLDER}", file=sys.stderr)
    shown = ""
    while True:
        is_done = all(job.done() for job in jobs)
        states = Counter(job.state.lower() for job in jobs)
        line = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        if line != shown:
            print(line, file=sys.stderr)
            shown = line
        if is_done:
            return
        time.sleep(_POLL_SECONDS)


def _unfinished_error(runs: Sequence[RunConfig], jobs: _Jobs) -> UserError:
    from benchmark.cells.children import GO_ON

    names = ", ".join(f"{run.arm}/{run.seed}" for run in runs)
    # The last one, where a cell was submitted once more after others.
    for job in [job for job, cells in jobs.items() if _key(runs[0]) in cells][-1:]:
        log = job.paths.stderr
        reason = last_line(log).removesuffix(GO_ON).strip() or job.state.lower()
        names += f"; job {job.job_id} ended: {reason} (its log: {log})"
    return UserError(f"not finished: {names}. {GO_ON}")
