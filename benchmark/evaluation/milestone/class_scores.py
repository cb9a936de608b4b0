"""What a feature net says of the images of one class, against the training images of that class.

The features are those of the whole set: no image is drawn or run through a net again.
"""

import functools
from collections.abc import Iterator, Set
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.evaluation.features.extract import GROUPS, FeatureSet
from benchmark.evaluation.features.reference_set import ReferenceSet
from benchmark.evaluation.metrics.frechet import MomentAccumulator, Moments, covariance_root
from benchmark.evaluation.milestone.feature_scores import Score, net_scores
from benchmark.evaluation.milestone.yardstick import NetYardstick, Yardstick
from benchmark.study.study import FEWEST_REFERENCE, EvaluationConfig
from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError
from mindiffusion.printable import printable

_SHOWN = 3
_NOT_APART = frozenset({"memorisation"})
"""Asked of all images together: copies of a class would be compared with all training images."""


@dataclass(frozen=True, eq=False)
class OneClass:
    """The images of one class.

    Attributes:
        number: of the class, among all of its label.
        name: of the class.
        generated: rows of the generated images, in their order.
        reference: rows of the reference's training images, likewise.
        strip: a picture of the first generated images, relative to the study's folder, if kept.
    """

    number: int
    name: str
    generated: NDArray[np.int64]
    reference: NDArray[np.int64]
    strip: str | None = None


def check_per_class(evaluation: EvaluationConfig, config: RunConfig) -> None:
    """Refuse to score classes of a run whose network is told none.

    Raises:
        UserError: it is told none.
    """
    if evaluation.per_class and config.data.labels is None:
        raise UserError(
            f"evaluation.per_class is true, but the network of arm {config.arm!r} is told no "
            "classes (data.labels); leave per_class out."
        )


def classes_apart(
    config: RunConfig, yardstick: Yardstick, n: int
) -> tuple[tuple[OneClass, ...], str]:
    """The classes with enough images to be scored apart.

    Args:
        config: the run, whose network knows classes.
        yardstick: the data.
        n: generated images.

    Returns:
        The classes, and a line that names those with fewer than 8 generated images or 8 training
        images in the reference; "" where there are none.
    """
    conditions, label = yardstick.conditions(config), config.data.labels
    assert conditions is not None and label is not None
    classes = yardstick.data.classes(label)
    drawn = conditions(torch.arange(n)).numpy()
    real = yardstick.data.train_labels[label][: yardstick.evaluation.num_reference]
    found, few = [], []
    for number in classes.shown:
        rows = [np.flatnonzero(codes == number) for codes in (drawn, real)]
        if min(map(len, rows)) < FEWEST_REFERENCE:
            few.append(f"{printable(classes.names[number], 80)!r} ({len(rows[0])}, {len(rows[1])})")
        else:
            generated, reference = rows
            found.append(OneClass(number, classes.names[number], generated, reference))
    if not few:
        return tuple(found), ""
    more = ", …" if len(few) > _SHOWN else ""
    line = (
        f"{len(few)} of {len(classes.shown)} classes of {label} are not scored apart, since they "
        f"have fewer than {FEWEST_REFERENCE} generated or reference images: "
        f"{', '.join(few[:_SHOWN])}{more}."
    )
    return tuple(found), line


def class_scores(
    net: NetYardstick, found: FeatureSet, one: OneClass, metrics: Set[str]
) -> Iterator[Score]:
    """The metrics of one class's features, as ``net_scores`` gives those of all images.

    Args:
        net: the net with all reference images.
        found: features of all generated images, kept.
        one: the class.
        metrics: names of metrics; memorisation is left out.
    """
    assert found.features is not None
    reference = _reference(net, one.name, one.reference.tobytes())
    own = _features(found.features[one.generated])
    return net_scores(net.extractor, own, reference, metrics - _NOT_APART)


def _features(features: NDArray[np.float32]) -> FeatureSet:
    """Features (n, D) with the moments of up to ten groups, as of a whole set."""
    groups = min(GROUPS, len(features) // 2)
    parts = np.array_split(features, groups)
    return FeatureSet(tuple(map(_moments, parts)), features, len(features))


def _moments(features: NDArray[np.float32]) -> Moments:
    moments = MomentAccumulator()
    moments.add(features)
    return moments.result()


@functools.lru_cache(maxsize=32)
def _reference(net: NetYardstick, name: str, rows: bytes) -> ReferenceSet:
    """A class's part of a reference; its root takes D³ operations, so it is kept in memory."""
    features = net.reference.features[np.frombuffer(rows, np.int64)]
    moments = _moments(features)
    return ReferenceSet(features, moments, covariance_root(moments), len(features))
