"""What every cell of a study is doing, read from its files while it runs; never imports torch.

A run is alive while its lock is held. Asking for the lock shares it for a moment, which a run that
starts just then outwaits (it tries for seconds). Files may be half written, damaged or a
stranger's: what cannot be read is shown as not known, and no text of theirs moves the terminal.
"""

import contextlib
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from benchmark.analysis.answer import baseline_line
from benchmark.cells.duration import duration
from benchmark.rows.file import ROWS_FILE, read_loosely, rows_files
from benchmark.study.index import INDEX_FILE, read_index
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import Name, read_json
from mindiffusion.printable import printable
from mindiffusion.training.metrics_log import METRICS_FILE, read_metrics
from mindiffusion.training.run_files import failure, is_running, newest_checkpoint

_PROOF = "scored-own/"
"""How the row begins that proves a milestone's rows, where no index names it exactly."""
_REFRESH_SECONDS = 2.0
_SLOWEST = 1e-6
"""Images a second."""
_HEADER = ("cell", "state", "step", "", "stage", "loss", "img/s", "time left", "last sign")


@dataclass(frozen=True)
class Plan:
    """What is known of a run's length before it has begun, or from its config file.

    Attributes:
        name: arm/seed.
        total_steps: optimizer steps; None: not known.
        milestones: steps that are kept and scored; None: not known.
        is_scored: whether it is part of a study, which scores its milestones.
    """

    name: str
    total_steps: int | None
    milestones: tuple[int, ...] | None
    is_scored: bool


@dataclass(frozen=True)
class CellStatus:
    """One cell as a reader sees it.

    Attributes:
        name: arm/seed.
        state: "to do", "starting", "training", "scoring 1/4", "stopped", "trained 1/4",
            "trained", "scored 4/4" or "failed"; without a checkpoint here, "scored 1/4" too.
        step: optimizer steps done; of a run that is not training, those it would go on from, and
            all of them where every milestone is scored.
        total_steps: of the whole run; None: not known.
        entry: the newest line of its log; empty if there is none.
        seconds_left: of training, at the newest line's speed; None where it is not training.
        seconds_since: since any of its files changed; None if there is none.
        note: the last line of a failed cell's log.
    """

    name: str
    state: str
    step: int
    total_steps: int | None
    entry: dict[str, Any]
    seconds_left: float | None
    seconds_since: float | None
    note: str = ""


def show_status(folder: Path, watch: bool) -> int:
    """Print one line a cell; with ``watch`` again every two seconds until Ctrl-C.

    Raises:
        UserError: no such folder, or no run in it.
    """
    lines = _lines(folder)
    if not watch:
        print("\n".join(lines))
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            clear = "\x1b[H\x1b[J" if sys.stdout.isatty() else ""
            print(clear + "\n".join(lines), flush=True)
            time.sleep(_REFRESH_SECONDS)
            lines = _lines(folder)
    return 0


def _lines(folder: Path) -> list[str]:
    """A line a cell and, of a study whose baseline has been scored, how far that has come."""
    lines = _table(read_status(folder))
    with contextlib.suppress(OSError, UserError):
        lines += [line for line in [baseline_line(folder)] if line]
    return lines


