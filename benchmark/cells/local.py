"""Runs a study: cells side by side, one progress bar, then tables and figures.

A cell is one arm with one seed, in a process of its own. Finished cells are never run again,
unfinished ones go on where they were; the same command does both.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from benchmark.cells.describe import write_index
from benchmark.cells.preflight import check_study
from benchmark.cells.progress import (
    finisher_path,
    is_unfinished,
    refuse_stale_rows,
    title,
    work_of,
)
from benchmark.cells.time_left import minutes_left
from benchmark.evaluation.milestone.score import parts_of
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.reporting.outcome import write_outcome
from benchmark.study.study import Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import RunConfig
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.spec import DataConfig
from mindiffusion.data.store import hand_over, num_train_images, prepared_data
from mindiffusion.errors import FAULT_CODE, STOP_CODES, ToldFault, UserError
from mindiffusion.machine import available_cores, module_command
from mindiffusion.outside.paths import open_to_change
from mindiffusion.training.run_files import last_line
from mindiffusion.training.signals import Interrupted

STOP_SECONDS = 10.0
"""How long cells may take to save their state; one that needs longer has its last checkpoint."""

GO_ON = "Run the same command again to go on."


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


def device_slots(configs: Sequence[RunConfig], runs_per_device: int = 1) -> list[str | None]:
    """Places to run cells side by side: a GPU index each, or None for a share of the CPU's cores.

    One process a GPU beats several GPUs a process while there are more cells than GPUs; where one
    run cannot fill a GPU, several share it. On the CPU a run's own ``training.threads`` say how
    many fit; where they are null, the CPU is one device.

    Args:
        configs: the runs.
        runs_per_device: runs that share a GPU, or the CPU where its threads are not given.
    """
    import torch

    if configs[0].training.device != "cpu" and torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        gpus = visible.split(",") if visible else [str(i) for i in range(count)]
        return [*gpus] * runs_per_device
    threads = configs[0].training.threads
    cores = available_cores()
    return [None] * max(1, cores // threads if threads else min(cores, runs_per_device))


def run_study(
    study: Study,
    arguments: Sequence[str],
    runs: Sequence[RunConfig],
    *,
    minutes: float = math.inf,
    with_tables: bool = True,
) -> int:
    """Bring cells of a study to the end, then make its tables; returns the exit code.

    Args:
        study: the study.
        arguments: command-line words that make a child load the same study.
        runs: those of its runs that are to be done.
        minutes: how long this may take; then the cells save their state, and what is left is said.
        with_tables: whether tables and figures are made, from all rows there are.

    Raises:
        UserError: a mistake in a run or rows that contradict each other, found before any is
            trained, or a cell that failed.
        Interrupted: a cell was stopped; the cells have saved their state.
    """
    give_up = time.monotonic() + 60 * minutes
    for line in check_study(study, runs):
        print(line, file=sys.stderr)
    note = finisher_note(study, runs) if with_tables else ""
    if note:
        print(note, file=sys.stderr)
    data = data_of(study)
    arguments = [*arguments, *hand_over(data)]
    write_index(study)
    slots = device_slots(runs, study.runs_per_device)[: len(runs)]
    # Stitched samples need the finisher, which may be trained after the cell that they are of.
    for wave in range(1 if note else len(parts_of(study.evaluation))):
        pending = [config for config in runs if is_unfinished(study, config)]
        if pending and wave == 0:
            for prepared in data.values():
                # Computed once and cached, before the cells would all do so at once.
                device = "cpu" if slots[0] is None else "cuda"
                make_yardstick(study.evaluation, prepared, device).fill_cache()
        if pending and not _run_cells(study, runs, pending, arguments, slots, give_up):
            print(_what_is_left(study, runs, minutes))
            return 0
    if with_tables:
        finish(study)
        if note:
            print(note, file=sys.stderr)
    return 0


def _what_is_left(study: Study, runs: Sequence[RunConfig], minutes: float) -> str:
    done = sum(not is_unfinished(study, config) for config in runs)
    left = minutes_left(study, runs, len(device_slots(runs, study.runs_per_device)))
    return (
        f"stopped after {minutes:g} minutes: {done} of {len(runs)} cells done, about {left:.0f} "
        f"minutes left. {GO_ON}"
    )


def finisher_note(study: Study, runs: Sequence[RunConfig]) -> str:
    """What to know where stitched samples are wanted and nobody would finish them; else nothing.

    Args:
        study: the study.
        runs: those of its runs that are to be done.
    """
    path, finisher = finisher_path(study), study.finisher
    if "stitched" not in parts_of(study.evaluation) or path is None or finisher is None:
        return ""
    is_there = path.exists() or (finisher.arm, finisher.seed) in {(c.arm, c.seed) for c in runs}
    if is_there or not any(is_unfinished(study, config) for config in runs):
        return ""
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


def finish(study: Study) -> None:
    """Tables, figures, paper and report from the rows; says where, and the answer."""
    print(write_outcome(study.folder))


def _run_cells(
    study: Study,
    runs: Sequence[RunConfig],
    pending: list[RunConfig],
    arguments: Sequence[str],
    slots: Sequence[str | None],
    give_up: float,
) -> bool:
    """Run cells, as many at a time as there are slots, under one progress bar.

    Returns:
        False if the monotonic clock reached ``give_up`` before all had ended; they were asked to
        save their state.
    """
    totals = {title(c): _total_work(study, c) for c in runs}
    finished = sum(totals[title(c)] for c in runs if c not in pending)
    waiting = list(pending)
    running: dict[int, Cell] = {}
    with _bar(sum(totals.values())) as bar, _stopping(running):
        is_under_way = False
        while waiting or running:
            if time.monotonic() > give_up:
                return False
            for number in range(len(slots)):
                if number not in running and waiting:
                    running[number] = _start(waiting.pop(0), slots, number, arguments)
            time.sleep(0.2)
            for number in [n for n, cell in running.items() if cell.process.poll() is not None]:
                cell = running.pop(number)
                _check_end(cell)
                finished += totals[title(cell.config)]
            amount = finished + sum(cell.done for cell in running.values())
            if not is_under_way and all(c.what != "starting" for c in running.values()):
                # Work of an earlier session is no measure of this one's speed.
                is_under_way = True
                bar.initial = amount
                bar.start_t = bar.last_print_t = time.time()
            bar.set_postfix_str(
                ", ".join(f"{title(c.config)} {c.what}" for c in running.values()), refresh=False
            )
            bar.update(amount - bar.n)
    return True


def _total_work(study: Study, config: RunConfig) -> float:
    return work_of(study, config).total(resolve_plan(config, num_train_images(config.data)))


def _bar(total: float) -> "tqdm[Any]":
    return tqdm(
        total=total,
        desc="study",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}",
        dynamic_ncols=True,
        # A log file needs no more than a line now and then.
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
        smoothing=0,
    )


def _start(
    config: RunConfig, slots: Sequence[str | None], number: int, arguments: Sequence[str]
) -> Cell:
    """Start a cell in slot ``number``; cells side by side share the machine's cores."""
    config.run_dir.mkdir(parents=True, exist_ok=True)
    log = config.run_dir / "cell.log"
    threads = config.training.threads or max(1, available_cores() // len(slots))
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(threads)}
    gpu = slots[number]
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    which = ["--cell", config.output, str(config.seed), str(len(slots))]
    with os.fdopen(open_to_change(log, os.O_WRONLY | os.O_TRUNC), "wb") as errors:
        process = subprocess.Popen(
            [*module_command("benchmark"), *arguments, *which],
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            env=environment,
            # Ctrl-C is for the parent, which then asks each cell once to save its state.
            process_group=0,
        )
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
    code = cell.process.returncode
    if code == 0:
        return
    if code in STOP_CODES:
        raise Interrupted(-code if code < 0 else code - 128)
    last = last_line(cell.log) or f"exit code {code}"
    if code == -signal.SIGBUS:
        last = "a file that it had mapped was cut; leave prepared data alone while a study runs"
    kind = ToldFault if code == FAULT_CODE else UserError
    raise kind(f"cell {title(cell.config)} stopped: {last} (log: {cell.log}). {GO_ON}")


@contextlib.contextmanager
def _stopping(running: dict[int, Cell]) -> Iterator[None]:
    """Whatever ends the study, let its cells save their state first."""
    try:
        yield
    finally:
        for cell in running.values():
            cell.process.terminate()
        give_up = time.monotonic() + STOP_SECONDS
        for cell in running.values():
            try:
                cell.process.wait(max(0.0, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                cell.process.kill()
