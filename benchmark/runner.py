"""Runs a study: cells side by side, one progress bar, then tables and figures.

A cell is one arm with one seed, in a process of its own. Finished cells are never run again,
unfinished ones go on where they were; the same command does both.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from benchmark.cell import (
    finisher_path,
    refuse_stale_rows,
    scored_steps,
    study_proofs,
    work_of,
)
from benchmark.evaluation.scores import Part, parts_of
from benchmark.evaluation.yardstick import make_yardstick
from benchmark.results import ROWS_FILE
from benchmark.status import last_line, newest_checkpoint
from benchmark.study import INDEX_FILE, Study
from benchmark.tables import write_tables
from mindiffusion.data.spec import DataConfig
from mindiffusion.data.store import num_train_images, prepared_data
from mindiffusion.errors import UserError
from mindiffusion.files import write_json
from mindiffusion.machine import available_cores
from mindiffusion.training.config import RunConfig
from mindiffusion.training.metrics_log import METRICS_FILE, read_metrics
from mindiffusion.training.plan import resolve_plan
from mindiffusion.training.signals import Interrupted
from mindiffusion.unet import check_sizes

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


def title(config: RunConfig) -> str:
    """How a cell is called on screen, such as "CS/0"."""
    return f"{config.arm}/{config.seed}"


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
    study: Study, arguments: Sequence[str], only: Sequence[RunConfig] | None = None
) -> int:
    """Bring a study, or some of its cells, to the end; returns the exit code.

    Args:
        study: the study.
        arguments: command-line words that make a child load the same study.
        only: its runs to do, as a part of the study that makes no tables; all if not given.

    Raises:
        UserError: a mistake in a run, found before any is trained, or a cell that failed.
        Interrupted: a cell was stopped; the cells have saved their state.
    """
    check_runs(study)
    runs = study.runs if only is None else only
    data = {kind: prepared_data(kind, show_progress=True) for kind in _kinds_of_data(runs)}
    for config in runs:
        refuse_stale_rows(study, config, data[config.data].manifest_id)
    write_index(study)
    slots = device_slots(runs, study.runs_per_device)[: len(runs)]
    # Stitched samples need the finisher, which may be trained after the cell that they are of.
    for wave in range(len(parts_of(study.evaluation))):
        pending = [config for config in runs if is_unfinished(study, config)]
        if pending and wave == 0:
            for prepared in data.values():
                # Computed once and cached, before the cells would all do so at once.
                device = "cpu" if slots[0] is None else "cuda"
                make_yardstick(study.evaluation, prepared, device).fill_cache()
        if pending:
            _run_cells(study, runs, pending, arguments, slots)
    if only is None:
        refuse_unfinished(study)
        finish(study)
    return 0


def refuse_unfinished(study: Study) -> None:
    """Make no tables of a study of which cells have ended and milestones are not scored.

    Raises:
        UserError: so it is: the finisher of stitched samples is not there.
    """
    left = [title(config) for config in study.runs if is_unfinished(study, config)]
    if left:
        raise UserError(
            f"{', '.join(left)}: not all milestones are scored, because the finisher's weights "
            f"{finisher_path(study)} are missing; train that run, or drop stitched from "
            "evaluation.metrics."
        )


def _kinds_of_data(runs: Sequence[RunConfig]) -> list[DataConfig]:
    return list(dict.fromkeys(config.data for config in runs))


def check_runs(study: Study) -> None:
    """Refuse what cannot run, before anything is prepared.

    Raises:
        UserError: a mistake in a run.
    """
    for config in study.runs:
        check_sizes(config.model.n_feat, config.data.size)
        resolve_plan(config, num_train_images(config.data))


def write_index(study: Study) -> None:
    """List the study's cells in its folder, for those who look on (``benchmark.status``)."""
    cells = []
    for config in study.runs:
        whole = resolve_plan(config, num_train_images(config.data))
        cells.append(
            {
                "arm": config.arm,
                "seed": config.seed,
                "run": os.path.relpath(config.run_dir, study.folder),
                "total_steps": whole.total_steps,
                "milestones": whole.milestones,
            }
        )
    proofs = list(study_proofs(study).values())
    index = {"study": study.name, "proofs": proofs, "cells": cells}
    write_json(study.folder / INDEX_FILE, index)


