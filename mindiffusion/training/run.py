"""One run in its folder: lock, config file, resume, training, milestones.

The same call starts, resumes and, on a finished run, does nothing.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock, write_json
from mindiffusion.training.config import RunConfig, differences, to_dict
from mindiffusion.training.distributed import Ranks, process_group
from mindiffusion.training.loop import Hooks, Trainer, train
from mindiffusion.training.runtime import Runtime, check_runtime, resolve_runtime

CONFIG_FILE = "config.json"
LOCK_WAIT_SECONDS = 20.0
"""A killed run's last processes may take a moment to go."""


def settle_runtime(config: RunConfig, manifest_id: str, ranks: Ranks) -> Runtime:
    """The run's runtime: from its config file if it has one, else resolved now.

    Raises:
        UserError: the folder holds a run of another config or other data, or one that this
            machine cannot go on with.
    """
    path = config.run_dir / CONFIG_FILE
    if not path.exists():
        return resolve_runtime(config, ranks.local_world)
    known = _read_run_file(path)
    changed = differences(known["config"], to_dict(config))
    if changed:
        raise UserError(
            f"{config.run_dir} holds a run with another config (different: "
            f"{', '.join(changed[:4])}); choose another --output, or delete that folder."
        )
    if known["manifest"] != manifest_id:
        raise UserError(
            f"{config.run_dir} was trained on data {known['manifest']}, but the prepared data "
            f"is {manifest_id}; choose another --output, or prepare the old data again."
        )
    runtime = Runtime(**known["runtime"])
    check_runtime(runtime, ranks.local_world)
    return runtime


def _read_run_file(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in ("config", "runtime", "manifest")}
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is not a run's config file; restore it, or choose another --output."
        ) from None


def run(
    config: RunConfig,
    images: np.ndarray,
    manifest_id: str,
    ranks: Ranks,
    make_hooks: Callable[[Trainer], Hooks],
    stop_after: int | None = None,
) -> Trainer:
    """Train one run to its end, or go on with it.

    Args:
        config: the run.
        images: (N, H, W, 3) uint8 training array.
        manifest_id: short hash of the data's manifest.
        ranks: this process among its peers.
        make_hooks: builds the hooks, given the trainer.
        stop_after: for smoke runs, the last step to do.

    Raises:
        UserError: bad input, or another process is at this run.
        Interrupted: asked to stop; the state is saved.
    """
    if not ranks.is_main:
        return _run_locked(config, images, manifest_id, ranks, make_hooks, stop_after)
    with exclusive_lock(config.run_dir / ".lock", wait_seconds=LOCK_WAIT_SECONDS):
        return _run_locked(config, images, manifest_id, ranks, make_hooks, stop_after)


def _run_locked(
    config: RunConfig,
    images: np.ndarray,
    manifest_id: str,
    ranks: Ranks,
    make_hooks: Callable[[Trainer], Hooks],
    stop_after: int | None,
) -> Trainer:
    runtime = settle_runtime(config, manifest_id, ranks)
    with process_group(ranks, runtime.device) as device:
        trainer = Trainer(config, runtime, ranks, device, images)
        path = config.run_dir / CONFIG_FILE
        if ranks.is_main and not path.exists():
            # Only now is it known that this config can run: a refused one claims no folder.
            resolved = {"config": to_dict(config), "runtime": asdict(runtime)}
            write_json(path, resolved | {"manifest": manifest_id})
        train(trainer, config.run_dir, make_hooks(trainer), stop_after)
    return trainer
