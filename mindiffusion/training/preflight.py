"""What can be known of a run before its first step; dry runs and real starts ask the same."""

import math
from collections.abc import Iterable
from pathlib import Path

from mindiffusion.build import expected_tensors
from mindiffusion.config.codec import VAEConfig
from mindiffusion.config.plan import rank_share, resolve_plan
from mindiffusion.config.run import RunConfig, TrainingConfig, ema_name
from mindiffusion.config.sampler import SAMPLERS
from mindiffusion.config.shares import decay_of, warm_up_of
from mindiffusion.errors import UserError
from mindiffusion.kept_classes import (
    check_guidance,
    check_interval,
    check_num_classes,
)
from mindiffusion.kept_text import check_told
from mindiffusion.spacing import EVEN_IN_TIME, RHO
from mindiffusion.training import checkpoint
from mindiffusion.training.run_folder import refuse_other_config
from mindiffusion.vae import check_vae
from mindiffusion.writable import check_room, try_folder

_MOST_LOGGED = 100_000_000
"""Losses that are kept between two lines of the log: 800 MB with their noise times."""
_BYTES = {"fp64": 8}
_MOST_UNSCORED = 2
"""Milestones whose weights are there at once where scored ones are deleted: a run that was stopped
before it scored one scores that with the next."""
_ADAM = 2
"""Averages that the optimizer keeps of each weight."""


def preflight(
    config: RunConfig, num_train: int | None, world: int = 1, num_classes: int | None = None
) -> list[str]:
    """Refuse a run that could not come to its end; writes nothing.

    Args:
        config: the run.
        num_train: training images; None where the data can't be found yet.
        world: ranks.
        num_classes: classes of the data's label; None: likewise, or there is none.

    Returns:
        What to know beforehand, a line each.

    Raises:
        UserError: settings that contradict each other, the data or the ranks, another run in the
            folder, or no room on the disk.
        OSError: a folder that can't be written to.
    """
    check_run(config, num_train, world, num_classes)
    check_interval(config)
    refuse_other_config(config)
    for folder in (config.run_dir, config.grid_dir):
        try_folder(folder)
    if num_train is None:
        return []
    check_room_for([config], num_train, Path(config.output))
    return notes(config, num_train)


def check_run(
    config: RunConfig, num_train: int | None, world: int = 1, num_classes: int | None = None
) -> None:
    """Refuse settings of a run that contradict each other, the data or the ranks.

    Args:
        config: the run.
        num_train: training images; None where the data can't be found yet.
        world: ranks.
        num_classes: classes of the data's label; None: likewise, or there is none.

    Raises:
        UserError: they do.
    """
    training = config.training
    config.check_model()
    check_told(config)
    check_num_classes(config, num_classes)
    check_sampler(config)
    _check_capacity(config)
    _check_variance(config)
    _check_codec(config, num_train)
    share = rank_share(training.global_batch, world)
    if training.log_every * share > _MOST_LOGGED:
        raise UserError(
            f"training.log_every {training.log_every} of {share} images each are too many losses "
            f"to keep between two lines of the log; give at most {_MOST_LOGGED // share}."
        )
    if num_train is not None:
        resolve_plan(config, num_train)


def _check_capacity(config: RunConfig) -> None:
    """Refuse a stage that asks a network for what it does not have."""
    for stage in config.curriculum:
        for name in ("sparsity", "penalty_lambda"):
            value = getattr(stage, name)
            if value and name not in config.model.heeds:
                raise UserError(
                    f"stage {stage.name!r} has {name} {value:g}, but the network "
                    f"{config.model.network} has nothing that it could change; leave it out, or "
                    "give a network with a mask or a penalty (model.network)."
                )


def _check_variance(config: RunConfig) -> None:
    """Refuse a network that learns a variance which the process does not have."""
    if config.model.learn_sigma and not config.process.has_chain:
        raise UserError(
            f"model.learn_sigma is true, but process.kind {config.process.kind} is no chain of "
            "steps whose variance could be learned; leave it out, or give process.kind=ddpm."
        )
    if config.model.learn_sigma and not config.codec.has_grey_levels:
        raise UserError(
            "model.learn_sigma is true, but the bound that it is learned from ends at grey levels, "
            f"which inputs of codec.kind {config.codec.kind} have not; leave one of the two out."
        )


def _check_codec(config: RunConfig, num_train: int | None) -> None:
    """Refuse an autoencoder that does not fit; it may be missing where the data are too."""
    codec = config.codec
    if isinstance(codec, VAEConfig) and (num_train is not None or Path(codec.path).exists()):
        check_vae(codec)


