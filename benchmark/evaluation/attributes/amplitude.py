"""How much of the image an attribute moves: counterfactual portraits, one option changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindiffusion.data.avatars import AvatarSource, label_names
from mindiffusion.data.codec import GREY
from mindiffusion.errors import UserError

_CHOICE_STREAM = 0x636F756E746572  # key of the Philox stream, apart from the backgrounds'


@dataclass(frozen=True)
class Amplitude:
    """‖Δ‖ of one attribute over pairs of portraits that differ in its option alone.

    Attributes:
        name: the attribute.
        value: mean over pairs of the root mean square difference of pixels and channels, in the
            [-1, 1] scale.
        standard_error: of ``value``, over pairs.
        moved: share of pairs with any difference at all. A pair without one counts with 0, such
            as another hair colour on a bald head.
        pairs: their number.
    """

    name: str
    value: float
    standard_error: float
    moved: float
    pairs: int


def counterfactual_amplitudes(source: AvatarSource, items: Sequence[int]) -> tuple[Amplitude, ...]:
    """Amplitudes of all attributes whose option can be changed alone, the largest first.

    For each portrait and attribute the new value is drawn by the portrait's index, the other
    values of its style being equally likely; index, background and other options stay.

    Args:
        source: draws the portraits.
        items: indices of portraits, such as the first of the training set; the result is a pure
            function of them.

    Raises:
        UserError: fewer than two portraits whose style has the attribute.
    """
    distances: dict[str, list[float]] = {}
    for item in items:
        for name, distance in _distances(source, item).items():
            distances.setdefault(name, []).append(distance)
    fewest = min(map(len, distances.values()), default=0)
    if fewest < 2:
        raise UserError(
            f"{len(items)} portraits leave {fewest} for one attribute; an amplitude with its "
            "error needs 2 or more: give more portraits."
        )
    found = [_summary(name, np.array(values)) for name, values in distances.items()]
    return tuple(sorted(found, key=lambda amplitude: (-amplitude.value, amplitude.name)))


def _distances(source: AvatarSource, item: int) -> dict[str, float]:
    """RMS difference of one portrait to its counterfactual, by attribute."""
    portrait = source.draw(item)
    names = label_names(source.styles)
    current = {
        name: values[code]
        for (name, values), code in zip(names.items(), portrait.codes, strict=True)
    }
    generator = np.random.Generator(np.random.Philox(key=[_CHOICE_STREAM, item]))
    found = {}
    for name, values in source.values_of(item).items():
        others = [value for value in values if value != current[name]]
        changed = source.counterfactual(item, name, others[int(generator.random() * len(others))])
        found[name] = rms_difference(changed.pixels, portrait.pixels)
    return found


def rms_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Root mean square difference of two pictures, over pixels and channels, in [-1, 1]'s scale."""
    return math.sqrt(np.square((one.astype(np.float64) - other) / GREY).mean())


def _summary(name: str, distances: np.ndarray) -> Amplitude:
    return Amplitude(
        name=name,
        value=float(distances.mean()),
        standard_error=float(distances.std(ddof=1) / math.sqrt(len(distances))),
        moved=float((distances > 0).mean()),
        pairs=len(distances),
    )
