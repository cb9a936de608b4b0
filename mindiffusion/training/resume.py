"""What a run keeps to go on from, and how it goes on: the same on all ranks."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindiffusion.config.run import to_kept
from mindiffusion.config.yokes import unlike_leader
from mindiffusion.errors import UserError
from mindiffusion.files import write_text
from mindiffusion.kept_latents import latents_of
from mindiffusion.kept_statistics import statistics_of
from mindiffusion.outside.paths import read_file
from mindiffusion.printable import printable
from mindiffusion.training import checkpoint
from mindiffusion.training.metrics_log import METRICS_FILE, MOST_LOG_BYTES
from mindiffusion.training.trainer import Trainer

_log = logging.getLogger(__name__)


def save_state(trainer: Trainer, run_dir: Path) -> None:
    """Write a rolling state; called on the main rank.

    With the trainer's state it holds the log so far and the data's name, so that damage to the
    files that tell them costs nothing.
    """
    log = run_dir / METRICS_FILE
    content = read_file(log, MOST_LOG_BYTES) if log.exists() else b""
    extra = {"manifest": trainer.data.manifest_id, "log": content.decode("utf-8", "replace")}
    path = checkpoint.checkpoint_path(run_dir, trainer.step)
    checkpoint.save(path, trainer.state() | extra)
    checkpoint.prune(run_dir, trainer.step)


def save_milestone(trainer: Trainer, run_dir: Path) -> Path:
    """Write a milestone's weights; called on the main rank. Returns their file."""
    path = checkpoint.weights_path(run_dir, trainer.step)
    checkpoint.save(path, trainer.milestone_weights())
    return path


def _refuse_other_statistics(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Refuse a state whose statistics are not those of the trainer's images."""
    kept = statistics_of(state, trainer.config)
    own = trainer.statistics
    if kept is not None and own is not None and not kept.is_same(own):
        raise UserError(
            f"the state of step {state['step']} has another mean picture or spread than the "
            "training images; delete its files, or start anew."
        )


def _refuse_other_latents(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Refuse a state that was trained on other latents than the trainer's."""
    kept, own = latents_of(state, trainer.config), trainer.latents
    if kept != own:
        assert kept is not None and own is not None
        if kept.vae == own.vae:
            raise UserError(
                f"the state of step {state['step']} was trained on latents of {kept.words}, and "
                f"these, encoded anew by the same autoencoder, have scale {own.scale:.9g}; bring "
                "the folder latents-… of the former data folder, or give another --output."
            )
        raise UserError(
            f"the state of step {state['step']} was trained on latents of {kept.words}, and these "
            f"are of {own.words}; give the former autoencoder as codec.path, or another --output."
        )


def go_on(trainer: Trainer, run_dir: Path) -> None:
    """Bring a fresh trainer to where its run is, and the log to what it was then.

    Raises:
        UserError: this rank cannot read the state that the main rank goes on from, or it holds
            other tensors than the run's.
    """
    ranks = trainer.ranks
    state = None
    if ranks.is_main:
        config = to_kept(trainer.config)
        state = checkpoint.resume_point(run_dir, config, trainer.plan.milestones)
    step = ranks.max(state["step"] if state else 0)
    if not step:
        return
    if state is None:
        state = checkpoint.load(checkpoint.checkpoint_path(run_dir, step))
    own = (trainer.network, trainer.optimizer, trainer.averages.names, trainer.watch.unlogged)
    checkpoint.check_state(state, *own)
    _refuse_other_latents(trainer, state)
    _refuse_other_statistics(trainer, state)
    trainer.load_state(state)
    if ranks.is_main:
        write_text(run_dir / METRICS_FILE, state["log"])
        is_milestone = step in trainer.plan.milestones
        if is_milestone and not checkpoint.is_whole(checkpoint.weights_path(run_dir, step)):
            save_milestone(trainer, run_dir)
        # Killed between its save and its pruning, a run left an older state too many.
        checkpoint.prune(run_dir, step)


def take_over_stages(trainer: Trainer) -> None:
    """Tell a pacer that waits for them the stages of the run that it follows.

    Raises:
        UserError: that run is not trained to the end, or had other settings or steps.
    """
    config, folder = trainer.config, trainer.config.followed_dir
    if folder is None or not trainer.pacer.waits:
        return
    last = checkpoint.weights_path(folder, trainer.plan.total_steps)
    if not last.exists():
        raise UserError(
            f"pacing.of is {config.pacing.follows!r}, but {last} is not there: train that arm with "
            "this seed and length first, with '100%' among its milestones."
        )
    content = checkpoint.load(last)
    if others := unlike_leader(config, content["config"]):
        raise UserError(
            f"pacing.of is {config.pacing.follows!r}, but the run in {folder} has another "
            f"{printable(', '.join(others), 120)}; follow an arm with the same, or train that one "
            "anew."
        )
    if content.get("begun") is None:
        raise UserError(f"{last} does not say when its stages began; train that run anew.")
    for line in trainer.pacer.follow(content["begun"]):
        if trainer.ranks.is_main:
            _log.warning("%s: %s", config.arm, line)
