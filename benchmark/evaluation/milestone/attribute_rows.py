"""Rows of attributes: emergence in x̂₀, amplitude in an image, frequency in samples."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmark.evaluation.attributes.amplitude import Amplitude, counterfactual_amplitudes
from benchmark.evaluation.attributes.emergence import (
    DenoisedReadings,
    emergence,
    read_denoised,
)
from benchmark.evaluation.attributes.frequencies import TotalVariation, attribute_frequencies
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.profile_rows import to_denoise
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.keeper import INSTRUMENT
from benchmark.rows.metric_names import AMPLITUDE, EMERGENCE_ORACLE, metric_label
from benchmark.rows.row import Row
from mindiffusion.build import build_process
from mindiffusion.config.run import RunConfig
from mindiffusion.data.avatars import AvatarSource, avatar_styles
from mindiffusion.data.codec import Codec
from mindiffusion.process import Denoiser, Model, Process

REJECTED, REJECTED_DIRECTION = "rejected", "lower"
"""Share of samples that are no whole picture: its name without n, and which way is better."""
_PORTRAITS = 256
"""Portraits whose options are changed one by one."""


def emergence_rows(milestone: Milestone, model: Model, yardstick: Yardstick) -> Iterator[Row]:
    """Accuracy of each attribute in x̂₀ of held-out images, by level.

    ``emergence/…`` is the network's balanced accuracy minus the linear oracle's on the same noisy
    images, ``emergence-oracle/…`` the oracle's own.
    """
    config, evaluation = milestone.config, milestone.evaluation
    told = yardstick.labels(config, "held_out")
    codec = milestone.codec
    net = _readings(model, model.process, config, codec, yardstick, told)
    labels = {
        name: codes[: evaluation.profile_images]
        for name, codes in yardstick.data.held_out_labels.items()
    }
    oracle = oracle_readings(yardstick, config, codec)
    for one in emergence(net, oracle, labels, yardstick.classifier.attributes):
        curves = {
            "emergence": (one.gain, one.gain_error),
            EMERGENCE_ORACLE: (one.oracle, one.oracle_error),
        }
        for metric, (values, errors) in curves.items():
            for level, value, error in zip(one.levels, values, errors, strict=True):
                yield milestone.row(
                    f"{metric}/{one.name}",
                    float(value),
                    level=level,
                    error=float(error),
                    direction="higher",
                    n_reference=one.n,
                    weights=milestone.weights,
                    versions=milestone.versions | {INSTRUMENT: yardstick.classifier.fingerprint},
                )


def amplitude_rows(milestone: Milestone) -> Iterator[Row]:
    """How much each attribute moves a portrait: what orders them from coarse to fine."""
    config = milestone.config
    if config.data.dataset == "avatars":
        for amplitude in amplitudes(avatar_styles(config.data), config.data.size):
            yield milestone.row(
                f"{AMPLITUDE}/{amplitude.name}",
                amplitude.value,
                error=amplitude.standard_error,
                n_reference=amplitude.pairs,
            )


@functools.lru_cache(maxsize=4)
def amplitudes(styles: tuple[str, ...], size: int) -> tuple[Amplitude, ...]:
    """How much of a portrait each attribute moves, the most first."""
    return counterfactual_amplitudes(AvatarSource(styles, size), range(_PORTRAITS))


@functools.lru_cache(maxsize=4)
def oracle_readings(yardstick: Yardstick, config: RunConfig, codec: Codec) -> DenoisedReadings:
    """What can be read in the linear oracle's x̂₀: the same for all of a run's milestones."""
    oracle = yardstick.oracle(config).to(yardstick.device)
    return _readings(oracle, build_process(config), config, codec, yardstick)


def _readings(
    denoise: Denoiser,
    process: Process,
    config: RunConfig,
    codec: Codec,
    yardstick: Yardstick,
    condition: Tensor | None = None,
) -> DenoisedReadings:
    noisy = to_denoise(process, config, codec, yardstick, "held_out")
    return read_denoised(denoise, *noisy, codec.pixels, yardstick.classifier, condition)


def attribute_rows(
    milestone: Milestone, yardstick: Yardstick, images: NDArray[np.uint8], common: dict[str, Any]
) -> Iterator[Row]:
    """Total variation of attributes and pairs between samples and training images; share rejected.

    The variation is of the samples that are not rejected; where these are fewer than half, n would
    be another number than the name says, and the share rejected is all there is to say.
    """
    n, classifier = len(images), yardstick.classifier
    found = attribute_frequencies(
        classifier.read_uint8(images), yardstick.training_readings, classifier.attributes
    )
    lower = common | {
        "direction": REJECTED_DIRECTION,
        "n_reference": found.n_training,
        "versions": milestone.versions | {INSTRUMENT: classifier.fingerprint},
    }
    name = metric_label(REJECTED, n)
    yield milestone.row(name, found.rejected, **lower, error=found.rejected_error)
    if found.rejected > 0.5:
        return
    for one in found.single:
        yield _variation_row(milestone, f"attribute/{one.names[0]}", one, n, lower)
        floor = metric_label(f"attribute-floor/{one.names[0]}", n)
        yield milestone.row(floor, one.floor, **lower | {"direction": "none"})
    for one in found.pairs:
        yield _variation_row(milestone, f"attribute-pair/{'+'.join(one.names)}", one, n, lower)


def _variation_row(
    milestone: Milestone, name: str, one: TotalVariation, n: int, fields: dict[str, Any]
) -> Row:
    return milestone.row(metric_label(name, n), one.value, **fields, error=one.standard_error)
