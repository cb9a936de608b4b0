"""Runs a study: cells side by side, one progress bar, then tables and figures.

A cell is one arm with one seed, in a process of its own. Finished cells are never run again,
unfinished ones go on where they were; the same command does both.
"""

import contextlib
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from benchmark.analysis.study_analysis import analyse
from benchmark.cells.assignment import Assignment, write_assignment
from benchmark.cells.children import GO_ON, check_end, end_children, start_child
from benchmark.cells.describe import write_index
from benchmark.cells.preflight import check_study
from benchmark.cells.progress import (
    is_unfinished,
    last_weights,
    refuse_stale_rows,
    scoring_of,
    title,
    work_of,
)
from benchmark.cells.slots import device_slots
from benchmark.cells.tasks import CellKey, Task, baseline_of, key_of
from benchmark.cells.time_left import minutes_left
from benchmark.cells.walk import Walk
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.reporting.outcome import write_outcome
from benchmark.study.study import AnyStudy, Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import RunConfig
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.record import Record
from mindiffusion.data.spec import DataConfig
from mindiffusion.data.store import hand_over, num_train_images, prepared_data
from mindiffusion.machine import available_cores
from mindiffusion.prepared_latents import with_latents

_POLL_SECONDS = 0.2


@dataclass
class Cell:
    """One running cell.

    Attributes:
        config: its run.
        process: its process.
        log: where its stderr goes.
        done: work done, as last reported.
        what: what it is doing.
    """

    config: RunConfig
    process: subprocess.Popen[str]
    log: Path
    done: float = 0.0
    what: str = "starting"
    reader: threading.Thread | None = field(default=None, repr=False)

    @property
    def key(self) -> CellKey:
        """Which cell it is."""
        return key_of(self.config)


def run_study(study: Study, runs: Sequence[RunConfig], *, minutes: float = math.inf) -> int:
    """Bring cells of a study to the end, then make its tables; returns the exit code.

    Args:
        study: the study.
        runs: those of its runs that are to be done.
        minutes: how long this may take; then the cells save their state, and what is left is said.

    Raises:
        UserError: a mistake in a run or rows that contradict each other, found before any is
            trained, or a cell that failed.
        Terminated: a cell was stopped; the cells have saved their state.
    """
    give_up = time.monotonic() + 60 * minutes
    for line in check_study(study, runs):
        print(line, file=sys.stderr)
    note = waiting_note(study, runs)
    if note:
        print(note, file=sys.stderr)
    data = data_of(study)
    write_index(study)
    if not _do_tasks(study, scoring_of(study, runs), data, give_up):
        print(_what_is_left(study, runs, minutes))
        return 0
    finish(study)
    if note:
        print(note, file=sys.stderr)
    return 0


def run_job(study: Study, tasks: Sequence[Task]) -> int:
    """Do a cluster job's share of a study, cells side by side; returns the exit code.

    Tables and the index are left to the command that has submitted the job.

    Args:
        study: the study.
        tasks: what is to be done.

    Raises:
        UserError: as ``run_study`` does.
        Terminated: likewise.
    """
    cells = {task.cell for task in tasks}
    for line in check_study(study, [run for run in study.runs if key_of(run) in cells]):
        print(line, file=sys.stderr)
    _do_tasks(study, tasks, data_of(study), math.inf)
    return 0


def _what_is_left(study: Study, runs: Sequence[RunConfig], minutes: float) -> str:
    done = sum(not is_unfinished(study, config) for config in runs)
    left = minutes_left(study, runs, len(_slots(study, runs)))
    return (
        f"stopped after {minutes:g} minutes: {done} of {len(runs)} cells done, about {left:.0f} "
        f"minutes left. {GO_ON}"
    )