def check_sampler(config: RunConfig) -> None:
    """Refuse a sampler that the process lacks, or with more steps than it has levels.

    Also guidance of a network that has not learned to draw without a class.

    Raises:
        UserError: it does.
    """
    check_guidance(config)
    sampler, levels = config.sampler, config.process.num_levels
    _check_spacing(config)
    if levels is None:
        if sampler.kind.is_whole_chain:
            raise UserError(
                f"sampler.name is {sampler.name}, which goes through every noise level, but "
                f"process.kind {config.process.kind} has continuous ones; give "
                "--set sampler.name=ddim or euler (a run that is under way goes on)."
            )
    elif not sampler.kind.is_whole_chain and sampler.kind.levels(sampler.steps) > levels:
        raise UserError(
            f"sampler.steps is {sampler.steps}, but the process has {levels} noise levels; give at "
            f"most that, such as --set sampler.steps={levels} (a run that is under way goes on)."
        )


def _check_spacing(config: RunConfig) -> None:
    """Refuse a spacing that the sampler can't take on this process, and a rho without "rho"."""
    sampler, process = config.sampler, config.process
    spacing = sampler.spacing_on(process.spacing)
    if sampler.kind.uses_rates and spacing in EVEN_IN_TIME and not process.has_even_times:
        raise UserError(
            f"sampler.spacing is {spacing}, but such steps are too far apart at the high noise of "
            f"process.kind {process.kind} for sampler.name {sampler.name}; leave sampler.spacing "
            "out, or give log_snr (a run that is under way goes on)."
        )
    if sampler.rho != RHO and spacing != "rho":
        raise UserError(
            f"sampler.rho is {sampler.rho:g}, but the levels are spaced by {spacing}; leave it "
            "out, or give sampler.spacing=rho (a run that is under way goes on)."
        )


def notes(config: RunConfig, num_train: int) -> list[str]:
    """What is no mistake, but may not be meant."""
    batch = config.training.global_batch
    found = _lengths(config.training, resolve_plan(config, num_train).total_steps)
    if config.training.augment and config.data.horizontal_flip:
        found.append(
            "data.horizontal_flip mirrors images that training.augment mirrors and tells too: the "
            "network is not told of the former; give data.horizontal_flip=false if that is not "
            "meant."
        )
    if config.model.learn_sigma and not config.sampler.kind.uses_variance:
        others = " or ".join(name for name, kind in SAMPLERS.items() if kind.uses_variance)
        found.append(
            f"model.learn_sigma is true, but sampler.name {config.sampler.name} does not use the "
            f"variance; give sampler.name={others} if its images are to have it."
        )
    if num_train >= batch:
        return found
    return [
        *found,
        f"the data has {num_train} training images, fewer than training.global_batch ({batch}): "
        "a step sees images more than once; give a smaller --global-batch if that is not meant.",
    ]


def _lengths(training: TrainingConfig, total_steps: int) -> list[str]:
    """What lengths are in this run that are given as shares of its steps."""
    warm_up = training.optimizer.warm_up_steps
    found = []
    if isinstance(warm_up, str):
        steps = warm_up_of(warm_up, total_steps)
        found.append(f"training.optimizer.warm_up_steps {warm_up} is {steps} steps.")
    for decay in training.ema_decays:
        if isinstance(decay, str):
            rate = decay_of(decay, total_steps)
            found.append(
                f"training.ema_decays {decay} is a decay of {rate:.6g} ({ema_name(decay)})."
            )
    return found


def check_room_for(
    configs: Iterable[RunConfig], num_train: int, folder: Path, *, are_scored: bool = False
) -> None:
    """Refuse runs for whose files a disk has no room.

    Args:
        configs: runs on the same data.
        num_train: its training images.
        folder: where their folders are.
        are_scored: whether each milestone is scored, in all its parts, before the next is trained.

    Raises:
        UserError: there is no room.
    """
    needed = sum(_missing_bytes(config, num_train, are_scored) for config in configs)
    advice = "free some, choose another --output, or give fewer training.milestones."
    check_room(folder, needed, "checkpoints and weights", advice)


def _missing_bytes(config: RunConfig, num_train: int, are_scored: bool) -> int:
    milestones = len(resolve_plan(config, num_train).milestones)
    if are_scored and config.training.keep_scored == "last":
        milestones = min(milestones, _MOST_UNSCORED)
    files = [path for kind in ("ckpt-*", "weights-*") for path in config.run_dir.glob(kind)]
    return max(0, run_bytes(config, milestones) - sum(path.lstat().st_size for path in files))


def run_bytes(config: RunConfig, num_milestones: int) -> int:
    """Bytes of a run's files when they are most: states, one of them being written, and weights.

    Args:
        config: the run.
        num_milestones: how many of its milestones keep weights.
    """
    numbers = sum(math.prod(tensor.shape) for tensor in expected_tensors(config).values())
    once = numbers * _BYTES.get(config.training.precision, 4)
    sets = 1 + len(config.training.ema_decays)
    mean = 8 * math.prod(config.input_shape) * config.process.uses_statistics
    states, weights = (once * part + mean for part in (sets + _ADAM, sets))
    return states * (checkpoint.KEEP + 1) + weights * num_milestones
