"""Images with known attributes, as many of each class: silhouettes and probes are made of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.features_of.grouped import GROUPS
from benchmark.study.feature_settings import FeatureSettings
from mindiffusion.errors import UserError, did_you_mean


@dataclass(frozen=True, eq=False)
class Balanced:
    """Images of an attribute's classes.

    Attributes:
        index: (N,) which images, class by class.
        classes: (N,) their classes as 0 … K − 1.
        place: (N,) the number of each among the images of its class, from 0.
    """

    index: NDArray[np.int64]
    classes: NDArray[np.int64]
    place: NDArray[np.int64]

    @property
    def num_classes(self) -> int:
        """How many classes."""
        return int(self.classes[-1]) + 1


def balanced(codes: NDArray, attribute: str) -> Balanced:
    """The first images of each class, as many as the rarest class has that has ten.

    Args:
        codes: (M,) the classes of the images.
        attribute: named in the message.

    Raises:
        UserError: fewer than two classes have ten images.
    """
    found, counts = np.unique(codes, return_counts=True)
    kept, most = found[counts >= GROUPS], int(counts.max(initial=0))
    if len(kept) < 2:
        raise UserError(
            f"evaluation.features.attributes has {attribute!r}, of which {len(kept)} of "
            f"{len(found)} classes have {GROUPS} of the {len(codes)} held-out images (the largest "
            f"has {most}); two are compared, so give more evaluation.features.images, or another "
            "attribute."
        )
    each = int(counts[counts >= GROUPS].min())
    index = np.concatenate([np.flatnonzero(codes == one)[:each] for one in kept])
    numbers = np.arange(len(kept) * each)
    return Balanced(index, numbers // each, numbers % each)


def chosen_images(settings: FeatureSettings, labels: Mapping[str, NDArray]) -> dict[str, Balanced]:
    """The images of each attribute that is looked at, attribute → images.

    Args:
        settings: name the attributes, and say how many images there are.
        labels: of the held-out images, label → (M,) codes.

    Raises:
        UserError: a label that the data have not, or as ``balanced``.
    """
    found = {}
    for name in settings.attributes:
        if name not in labels:
            near = did_you_mean(name, labels) if labels else " They have no labels."
            raise UserError(
                f"evaluation.features.attributes has {name!r}, which is no label of the data.{near}"
            )
        found[name] = balanced(labels[name][: settings.images], name)
    return found
