"""One run in its folder: lock, config file, resume, training, milestones.

The same call starts, resumes and, on a finished run, does nothing.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mindiffusion.config.run import RunConfig, check, differences, ema_name, to_kept
from mindiffusion.config.shares import decay_of, warm_up_of
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock, remove_temporaries, sha256_of_json, write_json
from mindiffusion.outside.documents import Name, read_json
from mindiffusion.outside.paths import inside, refuse_links
from mindiffusion.prepared_latents import with_latents
from mindiffusion.runtime import Runtime, check_runtime, resolve_runtime
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks, train
from mindiffusion.training.metrics_log import METRICS_FILE
from mindiffusion.training.ranks import Ranks, process_group
from mindiffusion.training.trainer import Trainer

CONFIG_FILE = "config.json"
LOCK_WAIT_SECONDS = 20.0
"""A killed run's last processes may take a moment to go."""

_log = logging.getLogger(__name__)


class _RunFile(BaseModel):
    """A run's sealed description."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    config: dict[str, Any]
    runtime: dict[str, Any]
    manifest: Name
    plan: dict[str, Any]
    sha256: str


def settle_runtime(config: RunConfig, manifest_id: str, ranks: Ranks) -> Runtime:
    """The run's runtime: what its folder says it began with, else resolved now.

    Raises:
        UserError: the folder holds a run of another config or other data, or one that this
            machine cannot go on with.
    """
    known = _known_run(config.run_dir)
    if known is None:
        return resolve_runtime(config, ranks.local_world, ranks.runs_on_machine)
    _check_same(config, known)
    if known["manifest"] != manifest_id:
        raise UserError(
            f"{config.run_dir} was trained on data {known['manifest']}, but the prepared data "
            f"is {manifest_id}; choose another --output, or prepare the old data again."
        )
    runtime: Runtime = check(Runtime, known["runtime"], str(config.run_dir))
    check_runtime(runtime, ranks.local_world)
    return runtime


def refuse_other_config(config: RunConfig) -> None:
    """Refuse, before anything is prepared, to go on with a run of other settings.

    Raises:
        UserError: the folder holds one.
    """
    known = _read_run_file(config.run_dir / CONFIG_FILE)
    if known is not None:
        _check_same(config, known)


def _check_same(config: RunConfig, known: dict[str, Any]) -> None:
    changed = differences(known["config"], to_kept(config))
    if changed:
        raise UserError(
            f"{config.run_dir} holds a run with another config (different: "
            f"{', '.join(changed[:4])}); choose another --output, or delete that folder."
        )


def _known_run(run_dir: Path) -> dict[str, Any] | None:
    """What the folder's run is; if the file that says so is damaged, by its newest whole state."""
    path = run_dir / CONFIG_FILE
    if not path.exists():
        return None
    known = _read_run_file(path)
    if known is None:
        known = checkpoint.newest(run_dir)
        source = "the given config" if known is None else "the newest whole checkpoint"
        _log.warning("%s is damaged; it is made anew from %s.", path, source)
    return known


def _read_run_file(path: Path) -> dict[str, Any] | None:
    """A run's sealed description, or None if the file is not whole."""
    try:
        content = read_json(path, _RunFile, "")
    except (OSError, UserError):
        return None
    known = content.model_dump(exclude={"sha256"})
    return known if content.sha256 == sha256_of_json(known) else None


def trained_on(run_dir: Path) -> str | None:
    """Manifest id of the data that a run was trained on; None where its folder does not say."""
    known = _read_run_file(run_dir / CONFIG_FILE)
    return None if known is None else str(known["manifest"])


def _write_run_file(path: Path, trainer: Trainer) -> None:
    training, total = trainer.config.training, trainer.plan.total_steps
    content = {
        "config": to_kept(trainer.config),
        "runtime": asdict(trainer.runtime),
        "manifest": trainer.data.manifest_id,
        "plan": {
            "total_steps": total,
            "milestones": list(trainer.plan.milestones),
            "warm_up_steps": warm_up_of(training.optimizer.warm_up_steps, total),
            "ema_decays": {ema_name(one): decay_of(one, total) for one in training.ema_decays},
        },
    }
    write_json(path, content | {"sha256": sha256_of_json(content)})


def run(
    config: RunConfig,
    data: TrainingData,
    ranks: Ranks,
    make_hooks: Callable[[Trainer], Hooks],
    stop_after: int | None = None,
) -> Trainer:
    """Train one run to its end, or go on with it.

    Args:
        config: the run.
        data: what it is trained on.
        ranks: this process among its peers.
        make_hooks: builds the hooks, given the trainer.
        stop_after: for smoke runs, the last step to do.

    Raises:
        UserError: bad input, a link in the run's folder, or another process is at this run.
        LostContact: another rank hangs or is gone.
        Interrupted: asked to stop; the state is saved.
    """
    # Whoever made the folder, nothing is written outside it.
    refuse_links(inside(Path(config.output), config.run_dir.name))
    if not ranks.is_main:
        return _run_locked(config, data, ranks, make_hooks, stop_after)
    lock = config.run_dir / ".lock"
    with exclusive_lock(lock, wait_seconds=LOCK_WAIT_SECONDS, on_wait=lambda: _say_waiting(lock)):
        files = (checkpoint.FILES, re.escape(CONFIG_FILE), re.escape(METRICS_FILE))
        remove_temporaries(config.run_dir, "|".join(files))
        return _run_locked(config, data, ranks, make_hooks, stop_after)


def _say_waiting(lock: Path) -> None:
    _log.warning(
        "another process is at %s; waiting %.0f s for it to end.", lock.parent, LOCK_WAIT_SECONDS
    )


def _run_locked(
    config: RunConfig,
    data: TrainingData,
    ranks: Ranks,
    make_hooks: Callable[[Trainer], Hooks],
    stop_after: int | None,
) -> Trainer:
    runtime = settle_runtime(config, data.manifest_id, ranks)
    # Before ranks wait for each other: encoding may take longer than they do.
    data = with_latents(
        data, config.codec, config.data, runtime.device, show_progress=ranks.is_main
    )
    with process_group(ranks, runtime.device, config.training.timeout_seconds) as device:
        with ranks.phase("start"):
            trainer = Trainer(config, runtime, ranks, device, data)
        path = config.run_dir / CONFIG_FILE
        # Only now is it known that this config can run: a refused one claims no folder. What may
        # change is what was last asked for.
        if ranks.is_main and (_read_run_file(path) or {}).get("config") != to_kept(config):
            _write_run_file(path, trainer)
        train(trainer, config.run_dir, make_hooks(trainer), stop_after)
    return trainer