def is_unfinished(study: Study, config: RunConfig, part: Part | None = None) -> bool:
    """Whether a run has milestones that are not scored, in one part or in any."""
    milestones = resolve_plan(config, num_train_images(config.data)).milestones
    return not scored_steps(study, config, part) >= set(milestones)


def finish(study: Study) -> None:
    """Tables and figures from the rows."""
    from plots.build import write_figures

    written = [*write_tables(study.folder), *write_figures(study.folder)]
    print(f"{study.folder / ROWS_FILE} and {len(written)} tables and figures:")
    for path in written:
        print(f"  {path}")


def _run_cells(
    study: Study,
    runs: Sequence[RunConfig],
    pending: list[RunConfig],
    arguments: Sequence[str],
    slots: Sequence[str | None],
) -> None:
    """Run cells, as many at a time as there are slots, under one progress bar."""
    totals = {title(c): _total_work(study, c) for c in runs}
    finished = sum(totals[title(c)] for c in runs if c not in pending)
    waiting = list(pending)
    running: dict[int, Cell] = {}
    with _bar(sum(totals.values())) as bar, _stopping(running):
        is_under_way = False
        while waiting or running:
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
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmark", *arguments, *which],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
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
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            message = json.loads(line)
            cell.done, cell.what = float(message["done"]), str(message["what"])


def _check_end(cell: Cell) -> None:
    """Raise if a cell did not end well."""
    code = cell.process.returncode
    if code == 0:
        return
    if code in (130, 143, -2, -15):
        raise Interrupted(-code if code < 0 else code - 128)
    last = last_line(cell.log) or f"exit code {code}"
    raise UserError(f"cell {title(cell.config)} stopped: {last} (log: {cell.log}). {GO_ON}")


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


# -- dry run ------------------------------------------------------------------------------------


def cell_states(study: Study, num_train: int) -> list[tuple[str, str, float]]:
    """Every (cell, state, work left): states are "scored", "trained", "at step …", "to do"."""
    states = []
    for config in study.runs:
        whole, work = resolve_plan(config, num_train), work_of(study, config)
        done = scored_steps(study, config)
        step = newest_checkpoint(config.run_dir)
        for milestone in whole.milestones:
            name = f"{title(config)} step {milestone}"
            before = max((m for m in whole.milestones if m < milestone), default=0)
            training = work.step * (milestone - min(milestone, max(step, before)))
            if milestone in done:
                states.append((name, "scored", 0.0))
            elif step >= milestone:
                states.append((name, "trained", work.milestone))
            else:
                state = f"at step {step}" if step > before else "to do"
                states.append((name, state, training + work.milestone))
    return states


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

    from mindiffusion.training.distributed import Ranks, process_group
    from mindiffusion.training.runtime import resolve_runtime
    from mindiffusion.training.trainer import Trainer

    side, batch = config.data.size, config.training.global_batch
    images = np.zeros((batch, side, side, 3), dtype=np.uint8)
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
    from dataclasses import replace

    training = replace(config.training, epochs=None, steps=1000, milestones=("100%",), log_every=50)
    return replace(config, training=training)


def print_dry_run(study: Study) -> int:
    """List every cell with its state and estimated minutes; nothing is written."""
    num_train = num_train_images(study.runs[0].data)
    states = cell_states(study, num_train)
    seconds, how = seconds_per_work(study)
    slots = len(device_slots(study.runs, study.runs_per_device))
    width = max(len(name) for name, _, _ in states)
    for name, state, work in states:
        print(f"{name:<{width}}  {state:<14} {work * seconds / 60:6.1f} min")
    total = sum(work for _, _, work in states) * seconds / 60 / slots
    print(f"about {total:.1f} minutes in all, {slots} cells at a time ({how})")
    return 0