def waiting_note(study: Study, runs: Sequence[RunConfig]) -> str:
    """What to know where cells wait for one that nobody would train; else nothing.

    Args:
        study: the study.
        runs: those of its runs that are to be done.
    """
    chosen, finisher = {key_of(run) for run in runs}, study.finisher
    left = Walk(study, scoring_of(study, runs)).left
    followed = {run.followed_dir for run in runs}
    leaders = [run for run in study.runs if run.run_dir in followed and key_of(run) not in chosen]
    absent = [run for run in leaders if Task("train", *key_of(run)) in left]
    if absent:
        return (
            f"cells wait for {', '.join(map(title, absent))}, whose stages they follow: not "
            "trained here and not chosen. Choose them too, and run the same command again."
        )
    baselines = (
        [baseline_of(study, run) for run in runs] if "cka" in study.evaluation.metrics else []
    )
    plain = dict.fromkeys(run for run in baselines if run and key_of(run) not in chosen)
    absent = [run for run in plain if Task("train", *key_of(run)) in left]
    if absent:
        return (
            f"comparisons of layers wait for {', '.join(map(title, absent))}: not trained here and "
            "not chosen. All else is trained and scored. Choose them too, and run the same command "
            "again."
        )
    if (
        finisher is None
        or key_of(finisher) in chosen
        or Task("train", *key_of(finisher)) not in left
    ):
        return ""
    path = last_weights(finisher)
    return (
        f"stitched samples wait for {title(finisher)}, which finishes them: it is not trained here "
        f"and not chosen. All else is trained and scored. Choose it too, or copy {path} and the "
        ".json beside it from the machine that has them, and run the same command again."
    )


def data_of(study: Study) -> dict[DataConfig, PreparedData]:
    """What a study's runs are trained on, prepared once for all of them.

    Raises:
        UserError: data that can't be had, or rows of other data, or that contradict each other.
    """
    kinds = dict.fromkeys(config.data for config in study.runs)
    data = {kind: prepared_data(kind, show_progress=True) for kind in kinds}
    # Also of runs that are not to be done: tables are made of the rows of all.
    for config in study.runs:
        refuse_stale_rows(study, config, data[config.data].manifest_id)
    return data


def finish(study: AnyStudy) -> None:
    """Tables, figures, paper and report from the rows; says where, and the answer."""
    print(write_outcome(analyse(study.folder), study.folder))


def _do_tasks(
    study: Study, goals: Sequence[Task], data: Mapping[DataConfig, PreparedData], give_up: float
) -> bool:
    """Do tasks of a study, as many cells at a time as there are slots.

    Args:
        study: the study.
        goals: what is wanted.
        data: the prepared data of all its runs.
        give_up: until when, on the monotonic clock.

    Returns:
        False if the time was over before all had ended; the cells were asked to save their state.
    """
    walk, cells = Walk(study, goals), list(dict.fromkeys(task.cell for task in goals))
    if not walk.ready([[cell] for cell in cells]):
        return True
    slots = _slots(study, [walk.runs[cell] for cell in cells])
    for kind, prepared in data.items():
        # Computed once and cached, before the cells would all do so at once.
        device = "cpu" if slots[0] is None else "cuda"
        configs = [config for config in study.runs if config.data == kind]
        for codec in dict.fromkeys(config.codec for config in configs):
            with_latents(prepared.training, codec, kind, device, show_progress=True)
        make_yardstick(study.evaluation, prepared, device).fill_cache(configs)
    return _run_cells(walk, cells, hand_over(data), slots, give_up)


def _slots(study: Study, runs: Sequence[RunConfig]) -> list[str | None]:
    return device_slots(runs, study.runs_per_device)[: len(runs)]


def _run_cells(
    walk: Walk,
    cells: Sequence[CellKey],
    records: tuple[Record, ...],
    slots: Sequence[str | None],
    give_up: float,
) -> bool:
    """Run cells, each whenever tasks of it are ready, under one progress bar.

    Returns:
        False if the monotonic clock reached ``give_up`` before all had ended; they were asked to
        save their state.
    """
    running: dict[int, Cell] = {}
    with _StudyBar(walk, cells) as bar, _stopping(running):
        while True:
            busy = {cell.key for cell in running.values()}
            ready = walk.ready([[cell] for cell in cells if cell not in busy])
            if not ready and not running:
                return True
            if time.monotonic() > give_up:
                return False
            free = [number for number in range(len(slots)) if number not in running]
            for number, tasks in zip(free, ready, strict=False):
                walk.start(tasks)
                running[number] = _start(walk, tasks, records, slots, number)
            time.sleep(_POLL_SECONDS)
            for number in [n for n, cell in running.items() if cell.process.poll() is not None]:
                cell = running.pop(number)
                _check_end(cell)
                bar.end(cell)
                walk.look([task for task in walk.left if task.cell == cell.key])
            bar.show(list(running.values()))


