"""Rows of a network's layers at chosen noise levels: silhouettes, linear probes, channels' norms.

All come from one pass of the held-out images for each level. Noise is keyed by (sampling seed,
image, level), so all arms and milestones meet the same noisy images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmark.evaluation.features_of.balanced import Balanced, chosen_images
from benchmark.evaluation.features_of.channel_norms import channel_norms
from benchmark.evaluation.features_of.layers import ByLayer, layer_features, layers_of
from benchmark.evaluation.features_of.probe import probe
from benchmark.evaluation.features_of.silhouette import silhouette
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.profile_rows import noise_source
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.metric_names import (
    CHANNEL_NORM,
    CHANNELS_DEAD,
    PROBE,
    PROBE_CHANCE,
    SILHOUETTE,
)
from benchmark.rows.row import Row
from benchmark.study.metric_catalogue import metrics_needing
from benchmark.study.study import EvaluationConfig
from mindiffusion.config.run import RunConfig
from mindiffusion.data.codec import Codec
from mindiffusion.process import Level, Model, Process

BATCH = 64
_OF_ATTRIBUTES = {SILHOUETTE: silhouette, PROBE: probe}
LAYER_METRICS = frozenset({"silhouette", "probe", "norms"})
"""What ``layer_rows`` measures, by its names in ``evaluation.metrics``."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The first held-out images, as a run's network is given them.

    Attributes:
        images: (N, C, H, W), on the network's device.
        told: (N,) what it is told of them, or None.
    """

    images: Tensor
    told: Tensor | None


def held_out(codec: Codec, config: RunConfig, yardstick: Yardstick, count: int) -> HeldOut:
    """The first ``count`` held-out images for the network of a run, through its codec."""
    images = yardstick.inputs(codec, "held_out", count)
    return HeldOut(images, yardstick.labels(config, "held_out", count))


def feature_levels(process: Process, evaluation: EvaluationConfig) -> tuple[Level, ...]:
    """The noise levels at which features are taken, each once, in the order of their setting.

    Where levels are counted, two noise times may be of one level.
    """
    levels = [process.level(torch.tensor([t])) for t in evaluation.features.levels]
    return tuple({level.time: level for level in levels}.values())


def layer_rows(milestone: Milestone, model: Model, yardstick: Yardstick) -> Iterator[Row]:
    """What the layers of the network say of the held-out images, level by level.

    ``silhouette/LAYER/ATTRIBUTE``, ``probe/LAYER/ATTRIBUTE`` (accuracy; ``probe-chance/ATTRIBUTE``
    is that of a guess), ``channel-norm/LAYER/p50`` and the like, ``dead/LAYER``.

    Args:
        milestone: the milestone.
        model: with the weights that are scored.
        yardstick: data.
    """
    config, evaluation = milestone.config, milestone.evaluation
    count, wanted = evaluation.features.images, set(evaluation.metrics)
    given, noise = (
        held_out(milestone.codec, config, yardstick, count),
        noise_source(config, yardstick.device),
    )
    layers = layers_of(config, evaluation.features.layers)
    chosen = (
        chosen_images(evaluation.features, yardstick.data.held_out_labels)
        if metrics_needing("labels") & wanted
        else {}
    )
    if "probe" in wanted:
        for name, one in chosen.items():
            chance = 1 / one.num_classes
            yield milestone.row(f"{PROBE_CHANCE}/{name}", chance, n_reference=len(one.index))
    for number, level in enumerate(feature_levels(model.process, evaluation)):
        found = layer_features(model, layers, given.images, level, number, BATCH, noise, given.told)
        same = {"level": level.time, "weights": milestone.weights}
        yield from _attribute_rows(milestone, found, chosen, same)
        if "norms" in wanted:
            yield from _norm_rows(milestone, found, same)


def _attribute_rows(
    milestone: Milestone, found: ByLayer, chosen: dict[str, Balanced], same: dict[str, Any]
) -> Iterator[Row]:
    for metric, measure in _OF_ATTRIBUTES.items():
        if metric not in milestone.evaluation.metrics:
            continue
        for layer, features in found.items():
            for name, one in chosen.items():
                estimate = measure(features.pooled, one)
                yield milestone.row(
                    f"{metric}/{layer}/{name}",
                    estimate.value,
                    error=estimate.standard_error,
                    # Classes that lie apart are no aim of training; what can be read is.
                    direction="higher" if metric == PROBE else "none",
                    n_reference=len(one.index),
                    **same,
                )


def _norm_rows(milestone: Milestone, found: ByLayer, same: dict[str, Any]) -> Iterator[Row]:
    for layer, features in found.items():
        channels = channel_norms(features)
        values = {f"{CHANNEL_NORM}/{layer}/p{k}": v for k, v in channels.percentiles().items()}
        for metric, value in (values | {f"{CHANNELS_DEAD}/{layer}": channels.dead}).items():
            yield milestone.row(metric, value, n_reference=len(features.pooled), **same)
