"""Rows that need no sampling: ε-MSE by noise level and its summaries, masks and norms.

All noise is keyed by (sampling seed, image, level), so all arms, milestones and predictors meet
the same noisy images.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from benchmark.evaluation.metrics.denoising import (
    NoiseSource,
    denoising_profiles,
)
from benchmark.evaluation.metrics.profile import ProfileResult, paired_difference, summaries
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.yardstick import Split, Yardstick
from benchmark.rows.metric_names import (
    EPS_MSE,
    EPS_MSE_EXCESS,
    EPS_MSE_GAP,
    EPS_MSE_LINEAR,
    EPS_MSE_MEAN,
    MASK_EFFECT,
    REALISED_SPARSITY,
)
from benchmark.rows.row import Row
from mindiffusion.build import build_network, build_process
from mindiffusion.config.run import RunConfig
from mindiffusion.data.codec import Codec
from mindiffusion.network import Network
from mindiffusion.noise import Stream, normals
from mindiffusion.process import Denoiser, Level, Model, Process
from mindiffusion.sampling import model_of
from mindiffusion.sparsity import group_norm_summary, vanished_groups, weight_movement

_BATCH = 64
_SPLITS: tuple[Split, Split] = ("held_out", "train")
SUMMARY_DIRECTION = "lower"
"""Which way is better, of the summaries of the held-out ε-MSE."""


def profile_rows(milestone: Milestone, model: Model, yardstick: Yardstick) -> Iterator[Row]:
    """The denoising profile of the scored weights and of the raw ones, beside what is known.

    Args:
        milestone: the milestone.
        model: with the weights that are scored.
        yardstick: data and linear oracle.
    """
    config, process = milestone.config, model.process
    networks: dict[str, Denoiser] = {milestone.weights: model}
    if "raw" in milestone.content["weights"]:
        networks["raw"] = model_of(milestone.content, "raw", process.device, yardstick.texts)
    held_out, train = (_told(milestone, networks, process, yardstick, split) for split in _SPLITS)
    known = known_profiles(yardstick, config, milestone.codec)
    for metric, profile in known.items():
        yield from _level_rows(milestone, metric, profile, "")
    for weights, profile in held_out.items():
        yield from _level_rows(milestone, EPS_MSE, profile, weights)
        excess = paired_difference(profile, known[EPS_MSE_LINEAR])
        yield from _level_rows(milestone, EPS_MSE_EXCESS, excess, weights)
        gap = paired_difference(train[weights], profile)
        yield from _level_rows(milestone, EPS_MSE_GAP, gap, weights, direction="none")
        yield from _summary_rows(milestone, profile, process, weights)
    yield from _mask_rows(milestone, model, yardstick, held_out[milestone.weights])
    yield from _norm_rows(milestone, model)


@functools.lru_cache(maxsize=4)
def known_profiles(
    yardstick: Yardstick, config: RunConfig, codec: Codec
) -> dict[str, ProfileResult]:
    """Held-out profiles of the linear oracle and the mean: the same for all of a run's milestones.

    Args:
        yardstick: data and linear oracle.
        config: the run, for its process and its sampling seed.
        codec: of the run.
    """
    oracle = yardstick.oracle(config).to(yardstick.device)
    known: dict[str, Denoiser] = {EPS_MSE_LINEAR: oracle, EPS_MSE_MEAN: oracle.mean_only()}
    process = build_process(config)
    return denoising_profiles(known, *to_denoise(process, config, codec, yardstick, "held_out"))


def noise_source(config: RunConfig, device: torch.device) -> NoiseSource:
    """The noise of (level, image) that every predictor meets."""
    shape = config.input_shape

    def noise(level_index: int, index: Tensor) -> Tensor:
        seed = config.sampler.seed
        return normals(seed, Stream.EVALUATION_NOISE, index.to(device), level_index, shape)

    return noise


def _told(
    milestone: Milestone,
    networks: Mapping[str, Denoiser],
    process: Process,
    yardstick: Yardstick,
    split: Split,
) -> dict[str, ProfileResult]:
    """Profiles of networks; they are told the images' classes where they know any."""
    config = milestone.config
    noisy = to_denoise(process, config, milestone.codec, yardstick, split)
    return denoising_profiles(networks, *noisy, yardstick.labels(config, split))


