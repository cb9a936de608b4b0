"""Rows of channels that are switched off again, by the stage in which they were switched on.

What do late channels carry? The last milestone's network is scored once more without the channels
of each stage, and without as many that are chosen at random among those of the other stages. The
change of the held-out error by noise level, and of what can be read in x̂₀, is against the network
as it is.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmark.evaluation.attributes.emergence import (
    AttributeEmergence,
    DenoisedReadings,
    emergence,
    read_denoised,
)
from benchmark.evaluation.features_of.ablation import ablations
from benchmark.evaluation.features_of.layers import FloatArray
from benchmark.evaluation.metrics.denoising import denoising_profiles
from benchmark.evaluation.metrics.profile import ProfileResult, paired_difference
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.profile_rows import to_denoise
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.keeper import INSTRUMENT
from benchmark.rows.metric_names import (
    ABLATION,
    ABLATION_ACCURACY,
    ABLATION_ACCURACY_RANDOM,
    ABLATION_RANDOM,
    ABLATION_UNITS,
)
from benchmark.rows.row import Row
from mindiffusion.network import Births, Network
from mindiffusion.process import Model

ABLATION_METRICS = frozenset({"ablation", "ablation_attributes"})
"""What ``ablation_rows`` measures, by its names in ``evaluation.metrics``."""


@dataclass(frozen=True, eq=False)
class Change:
    """How numbers change by noise level, (L,) each, with their errors."""

    levels: tuple[float, ...]
    values: FloatArray
    errors: FloatArray


def ablation_rows(milestone: Milestone, model: Model, yardstick: Yardstick) -> Iterator[Row]:
    """Rows of each stage k = 1, 2 …: ``ablation/k``, ``ablation-random/k`` and the like.

    There are none of a network without a mask, or whose channels were all born in one stage.

    Args:
        milestone: the run's last.
        model: with the weights that are scored.
        yardstick: data and classifier.
    """
    network = model.network
    assert isinstance(network, Network)
    begun = [stage for stage in milestone.stages if stage.start < milestone.step]
    births = network.births([stage.config.sparsity for stage in begun])
    if births is None:
        return
    draws = milestone.evaluation.features.ablation_draws
    sets = ablations(births, milestone.config.seed, draws)
    metrics = milestone.evaluation.metrics
    for stage, one in sets.items():
        yield milestone.row(
            f"{ABLATION_UNITS}/{stage + 1}", float(one.count), weights=milestone.weights
        )
    ways = {stage: (one.own, one.random) for stage, one in sets.items()}
    if sets and "ablation" in metrics:
        yield from _error_rows(milestone, model, yardstick, births, ways)
    if sets and "ablation_attributes" in metrics:
        yield from _accuracy_rows(milestone, model, yardstick, births, ways)


Ways = Mapping[int, tuple[Tensor, Sequence[Tensor]]]
"""Stage → the units that stay on without its own, and without as many random ones."""


def _error_rows(
    milestone: Milestone, model: Model, yardstick: Yardstick, births: Births, ways: Ways
) -> Iterator[Row]:
    """Held-out ε-MSE without some channels, minus that of the whole network."""
    config = milestone.config
    noisy = to_denoise(model.process, config, milestone.codec, yardstick, "held_out")
    told = yardstick.labels(config, "held_out")

    def profile() -> ProfileResult:
        return denoising_profiles({"": model}, *noisy, told)[""]

    whole = profile()

    def change(on: Tensor) -> Change:
        with births.held(on):
            found = paired_difference(profile(), whole)
        return Change(found.levels, found.mse, found.standard_error)

    for stage, (own, random) in ways.items():
        rows = functools.partial(_change_rows, milestone)
        yield from rows(f"{ABLATION}/{stage + 1}", change(own))
        at_random = mean_change([change(on) for on in random])
        yield from rows(f"{ABLATION_RANDOM}/{stage + 1}", at_random)


def _accuracy_rows(
    milestone: Milestone, model: Model, yardstick: Yardstick, births: Births, ways: Ways
) -> Iterator[Row]:
    """Balanced accuracy of each attribute in x̂₀ without some channels, minus that with all."""
    classifier, count = yardstick.classifier, milestone.evaluation.profile_images
    config, codec = milestone.config, milestone.codec
    noisy = to_denoise(model.process, config, codec, yardstick, "held_out")
    told = yardstick.labels(config, "held_out")
    labels = {name: codes[:count] for name, codes in yardstick.data.held_out_labels.items()}

    def readings() -> DenoisedReadings:
        return read_denoised(model, *noisy, codec.pixels, classifier, told)

    whole = readings()

    def without(on: Tensor) -> tuple[AttributeEmergence, ...]:
        with births.held(on):
            return emergence(readings(), whole, labels, classifier.attributes)

    for stage, (own, random) in ways.items():
        at_random = [without(on) for on in random]
        for number, one in enumerate(without(own)):
            others = [_gain(draw[number]) for draw in at_random]
            for metric, change in (
                (ABLATION_ACCURACY, _gain(one)),
                (ABLATION_ACCURACY_RANDOM, mean_change(others)),
            ):
                instrument = milestone.versions | {INSTRUMENT: classifier.fingerprint}
                name = f"{metric}/{stage + 1}/{one.name}"
                yield from _change_rows(milestone, name, change, versions=instrument)


def _gain(one: AttributeEmergence) -> Change:
    return Change(one.levels, one.gain, one.gain_error)


def mean_change(changes: Sequence[Change]) -> Change:
    """The mean over random sets of channels; its error is over images and over the sets.

    All sets meet the same images, so the images' part is that of a single set, and the mean over
    sets takes nothing from it.

    Args:
        changes: of two sets or more.
    """
    values = np.stack([one.values for one in changes])
    over_images = np.mean([np.square(one.errors) for one in changes], axis=0)
    over_sets = values.var(axis=0, ddof=1) / len(values)
    return Change(changes[0].levels, values.mean(axis=0), np.sqrt(over_images + over_sets))


def _change_rows(
    milestone: Milestone, metric: str, change: Change, **fields: object
) -> Iterator[Row]:
    for level, value, error in zip(change.levels, change.values, change.errors, strict=True):
        yield milestone.row(
            metric,
            float(value),
            level=level,
            error=float(error),
            n_reference=milestone.evaluation.profile_images,
            weights=milestone.weights,
            **fields,
        )