class _StudyBar:
    """The progress bar of some cells of a study.

    Args:
        walk: what is left of them.
        cells: the cells.
    """

    def __init__(self, walk: Walk, cells: Sequence[CellKey]) -> None:
        self._totals = {cell: _total_work(walk.study, walk.runs[cell]) for cell in cells}
        unfinished = {task.cell for task in walk.left}
        self._done = {c: 0.0 if c in unfinished else total for c, total in self._totals.items()}
        self._is_under_way = False
        self._bar: tqdm[Any] = tqdm(
            total=sum(self._totals.values()),
            desc="study",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}",
            dynamic_ncols=True,
            # A log file needs no more than a line now and then.
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
            smoothing=0,
        )

    def __enter__(self) -> "_StudyBar":
        """Show it."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave it as it is."""
        self._bar.close()

    def end(self, cell: Cell) -> None:
        """Count all of a cell that has ended."""
        self._done[cell.key] = self._totals[cell.key]

    def show(self, running: Sequence[Cell]) -> None:
        """Show how far all is, given the cells that run."""
        for cell in running:
            # One that runs once more, for samples that had to wait, has been counted already.
            self._done[cell.key] = max(self._done[cell.key], cell.done)
        amount = sum(self._done.values())
        if not self._is_under_way and all(cell.what != "starting" for cell in running):
            # Work of an earlier session is no measure of this one's speed.
            self._is_under_way = True
            self._bar.initial = amount
            self._bar.start_t = self._bar.last_print_t = time.time()
        what = ", ".join(f"{title(cell.config)} {cell.what}" for cell in running)
        self._bar.set_postfix_str(what, refresh=False)
        self._bar.update(amount - self._bar.n)


def _total_work(study: Study, config: RunConfig) -> float:
    return work_of(study, config).total(resolve_plan(config, num_train_images(config.data)))


def _start(
    walk: Walk,
    tasks: tuple[Task, ...],
    records: tuple[Record, ...],
    slots: Sequence[str | None],
    number: int,
) -> Cell:
    """Start a cell in slot ``number``; cells side by side share the machine's cores.

    What the cell is told lies in its run's folder and stays there: it says how the run was started.
    """
    config = walk.runs[tasks[0].cell]
    document, log = config.run_dir / "cell.json", config.run_dir / "cell.log"
    told = Assignment(study=walk.study, data=records, tasks=tasks, side_by_side=len(slots))
    write_assignment(document, told)
    threads = config.training.threads or max(1, available_cores() // len(slots))
    environment = {"OMP_NUM_THREADS": str(threads)}
    process = start_child("benchmark.cells", document, log, slots[number], environment)
    cell = Cell(config, process, log)
    cell.reader = threading.Thread(target=_listen, args=(cell, process.stdout), daemon=True)
    cell.reader.start()
    return cell


def _listen(cell: Cell, lines: IO[str]) -> None:
    """Follow a cell's progress; lines that are not ours (a library's chatter) are passed over."""
    with lines:
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                message = json.loads(line)
                cell.done, cell.what = float(message["done"]), str(message["what"])


def _check_end(cell: Cell) -> None:
    """Raise if a cell did not end well."""
    check_end(cell.process.returncode, cell.log, f"cell {title(cell.config)}")


@contextlib.contextmanager
def _stopping(running: dict[int, Cell]) -> Iterator[None]:
    """Whatever ends the study, let its cells save their state first."""
    try:
        yield
    finally:
        end_children([cell.process for cell in running.values()])
