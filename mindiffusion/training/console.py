"""A run as a person sees it: prepared data, a progress bar, sample grids at milestones."""

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mindiffusion.class_conditions import a_class_a_row
from mindiffusion.config.run import RunConfig
from mindiffusion.data.store import num_classes, num_train_images, prepared_data
from mindiffusion.files import remove_temporaries
from mindiffusion.kept_classes import classes_of
from mindiffusion.kept_text import text_of
from mindiffusion.runtime import chunk_size
from mindiffusion.sampling import (
    Conditions,
    codec_of,
    model_of,
    primary_weights,
    sample_images,
    save_png,
    tile,
)
from mindiffusion.text_conditions import a_caption_a_row
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.preflight import preflight
from mindiffusion.training.ranks import ranks_from_environment
from mindiffusion.training.run_folder import run
from mindiffusion.training.signals import Interrupted, raise_if_stopped
from mindiffusion.training.trainer import Trainer

GRID_COLUMNS = 8

_log = logging.getLogger(__name__)


def grid_path(config: RunConfig, step: int) -> Path:
    """Where the sample grid of a milestone goes."""
    return config.grid_dir / f"step-{step:09d}.png"


def write_grid(
    weights_file: Path,
    config: RunConfig,
    device: torch.device,
    on_step: Callable[[], object] = lambda: None,
) -> Path:
    """Sample a grid from a milestone's primary weights; returns the PNG's path.

    Of a network that knows classes, or reads text, each row shows a class or a held-out prompt.

    Args:
        weights_file: the milestone's file.
        config: the run.
        device: where to sample.
        on_step: called before every network call; may raise to leave.
    """
    content = checkpoint.load(weights_file)
    model = model_of(content, primary_weights(config), device)
    side, grid = config.data.size, config.sampler.grid
    # A picture is no score: no more is drawn than it shows.
    chunk = min(grid, chunk_size(config.sampler, config.input_shape[1], device.type))
    sampler = replace(config.sampler, chunk=chunk)
    told = _shown(content, config)
    codec = codec_of(content, config)
    images = sample_images(
        model, model.process, codec, sampler, grid, side, on_step=on_step, conditions=told
    )
    path = grid_path(config, content["step"])
    save_png(path, tile(images, GRID_COLUMNS))
    return path


def _shown(content: Mapping[str, Any], config: RunConfig) -> Conditions | None:
    """What a grid's images are to show; None: the network is told nothing."""
    text, classes = text_of(content, config), classes_of(content, config)
    if classes is not None:
        return a_class_a_row(classes, GRID_COLUMNS)
    if text is None or not text.prompts:
        return None
    return a_caption_a_row(len(text.prompts), GRID_COLUMNS)


def train_on_console(config: RunConfig, stop_after: int | None = None) -> int:
    """Train with a progress bar; the exit code tells done from stopped."""
    ranks = ranks_from_environment()
    # Mistakes are told before a long preparation, not after it.
    known = num_train_images(config.data), ranks.world, num_classes(config.data)
    for note in preflight(config, *known):
        _log.warning("%s", note)
    data = prepared_data(config.data, show_progress=ranks.is_main)
    with contextlib.ExitStack() as stack:

        def hooks(trainer: Trainer) -> Hooks:
            return _hooks(trainer, stack, stop_after or trainer.plan.total_steps)

        try:
            trainer = run(config, data.training_for(config.data.labels), ranks, hooks, stop_after)
        except Interrupted as stop:
            stack.close()
            if ranks.is_main:
                message = f"stopped at a checkpoint in {config.run_dir}; the same command goes on."
                print(message, file=sys.stderr)
            return 128 + stop.signal_number
    if ranks.is_main:
        remove_temporaries(config.grid_dir, r"step-\d+\.png")
        _write_missing_grids(config, trainer)
        print(f"{config.arm} seed {config.seed}: {trainer.step} steps done in {config.run_dir}")
    return 0


def _write_missing_grids(
    config: RunConfig, trainer: Trainer, on_step: Callable[[], object] = lambda: None
) -> None:
    """Grids that an interruption between weights and grid left out."""
    for step in trainer.plan.milestones:
        weights = checkpoint.weights_path(config.run_dir, step)
        is_reached = step <= trainer.step and weights.exists()
        if is_reached and not grid_path(config, step).exists():
            write_grid(weights, config, trainer.process.device, on_step)


def _hooks(trainer: Trainer, stack: contextlib.ExitStack, last_step: int) -> Hooks:
    """A bar that the stack closes, so that errors start on a line of their own, and grids."""
    config = trainer.config
    hidden = not trainer.ranks.is_main
    bar = stack.enter_context(
        tqdm(total=last_step, unit="step", desc=config.arm, disable=hidden, dynamic_ncols=True)
    )

    def on_step(done: int, total: int) -> None:
        if bar.n == 0:
            # A resumed run's earlier steps are no measure of this one's speed.
            bar.initial = bar.n = done - 1
        with contextlib.suppress(OSError):  # a terminal that is gone must not end a run
            bar.update(done - bar.n)

    def look_up() -> None:
        # Sampling may take minutes: the other ranks wait, and we may be asked to stop.
        trainer.ranks.alive()
        raise_if_stopped()

    def on_milestone(step: int, path: Path) -> None:
        # The state is saved. The loop stops at its next look, and a grid left out is drawn when
        # the run goes on.
        with contextlib.suppress(Interrupted):
            grid = write_grid(path, config, trainer.process.device, look_up)
            with contextlib.suppress(OSError):
                bar.write(f"step {step}: weights {path}, samples {grid}", file=sys.stderr)

    def on_resume() -> None:
        with contextlib.suppress(Interrupted):
            _write_missing_grids(config, trainer, look_up)

    return Hooks(on_step, on_milestone, on_resume)