def to_denoise(
    process: Process, config: RunConfig, codec: Codec, yardstick: Yardstick, split: Split
) -> tuple[Tensor, Sequence[Level], int, NoiseSource]:
    """What every predictor is given, as ``denoising_profiles`` and ``read_denoised`` take it.

    Args:
        process: of the run.
        config: the run, for its sampling seed.
        codec: of the run.
        yardstick: has the images, and says how many and how many levels.
        split: which images.

    Returns:
        The first images as inputs, noise levels, images a call, noise.
    """
    return (
        yardstick.inputs(codec, split),
        process.grid(yardstick.evaluation.profile_levels),
        _BATCH,
        noise_source(config, yardstick.device),
    )


def _level_rows(
    milestone: Milestone,
    metric: str,
    profile: ProfileResult,
    weights: str,
    direction: str = "lower",
) -> Iterator[Row]:
    for level, value, error in zip(
        profile.levels, profile.mse, profile.standard_error, strict=True
    ):
        yield milestone.row(
            metric,
            float(value),
            level=level,
            error=float(error),
            direction=direction,
            n_reference=milestone.evaluation.profile_images,
            weights=weights,
        )


def _summary_rows(
    milestone: Milestone, profile: ProfileResult, process: Process, weights: str
) -> Iterator[Row]:
    grid = process.fine_grid()
    tables = (each.numpy() for each in (grid.t, grid.alpha, grid.sigma))
    for name, estimate in summaries(profile, *tables).items():
        yield milestone.row(
            f"{EPS_MSE}/{name}",
            estimate.value,
            error=estimate.standard_error,
            direction=SUMMARY_DIRECTION,
            n_reference=milestone.evaluation.profile_images,
            weights=weights,
        )


def _mask_rows(
    milestone: Milestone, model: Model, yardstick: Yardstick, scored: ProfileResult
) -> Iterator[Row]:
    """The manipulation check: does the mask do anything, and do masked units stay clean?

    ``mask-effect`` is ε-MSE with the mask lifted minus ε-MSE under it, by noise level; which of the
    two the milestone's own profile is, ``scored``, the network says.
    ``weight-movement-…`` the relative movement since the start of the weights of units that are
    on, and of those still masked.
    """
    network, config = _network_of(model), milestone.config
    mask = network.mask()
    if mask is None:
        return
    weights = milestone.weights
    under = lifted = scored
    if mask.share_off:
        with (mask.imposed or mask.lifted)():
            other = _told(milestone, {"": model}, model.process, yardstick, "held_out")[""]
        under, lifted = (other, scored) if mask.imposed else (scored, other)
    effect = paired_difference(lifted, under)
    yield from _level_rows(milestone, MASK_EFFECT, effect, weights, direction="none")
    for name, value in weight_movement(network, build_network(config)).items():
        yield milestone.row(f"weight-movement-{name}", value, weights=weights)
    yield milestone.row(f"{REALISED_SPARSITY}{mask.place}", mask.share_off, weights=weights)


def _norm_rows(milestone: Milestone, model: Model) -> Iterator[Row]:
    """Group norms of a penalised network: their mean, and the share below 1 %, also by block."""
    after = _network_of(model).group_norms()
    before = None if after is None else build_network(milestone.config).group_norms()
    if after is None or before is None:
        return
    found = group_norm_summary(after, before)
    for block, share in vanished_groups(after, before).items():
        found[f"{REALISED_SPARSITY}{block}"] = share
    for name, value in found.items():
        yield milestone.row(name, value, weights=milestone.weights)


def _network_of(model: Model) -> Network:
    """The bare network, as ``model_of`` gives it."""
    assert isinstance(model.network, Network)
    return model.network
