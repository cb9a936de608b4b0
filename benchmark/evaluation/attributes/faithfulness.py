"""Do pictures show what their captions say? Statements of captions, judged by the classifier.

The classifier reads the attributes of a picture, and a statement holds if it is true of a portrait
with these. So its own errors count against the network; how many they are, real portraits that
are read in the same way tell. What is true of any picture, pictures of other captions tell.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.attributes.classifier import Attribute, Readings
from mindiffusion.data.attribute_words import FEATURES
from mindiffusion.data.caption_grammar import Statement, attributes_of, holds
from mindiffusion.errors import UserError

_STYLE = "style"


class Judged(NamedTuple):
    """S statements about pictures, each with its picture.

    Attributes:
        image: (S,) int64, number of the picture, or of its prompt.
        feature: (S,) what the statement is about.
        held: (S,) bool, whether it holds.
    """

    image: NDArray[np.int64]
    feature: NDArray[np.str_]
    held: NDArray[np.bool_]

    def of(self, features: Collection[str]) -> "Judged":
        """The statements about some features."""
        chosen = np.isin(self.feature, list(features))
        return Judged(self.image[chosen], self.feature[chosen], self.held[chosen])


@dataclass(frozen=True)
class Share:
    """A share of statements.

    Attributes:
        value: in [0, 1].
        standard_error: over pictures, or prompts: statements about one of them go together.
        pictures: how many there are; two or more.
    """

    value: float
    standard_error: float
    pictures: int


def readable_features(attributes: Sequence[Attribute], styles: Sequence[str]) -> tuple[str, ...]:
    """The features of captions that the classifier can judge, in the order of captions.

    Args:
        attributes: that it reads.
        styles: of the portraits. Where there are several, it has to read the style too.
    """
    read = {attribute.name for attribute in attributes} | ({_STYLE} if len(styles) == 1 else set())
    needed = {
        feature: {name for style in styles for name in attributes_of(style, feature)}
        for feature in FEATURES
    }
    return tuple(feature for feature, names in needed.items() if names and names | {_STYLE} <= read)


def judged_features(attributes: Sequence[Attribute], styles: Sequence[str]) -> tuple[str, ...]:
    """``readable_features``, at least one.

    Raises:
        UserError: there is none.
    """
    found = readable_features(attributes, styles)
    if not found:
        raise UserError(
            "evaluation.metrics has faithfulness, but the classifier of attributes reads too few "
            f"of {', '.join(styles)} to judge any caption; give more training images, or leave the "
            "metric out."
        )
    return found


def values_read(
    readings: Readings, attributes: Sequence[Attribute], styles: Sequence[str]
) -> tuple[dict[str, str], ...]:
    """What each picture's attributes most probably are, with "style".

    Args:
        readings: of the classifier.
        attributes: that it reads.
        styles: of the portraits.
    """
    columns = {
        one.name: [one.classes[k] for k in readings.probabilities[one.name].argmax(axis=1)]
        for one in attributes
    }
    count = len(readings.rejected)
    columns = {_STYLE: [styles[0]] * count} | columns
    return tuple(
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    )


def judged(
    statements: Sequence[Sequence[Statement]],
    values: Sequence[Mapping[str, str]],
    features: Collection[str],
) -> Judged:
    """Whether what is said of each picture holds.

    Args:
        statements: of each picture.
        values: of each picture, as ``values_read`` has them.
        features: those that can be judged; statements about others are left out.
    """
    found = [
        (image, one.feature, holds(one, own))
        for image, (said, own) in enumerate(zip(statements, values, strict=True))
        for one in said
        if one.feature in features
    ]
    return _judged(found)


def share_of(judged: Judged) -> Share | None:
    """The share that holds; None where fewer than two pictures have a statement.

    A ratio of two sums over pictures, so its error is that of a ratio estimator (Cochran 1977,
    "Sampling Techniques", §6.4), without the correction for a finite population.
    """
    pictures, place = np.unique(judged.image, return_inverse=True)
    n = len(pictures)
    if n < 2:
        return None
    said = np.bincount(place, minlength=n)
    value = float(judged.held.mean())
    residual = np.bincount(place, judged.held, minlength=n) - value * said
    variance = float(np.square(residual).sum()) * n / (n - 1)
    return Share(value, math.sqrt(variance) / int(said.sum()), n)


def same_readings(
    first: Sequence[Mapping[str, str]],
    second: Sequence[Mapping[str, str]],
    left_out: Sequence[str],
) -> Judged:
    """Whether pairs of pictures have the same attributes: all that are read, but one of each.

    Args:
        first: values of one picture of each pair.
        second: of the other.
        left_out: of each pair the attribute that is to differ.

    Returns:
        A "statement" for each pair and attribute; features are the attributes.
    """
    found = [
        (pair, name, one[name] == two[name])
        for pair, (one, two, but) in enumerate(zip(first, second, left_out, strict=True))
        for name in one
        if name not in (but, _STYLE)
    ]
    return _judged(found)


def _judged(found: Sequence[tuple[int, str, bool]]) -> Judged:
    images, features, held = zip(*found, strict=True) if found else ((), (), ())
    return Judged(
        np.array(images, dtype=np.int64),
        np.array(features, dtype=np.str_),
        np.array(held, dtype=np.bool_),
    )
