"""Runs a study: cells side by side, one progress bar, then tables and figures.

A cell is one arm with one seed, in a process of its own. Finished cells are never run again,
unfinished ones go on where they were; the same command does both.
"""

import contextlib
import json
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

from benchmark.cell import refuse_stale_rows, scored_steps, work_of
from benchmark.evaluate import make_yardstick
from benchmark.results import ROWS_FILE
from benchmark.study import Study
from benchmark.tables import write_tables
from mindiffusion.data.store import num_train_images, prepared_data
from mindiffusion.errors import UserError
from mindiffusion.machine import available_cores
from mindiffusion.training.config import RunConfig
from mindiffusion.training.metrics_log import read_metrics
from mindiffusion.training.plan import resolve_plan
from mindiffusion.training.signals import Interrupted
from mindiffusion.unet import check_sizes

STOP_SECONDS = 60.0


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


def device_slots(configs: Sequence[RunConfig]) -> list[str | None]:
    """Places to run cells side by side: a GPU index each, or None for a share of the CPU's cores.

    One process a GPU beats several GPUs a process while there are more cells than GPUs.
    """
    import torch

    if configs[0].training.device != "cpu" and torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        return list(visible.split(",")) if visible else [str(i) for i in range(count)]
    threads = configs[0].training.threads or available_cores()
    return [None] * max(1, available_cores() // threads)


def run_study(study: Study, arguments: Sequence[str]) -> int:
    """Bring a study to its end; returns the exit code.

    Args:
        study: the study.
        arguments: command-line words that make a child load the same study.

    Raises:
        UserError: a mistake in a run, found before any is trained, or a cell that failed.
        Interrupted: asked to stop; the cells have saved their state.
    """
    for config in study.runs:
        check_sizes(config.model.n_feat, config.data.size)
        resolve_plan(config, num_train_images(config.data))
    kinds = dict.fromkeys(config.data for config in study.runs)
    data = {kind: prepared_data(kind, show_progress=True) for kind in kinds}
    for config in study.runs:
        refuse_stale_rows(study, config, data[config.data].manifest_id)
    pending = [config for config in study.runs if _is_unfinished(study, config)]
    if pending:
        slots = device_slots(study.runs)
        for prepared in data.values():
            # Computed once and cached, before the cells would all do so at once.
            make_yardstick(study.evaluation, prepared, "cpu" if slots[0] is None else "cuda")
        with _sigterm_stops():
            _run_cells(study, pending, arguments, slots)
    finish(study)
    return 0


def _is_unfinished(study: Study, config: RunConfig) -> bool:
    milestones = resolve_plan(config, num_train_images(config.data)).milestones
    return not scored_steps(study, config) >= set(milestones)


def finish(study: Study) -> None:
    """Tables and figures from the rows."""
    from plots.build import write_figures

    written = [*write_tables(study.folder), *write_figures(study.folder)]
    print(f"{study.folder / ROWS_FILE} and {len(written)} tables and figures:")
    for path in written:
        print(f"  {path}")


@contextlib.contextmanager
def _sigterm_stops() -> Iterator[None]:
    """SIGTERM ends a study as Ctrl-C does: cells save their state first."""

    def stop(number: int, frame: object) -> None:
        raise Interrupted(number)

    old = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _run_cells(
    study: Study,
    pending: list[RunConfig],
    arguments: Sequence[str],
    slots: Sequence[str | None],
) -> None:
    """Run cells, as many at a time as there are slots, under one progress bar."""
    totals = {title(c): _total_work(study, c) for c in study.runs}
    finished = sum(totals[title(c)] for c in study.runs if c not in pending)
    waiting = list(pending)
    running: dict[int, Cell] = {}
    with _bar(sum(totals.values())) as bar, _stopping(running):
        is_under_way = False
        while waiting or running:
            for number in range(len(slots)):
                if number not in running and waiting:
                    running[number] = _start(study, waiting.pop(0), slots[number], arguments)
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
                bar.start_t = time.time()
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
        mininterval=0.5,
        smoothing=0,
    )


