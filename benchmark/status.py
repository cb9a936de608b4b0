"""What every cell of a study is doing, read from its files while it runs; never imports torch.

A run is alive while its lock is held. Asking for the lock shares it for a moment, which a run that
starts just then outwaits (it tries for seconds). Files may be half written or damaged: what cannot
be read is shown as not known.
"""

import contextlib
import fcntl
import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.index import INDEX_FILE
from benchmark.rows import ROWS_FILE
from mindiffusion.errors import UserError
from mindiffusion.training.metrics_log import METRICS_FILE, read_metrics

_PROOF = "scored-own/"
"""How the row begins that proves a milestone's rows, where no index names it exactly."""
_MARK = "error: "
_REFRESH_SECONDS = 2.0
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
            "trained", "scored 4/4" or "failed".
        step: optimizer steps done; of a run that is not training, those it would go on from.
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
    lines = _table(read_status(folder))
    if not watch:
        print("\n".join(lines))
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            clear = "\x1b[H\x1b[J" if sys.stdout.isatty() else ""
            print(clear + "\n".join(lines), flush=True)
            time.sleep(_REFRESH_SECONDS)
            lines = _table(read_status(folder))
    return 0


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
    cells = _read_json(folder / INDEX_FILE).get("cells")
    for cell in cells if isinstance(cells, list) else []:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            milestones = tuple(int(step) for step in cell["milestones"])
            name = f"{cell['arm']}/{cell['seed']}"
            yield folder / cell["run"], Plan(name, int(cell["total_steps"]), milestones, True)


def _plan_of_run(run: Path) -> Plan:
    content = _read_json(run / "config.json")
    is_scored = _rows_file(run).exists()
    name, total, milestones = f"{run.parent.name}/{run.name.removeprefix('seed')}", None, None
    with contextlib.suppress(KeyError, TypeError):
        name = f"{content['config']['arm']}/{content['config']['seed']}"
    with contextlib.suppress(KeyError, TypeError, ValueError):
        total = int(content["plan"]["total_steps"])
        milestones = tuple(int(step) for step in content["plan"]["milestones"])
    return Plan(name, total, milestones, is_scored)


def _rows_file(run: Path) -> Path:
    """Where a study keeps the rows of a run: runs are ``<study>/<arm>/seed<k>/``."""
    return run.absolute().parent.parent / ROWS_FILE


# -- what a run is doing ------------------------------------------------------------------------


def _cell(run: Path, plan: Plan, scored: dict[str, set[int]]) -> CellStatus:
    is_locked = is_running(run)
    entries = _read_lines(run / METRICS_FILE)
    entry = entries[-1] if entries else {}
    logged, saved = _as_int(entry.get("step")), newest_checkpoint(run)
    step = max(logged, saved) if is_locked else saved
    is_trained = plan.total_steps is not None and saved >= plan.total_steps
    seen = _last_change(run)
    error = "" if is_locked else _failure(run / "cell.log")
    state = _state(plan, is_locked, is_trained, step, scored.get(plan.name, set()), error)
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
    is_done = plan.milestones is not None and set(scored) >= set(plan.milestones)
    if is_trained and plan.is_scored and is_done:
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
    return "stopped" if step else "to do"


def _time_left(run: Path, plan: Plan, entry: dict[str, Any], step: int) -> float | None:
    if plan.total_steps is None:
        return None
    try:
        batch = _read_json(run / "config.json")["config"]["training"]["global_batch"]
        return (plan.total_steps - step) * batch / entry["images_per_second"]
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def is_running(run: Path) -> bool:
    """Whether a process is at work in a run's folder."""
    try:
        with (run / ".lock").open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def newest_checkpoint(run: Path) -> int:
    """Step of the newest sealed state; 0 if there is none."""
    steps = [path.stem.removeprefix("ckpt-") for path in run.glob("ckpt-*.json")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def _last_change(run: Path) -> float | None:
    times = []
    for path in (*run.glob("*"), run / METRICS_FILE):
        # A file may go between being listed and being looked at.
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=None)


def _failure(log: Path) -> str:
    """The line a cell failed with; empty if it did not fail, or is not known to."""
    text = _read_text(log)
    lines = text.splitlines()
    has_failed = bool(lines) and (lines[-1].startswith(_MARK) or "Traceback" in text)
    return last_line(log) if has_failed else ""


def last_line(log: Path) -> str:
    """The last line of a log, without the mark of our errors; empty if there is none."""
    lines = _read_text(log).splitlines()
    return lines[-1].removeprefix(_MARK) if lines else ""


def _scored(rows: Path) -> dict[str, set[int]]:
    """Scored milestones by arm/seed: those that have the rows that prove all others."""
    proofs = _read_json(rows.parent / INDEX_FILE).get("proofs")
    wanted = {str(name) for name in proofs} if isinstance(proofs, list) else set()
    found: dict[str, dict[int, set[str]]] = {}
    for row in _read_lines(rows):
        metric = str(row.get("metric"))
        if metric in wanted or (not wanted and metric.startswith(_PROOF)):
            name = f"{row.get('arm')}/{row.get('seed')}"
            found.setdefault(name, {}).setdefault(_as_int(row["step"]), set()).add(metric)
    return {
        name: {step for step, metrics in steps.items() if metrics >= wanted}
        for name, steps in found.items()
    }


# -- tolerant reading ---------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return read_metrics(path)
    except OSError:
        return []


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


def duration(seconds: float) -> str:
    """A length of time for people: "12 s", "3:05 min", "2:03 h" or "4 days"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 48 * 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole // 86400} days"