def read_status(folder: Path) -> list[CellStatus]:
    """Every cell of a study, every seed of a train script's folder, or one run.

    Args:
        folder: a study's folder, a folder of ``seed<k>/`` folders, or one of these.

    Raises:
        UserError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} is no folder; give a study's, such as results/demo, or a run's, such as "
            "checkpoints_c_32."
        )
    plans = _find(folder)
    if not plans:
        raise UserError(
            f"{folder} has no runs (no {INDEX_FILE}, no seed*/config.json, also one folder deeper, "
            "and no config.json); give a study's folder or that of a run."
        )
    scored = {path: _scored(path) for path in {_rows_file(run) for run in plans}}
    return [_cell(run, plan, scored[_rows_file(run)]) for run, plan in plans.items()]


# -- which runs there are -----------------------------------------------------------------------


def _find(folder: Path) -> dict[Path, Plan]:
    """Run folders with what is known of them: those the study lists, then those found."""
    plans = dict(_listed(folder))
    if (folder / "config.json").exists():
        found = [folder]
    else:
        found = sorted((*folder.glob("seed*/config.json"), *folder.glob("*/seed*/config.json")))
        found = [path.parent for path in found]
    for run in found:
        if run not in plans:
            plans[run] = _plan_of_run(run)
    return plans


def _listed(folder: Path) -> Iterator[tuple[Path, Plan]]:
    for cell in _index(folder).get("cells", ()):
        name, total = f"{cell['arm']}/{cell['seed']}", cell.get("total_steps")
        yield folder / cell["run"], Plan(name, total, tuple(cell["milestones"]), True)


def _plan_of_run(run: Path) -> Plan:
    content, is_scored = _run_file(run), bool(rows_files(_rows_file(run)))
    if content is None:
        name = printable(f"{run.parent.name}/{run.name.removeprefix('seed')}", 200)
        return Plan(name, None, None, is_scored)
    name = f"{content.config.arm}/{content.config.seed}"
    plan = content.plan
    if plan is None:
        return Plan(name, None, None, is_scored)
    return Plan(name, plan.total_steps, plan.milestones, is_scored)


def _rows_file(run: Path) -> Path:
    """Where a study keeps the rows of a run: runs are ``<study>/<arm>/seed<k>/``."""
    return run.absolute().parent.parent / ROWS_FILE


# -- what a run is doing ------------------------------------------------------------------------


def _cell(run: Path, plan: Plan, scored: dict[str, set[int]]) -> CellStatus:
    is_locked = is_running(run)
    entry = _newest_entry(run / METRICS_FILE)
    logged, saved = _as_int(entry.get("step")), newest_checkpoint(run)
    steps = scored.get(plan.name, set())
    if steps and _is_done(plan, steps) and not is_locked:
        # Rows are the result; its checkpoints may be gone, or on another machine.
        saved = plan.total_steps or saved
    step = max(logged, saved) if is_locked else saved
    is_trained = plan.total_steps is not None and saved >= plan.total_steps
    seen = _last_change(run)
    error = "" if is_locked else failure(run / "cell.log")
    state = _state(plan, is_locked, is_trained, step, steps, error)
    return CellStatus(
        name=plan.name,
        state=state,
        step=step,
        total_steps=plan.total_steps,
        entry=entry,
        seconds_left=_time_left(run, plan, entry, step) if state == "training" else None,
        seconds_since=None if seen is None else max(0.0, time.time() - seen),
        note=error if state == "failed" else "",
    )


def _state(
    plan: Plan, is_locked: bool, is_trained: bool, step: int, scored: Collection[int], error: str
) -> str:
    done = f"{len(set(scored) & set(plan.milestones or ()))}/{len(plan.milestones or ())}"
    if is_trained and plan.is_scored and _is_done(plan, scored):
        return f"scored {done}"
    if is_locked:
        # A milestone is scored before the next step.
        is_at_milestone = step in (plan.milestones or ()) and step not in scored
        if plan.is_scored and (is_trained or is_at_milestone):
            return f"scoring {done}"
        return "training" if step else "starting"
    if error:
        return "failed"
    if is_trained:
        return f"trained {done}" if plan.is_scored else "trained"
    if step:
        return "stopped"
    return f"scored {done}" if scored else "to do"


def _is_done(plan: Plan, scored: Collection[int]) -> bool:
    return plan.milestones is not None and set(scored) >= set(plan.milestones)


def _time_left(run: Path, plan: Plan, entry: dict[str, Any], step: int) -> float | None:
    content, speed = _run_file(run), entry.get("images_per_second")
    if plan.total_steps is None or content is None or not isinstance(speed, int | float):
        return None
    batch = content.config.training.global_batch
    # Below that, nobody waits for the end.
    return None if speed < _SLOWEST or batch is None else (plan.total_steps - step) * batch / speed


def _last_change(run: Path) -> float | None:
    times = []
    for path in (*run.glob("*"), run / METRICS_FILE):
        # A file may go between being listed and being looked at.
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=None)


def _scored(rows: Path) -> dict[str, set[int]]:
    """Scored milestones by arm/seed: those that have the rows that prove all others."""
    wanted = set(_index(rows.parent).get("proofs", ()))
    found: dict[str, dict[int, set[str]]] = {}
    for row in read_loosely(rows):
        metric = str(row.get("metric"))
        if metric in wanted or (not wanted and metric.startswith(_PROOF)):
            name = f"{row.get('arm')}/{row.get('seed')}"
            found.setdefault(name, {}).setdefault(_as_int(row.get("step")), set()).add(metric)
    return {
        name: {step for step, metrics in steps.items() if metrics >= wanted}
        for name, steps in found.items()
    }


# -- tolerant reading ---------------------------------------------------------------------------


class _Settings(BaseModel):
    global_batch: Annotated[int, Field(ge=1, le=2**40)] | None = None


class _Run(BaseModel):
    arm: Name
    seed: Annotated[int, Field(ge=0, le=2**53)]
    training: _Settings = _Settings()


class _Steps(BaseModel):
    total_steps: Annotated[int, Field(ge=1, le=2**53)]
    milestones: tuple[Annotated[int, Field(ge=0, le=2**53)], ...]


class _RunFile(BaseModel):
    """What is shown of a run's config file."""

    config: _Run
    plan: _Steps | None = None


def _run_file(run: Path) -> _RunFile | None:
    with contextlib.suppress(OSError, UserError):
        return read_json(run / "config.json", _RunFile, "")
    return None


def _index(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, UserError):
        return read_index(folder)
    return {}


def _newest_entry(log: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, UserError, IndexError):
        return read_metrics(log)[-1]
    return {}


def _as_int(value: object) -> int:
    return value if isinstance(value, int) else 0


# -- on screen ----------------------------------------------------------------------------------


def _table(cells: Sequence[CellStatus]) -> list[str]:
    """The cells as aligned lines under a header; a failed cell's note ends its line."""
    rows = [_HEADER, *(_columns(cell) for cell in cells)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) for row in rows]
    notes = ["", *(f"  {cell.note}" if cell.note else "" for cell in cells)]
    return [(line + note).rstrip() for line, note in zip(lines, notes, strict=True)]


def _columns(cell: CellStatus) -> tuple[str, ...]:
    total, entry = cell.total_steps, cell.entry
    loss, speed = entry.get("loss"), entry.get("images_per_second")
    has_begun = bool(entry) and cell.step > 0
    return (
        cell.name,
        cell.state,
        f"{cell.step}/{'?' if total is None else total}",
        f"{100 * cell.step // total} %" if total else "",
        str(entry.get("stage", "")) if has_begun else "",
        f"{loss:.4f}" if has_begun and isinstance(loss, float) else "",
        f"{speed:.0f}" if cell.state == "training" and isinstance(speed, int | float) else "",
        "" if cell.seconds_left is None else duration(cell.seconds_left),
        "" if cell.seconds_since is None else f"{duration(cell.seconds_since)} ago",
    )
