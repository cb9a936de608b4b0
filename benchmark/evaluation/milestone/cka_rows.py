"""Rows of how alike the layers of two milestones are: of one run, and of another run.

``cka/LAYER/own/STEP`` compares with the run's own milestone at that step, ``cka/LAYER/other/STEP``
with one of another run: in a study plain training with the same seed, else what is named.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.features_of.cka import linear_cka
from benchmark.evaluation.features_of.layers import layer_features, layers_of
from benchmark.evaluation.milestone.layer_rows import BATCH, feature_levels, held_out
from benchmark.evaluation.milestone.milestone import Milestone, OnProgress
from benchmark.evaluation.milestone.profile_rows import noise_source
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.metric_names import CKA
from benchmark.rows.row import Row
from mindiffusion.errors import UserError
from mindiffusion.process import times_of
from mindiffusion.sampling import codec_of, config_of, model_of, usual_weights

Role = Literal["own", "other"]


@dataclass(frozen=True, eq=False)
class Compared:
    """A milestone that others are compared with.

    Attributes:
        role: whether it is of the same run.
        step: its step.
        load: gives its loaded weights file.
    """

    role: Role
    step: int
    load: Callable[[], Mapping[str, Any]]


def cka_rows(
    milestone: Milestone,
    yardstick: Yardstick,
    others: Sequence[Compared],
    on_progress: OnProgress = lambda what, fraction: None,
) -> Iterator[Row]:
    """Linear CKA with each of the others, by layer and noise level; with itself it is 1.

    Layers that the other network has not are left out.

    Args:
        milestone: the milestone.
        yardstick: data.
        others: what it is compared with; features of each are computed once.
        on_progress: told how far it is.

    Raises:
        UserError: levels of another process, or another data set.
    """
    own = _features(milestone.content, yardstick, milestone.weights)
    for number, other in enumerate(others):
        on_progress("layers compared", number / len(others))
        theirs = _kept(other, yardstick)
        if theirs.levels != own.levels:
            raise UserError(
                f"layers at noise times {list(own.levels)} and {list(theirs.levels)} do not "
                "compare; cka takes two runs of one process, so name another run."
            )
        for level, mine, beside in zip(own.levels, own.by_level, theirs.by_level, strict=True):
            for layer in (name for name in mine if name in beside):
                found = linear_cka(mine[layer], beside[layer])
                if found.value == found.value:  # a layer that does not vary is like no other
                    yield milestone.row(
                        f"{CKA}/{layer}/{other.role}/{other.step}",
                        found.value,
                        level=level,
                        error=found.standard_error,
                        n_reference=len(mine[layer]),
                        weights=f"{milestone.weights} with {theirs.name}",
                    )


@dataclass(frozen=True, eq=False)
class _Features:
    """Features of one milestone: its weights' name, and by noise level those of its layers.

    Layer → (N, C) float32: those of many milestones are kept at once.
    """

    name: str
    levels: tuple[float, ...]
    by_level: tuple[dict[str, NDArray[np.float32]], ...]


@functools.lru_cache(maxsize=128)
def _kept(other: Compared, yardstick: Yardstick) -> _Features:
    content = other.load()
    return _features(content, yardstick, usual_weights(content, config_of(content)))


def _features(content: Mapping[str, Any], yardstick: Yardstick, weights: str) -> _Features:
    """Features of the held-out images at the layers of a milestone's network."""
    config, settings = config_of(content), yardstick.evaluation.features
    model = model_of(content, weights, yardstick.device, yardstick.texts)
    given = held_out(codec_of(content, config), config, yardstick, settings.images)
    layers = layers_of(config, settings.layers)
    noise = noise_source(config, yardstick.device)
    levels = feature_levels(model.process, yardstick.evaluation)
    found = []
    for number, level in enumerate(levels):
        every = layer_features(model, layers, given.images, level, number, BATCH, noise, given.told)
        found.append({layer: one.pooled.astype(np.float32) for layer, one in every.items()})
    name = f"{weights} of {config.arm}/{config.seed}"
    return _Features(name, times_of(levels), tuple(found))