def _start(study: Study, config: RunConfig, gpu: str | None, arguments: Sequence[str]) -> Cell:
    config.run_dir.mkdir(parents=True, exist_ok=True)
    log = config.run_dir / "cell.log"
    environment = dict(os.environ)
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    elif config.training.threads:
        environment["OMP_NUM_THREADS"] = str(config.training.threads)
    which = ["--cell", config.output, str(config.seed)]
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
    if code in (130, 143):
        raise Interrupted(code - 128)
    lines = cell.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
    raise UserError(
        f"cell {title(cell.config)} stopped: {last} (log: {cell.log}). "
        "Run the same command again to go on."
    )


@contextlib.contextmanager
def _stopping(running: dict[int, Cell]) -> Iterator[None]:
    """Whatever ends the study, let its cells save their state first."""
    try:
        yield
    finally:
        for cell in running.values():
            cell.process.terminate()
        for cell in running.values():
            try:
                cell.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                cell.process.kill()


# -- dry run ------------------------------------------------------------------------------------


def cell_states(study: Study, num_train: int) -> list[tuple[str, str, float]]:
    """Every (cell, state, work left): states are "scored", "trained", "at step …", "to do"."""
    states = []
    for config in study.runs:
        whole, work = resolve_plan(config, num_train), work_of(study, config)
        done = scored_steps(study, config)
        step = _step_reached(config)
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


def _step_reached(config: RunConfig) -> int:
    """Last step with a rolling checkpoint."""
    steps = [int(p.stem.split("-")[1]) for p in config.run_dir.glob("ckpt-*.json")]
    return max(steps, default=0)


def seconds_per_work(study: Study) -> tuple[float, str]:
    """Seconds for a forward pass of one image, and how that was found.

    From the logs of the study's own runs where there are any, else three steps timed now.
    """
    for config in study.runs:
        log = config.run_dir / "metrics.jsonl"
        entries = read_metrics(log) if log.exists() else []
        if entries:
            last = entries[-1]
            work = work_of(study, config).step * last["step"]
            return last["train_seconds"] / work, f"speed of {title(config)} so far"
    return _time_steps(study.runs[0]), "three steps timed now"


def _time_steps(config: RunConfig) -> float:
    import numpy as np

    from mindiffusion.training.distributed import Ranks, process_group
    from mindiffusion.training.loop import Trainer
    from mindiffusion.training.runtime import resolve_runtime

    side, batch = config.data.size, config.training.global_batch
    images = np.zeros((batch, side, side, 3), dtype=np.uint8)
    runtime = resolve_runtime(config, 1)
    with process_group(Ranks(), runtime.device) as device:
        trainer = Trainer(_in_steps(config), runtime, Ranks(), device, images)
        trainer.train_step().item()
        started = time.perf_counter()
        for _ in range(3):
            trainer.train_step().item()
    return (time.perf_counter() - started) / 3 / (3.0 * batch)


def _in_steps(config: RunConfig) -> RunConfig:
    """The run with a length that does not depend on the data."""
    from dataclasses import replace

    training = replace(config.training, epochs=None, steps=1000, milestones=("100%",))
    return replace(config, training=training)


def print_dry_run(study: Study) -> int:
    """List every cell with its state and estimated minutes; nothing is written."""
    num_train = num_train_images(study.runs[0].data)
    states = cell_states(study, num_train)
    seconds, how = seconds_per_work(study)
    slots = len(device_slots(study.runs))
    width = max(len(name) for name, _, _ in states)
    for name, state, work in states:
        print(f"{name:<{width}}  {state:<14} {work * seconds / 60:6.1f} min")
    total = sum(work for _, _, work in states) * seconds / 60 / slots
    print(f"about {total:.1f} minutes in all, {slots} cells at a time ({how})")
    return 0
